"""A plan's document from where it lies: the file that `planner plan --out` wrote, or a scenario that is planned now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from planner.cli.options import check_enough, check_length, read_scenario
from planner.cli.output import json_text
from planner.cli.planned import planned
from planner.errors import DataFileError

MOST_BYTES = 64 * 2**20  # a plan's document has some 50 kB


def plan_document(
    source: str, settings: tuple[str, ...], requests: int | None, seed: int | None, *, waterfall: bool = False
) -> tuple[Any, str]:
    """(the document, what to call it in messages). Raises DataFileError for a file that is no JSON, and a usage error
    where a finished plan is asked to be planned otherwise; whether it is a plan at all, its reader finds out.
    """
    path = Path(source)
    if is_document(path):
        _refuse_settings(source, waterfall=waterfall, set=settings, requests=requests, seed=seed)
        return _read(path), f"plan document {source}"
    return _planned(source, settings, requests, seed or 0, waterfall), "plan document"


def is_document(path: Path) -> bool:
    """Whether a file is meant as JSON: by its name, or by how it begins where its name does not say YAML."""
    if not path.is_file() or path.suffix.lower() in (".yaml", ".yml"):
        return False
    if path.suffix.lower() == ".json":
        return True
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] in (b"{", b"[")
    except OSError:
        return False  # reading it as a scenario says why


def _read(path: Path) -> Any:
    """The JSON in a file; raises DataFileError where it is none."""
    where = f"plan document {path}"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataFileError(where, None, f"is larger than {MOST_BYTES // 2**20} MiB: no plan is")
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataFileError(where, None, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataFileError(where, None, "is not a text in UTF-8") from None
    if not content.strip():
        raise DataFileError(where, None, "is empty")
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        cut = error.pos >= len(content.rstrip()) or error.msg.startswith("Unterminated")
        rule = f"is cut off at {at}" if cut else f"is not JSON: {error.msg} at {at}"
        raise DataFileError(where, None, f"{rule}; plan again") from None
    except (RecursionError, ValueError):
        raise DataFileError(where, None, "is not a plan's document: too deep, or a number too long") from None


def _refuse_settings(source: str, **given: Any) -> None:
    """A finished plan cannot be planned otherwise."""
    for name, value in given.items():
        if value is not None and value is not False and value != ():
            rule = f"--{name}: {source} is a finished plan; give the scenario, or plan with --{name} and --out."
            raise click.UsageError(rule)


def _planned(source: str, settings: tuple[str, ...], requests: int | None, seed: int, waterfall: bool) -> Any:
    """The document of a scenario's plan, made now."""
    check_enough(requests)
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests)
    result = planned(scenario, seed=seed, requests=requests, waterfall=waterfall)
    return json.loads(json_text(result.as_dict()))
