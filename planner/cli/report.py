"""`planner report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from planner.cli.options import OutputFile, check_enough, check_length, read_scenario
from planner.cli.output import json_text, write_file
from planner.cli.planned import planned
from planner.errors import DataFileError

MOST_BYTES = 64 * 2**20  # a plan's document has some 50 kB
STDOUT = "-"


class _PageFile(OutputFile):
    """A file to write, or "-": standard output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value) == STDOUT else super().convert(value, param, ctx)


@click.command(short_help="A plan as one HTML page that needs nothing else.")
@click.argument("source", metavar="PLAN")
@click.option(
    "--out",
    type=_PageFile(),
    metavar="FILE",
    help="Write the page to FILE, - is standard output (default: PLAN's name with .html, in the current folder).",
)
@click.option("--waterfall", is_flag=True, help="Of a scenario: also plan what each option takes off the fleet.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of a scenario: change a key; may be repeated."
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a scenario: queries to count in a run, after its warm-up.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of a scenario: random seed.  [default: 0]")
def report(
    source: str,
    out: Path | str | None,
    waterfall: bool,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
) -> None:
    """A plan as one HTML page: it loads nothing, opens from disk, prints, in light and dark.

    PLAN is the JSON document that `planner plan --out` wrote, or a scenario or example, which is then planned first.
    The page has the answer, latencies against their limits, the sizes tried, cost and revenue over the day,
    break-even, options, uncertainty, candidates and where each number comes from. A plan that no fleet fits has a page
    too: exit code 0.

    \b
    planner report ai-search
    planner plan scenario.yaml --out plan.json && planner report plan.json --out plan.html
    """
    path = Path(source)
    target = Path(f"{path.stem}.html") if out is None else out
    if target != STDOUT and path.exists() and Path(target).exists() and path.samefile(target):
        raise click.UsageError(f"{source}: the page would overwrite it; give another --out FILE.")
    if _is_document(path):
        _refuse_settings(source, waterfall=waterfall, set=settings, requests=requests, seed=seed)
        document, where = _read(path), f"plan document {source}"
    else:
        document, where = _planned(source, settings, requests, seed or 0, waterfall), "plan document"
    from planner.report.page import report_page

    page = report_page(document, where)
    if target == STDOUT:
        click.echo(page)
        return
    write_file(Path(target), page)
    end = "" if document["feasible"] else ": no fleet fits, the page says why"
    click.echo(f"wrote {target} ({len(page.encode()) / 1000:,.0f} kB){end}")


def _is_document(path: Path) -> bool:
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
