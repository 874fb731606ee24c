"""What the verbs share: options, finding a scenario by path or example name, `--set`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import planner
from planner.errors import ScenarioError, nearest_names

if TYPE_CHECKING:
    from planner.scenario import Scenario

F = TypeVar("F", bound=Callable[..., Any])
LEAST_REQUESTS, MOST_REQUESTS, MOST_SECONDS = 1000, 50_000_000, 1e7
TRACE_FILE = "traffic.arrivals.trace.file"
RATES_FILE = "traffic.rates.file"
CALIBRATION = "calibration"


class OutputFile(click.Path):
    """A file to write, refused before the work begins where its folder does not exist or is not to be written into, or
    its suffix is not one of `suffixes`.
    """

    def __init__(self, suffixes: tuple[str, ...] = ()) -> None:
        super().__init__(dir_okay=False, writable=True)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error where it could not be written."""
        if str(value) == "":
            self.fail("is empty: give the name of a file.", param, ctx)
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"{click.format_filename(path)}: there is no folder {click.format_filename(path.parent)}.")
        try:
            there = path.exists()
        except OSError as error:  # a name that no file system takes
            self.fail(f"{click.format_filename(path)}: {error.strerror}.")
        if not there and not os.access(path.parent, os.W_OK | os.X_OK):
            self.fail(f"{click.format_filename(path)}: folder {click.format_filename(path.parent)} is not writable.")
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            self.fail(f"{click.format_filename(path)}: must end in {' or '.join(self.suffixes)}.")
        return path


def refuse_same_file(*files: tuple[str, Path | None]) -> None:
    """Refuse, before the work begins, to write two of the `files` (option, path) into one, or one over another.

    However they are spelt, and through links. A path that is None is not given; a device, as /dev/null, may be twice.
    """
    given = [(option, path) for option, path in files if path is not None]
    for place, (option, path) in enumerate(given):
        for other, earlier in given[:place]:
            both = path.exists() and earlier.exists()
            same = path.samefile(earlier) if both else os.path.realpath(path) == os.path.realpath(earlier)
            if same and (path.is_file() or not path.exists()):
                where = click.format_filename(path)
                raise click.UsageError(f"{option} {where}: {other} is the same file; give another name.")


def refuse_inputs(scenario: Scenario, *files: tuple[str, Path | None]) -> None:
    """Refuse to write one of the `files` (option, path) over a file that the scenario names: a trace, its rates."""
    from planner.scenario.paths import named_files

    for found in named_files(scenario.as_dict()):
        for one in files:
            refuse_same_file((found.key, scenario.resolve(found.path)), one)


class Number(click.types.FloatParamType):
    """A finite number from `low` to `high`, or above `low`; click's own types let NaN through, and often infinity."""

    name = "number"

    def __init__(self, low: float, high: float, *, above: bool = False, unit: str = "") -> None:
        self.low, self.high, self.above, self.unit = low, high, above, unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error for one that is not finite or out of bounds."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number) or number < self.low or (self.above and number == self.low):
            self.fail(f"{value} must be {'above' if self.above else 'at least'} {self.low:g} and finite.", param, ctx)
        if number > self.high:
            unit = f" {self.unit}" if self.unit else ""
            self.fail(f"{value} must be at most {self.high:.12g}{unit}.", param, ctx)
        return number


def seconds(*, zero: bool = False) -> Number:
    """A length of time in seconds, above 0 or, with `zero`, from 0 on, and no longer than can be simulated."""
    return Number(0, MOST_SECONDS, above=not zero, unit="seconds")


def scenario_options(command: F) -> F:
    """SCENARIO, --set, --requests, --seed, --json: what every verb that simulates takes."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed; repeats to the bit."
        ),
        click.option(
            "--requests",
            type=click.IntRange(1, MOST_REQUESTS),
            metavar="N",
            help="Queries to count in a run, after its warm-up.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change a key of the scenario, as traffic.peak_qps=40; may be repeated.",
        ),
        click.argument("source", metavar="SCENARIO"),
    ):
        command = decorate(command)
    return command


def read_scenario(source: str, settings: Iterable[str]) -> Scenario:
    """The scenario of a file or shipped example, with `--set` applied; raises ScenarioError."""
    from planner.scenario import Scenario

    scenario = Scenario.load(find_scenario(source))
    changes = changes_of(settings)
    return scenario.with_values(changes) if changes else scenario


def changes_of(settings: Iterable[str]) -> dict[str, Any]:
    """What `--set` changes: full dotted keys with their values as text."""
    pairs = (split_setting(setting, "--set") for setting in settings)
    return {key: from_here(key, text) for key, text in pairs}


def split_setting(setting: str, option: str) -> tuple[str, str]:
    """The full dotted key and the text of KEY=VALUE."""
    from planner.scenario.document import full_key

    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f"{option} {setting}: must be KEY=VALUE.")
    return full_key(key.strip()), text


def from_here(key: str, text: str) -> str:
    """A value as YAML text; the relative path of a trace, of rates, of a config.json or of a calibration file, which in
    a scenario starts from the scenario's folder, starts from the current folder when it is given on the command line.
    """
    from planner.scenario.yaml_text import parse

    if key not in (TRACE_FILE, RATES_FILE, CALIBRATION, "model"):
        return text
    value = parse(text, key, text)
    is_path = isinstance(value, str) and (key in (TRACE_FILE, RATES_FILE, CALIBRATION) or value.endswith(".json"))
    return json.dumps(str(Path(value).expanduser().absolute())) if is_path else text


def find_scenario(source: str) -> Path:
    """The file that exists under this path, else the shipped example of this name."""
    path = Path(source)
    if path.exists():
        return path
    shipped = {
        example.stem: example for example in sorted(examples_folder().glob("*.yaml"), key=lambda path: path.stem)
    }
    found = shipped.get(path.name.removesuffix(".yaml"))
    if found is not None and path.parent in (Path(), Path("examples")):
        return found
    rule = f"no such file, nor a shipped example ({', '.join(shipped)})"
    raise ScenarioError("scenario file", source, rule, nearest_names(path.stem, shipped))


def examples_folder() -> Path:
    """Inside the package in an installed wheel, beside it in a checkout."""
    package = Path(planner.__file__).parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent / "examples"


def check_enough(requests: int | None) -> None:
    """A size is accepted on a confidence interval of batch means: runs too short for one are refused."""
    if requests is not None and requests < LEAST_REQUESTS:
        rule = f"must be at least {LEAST_REQUESTS}: fewer give no confidence interval."
        raise click.UsageError(f"--requests {requests}: {rule}")


def check_length(scenario: Scenario, **given: float | None) -> None:
    """At most one option for the length of a run; a warning where the load says its own."""
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"give only one of {' and '.join(names)}.")
    if names and scenario.demand != "open":
        click.echo(f"planner: warning: {names[0]} has no effect: {scenario.demand} demand has its own length", err=True)
