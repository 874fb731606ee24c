"""Rows of measured tables as scenarios, everything that is wrong with a table said at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from planner.catalogue.hardware import gpu
from planner.catalogue.models import model
from planner.deployment import Candidate, only_candidate
from planner.errors import InputError
from planner.readers import MeasuredRow, Problem, read_measured, refuse
from planner.readers.figures import MOST_LOADS
from planner.scenario import Distribution, Lognormal, Normal, Scenario, Uniform

OWN_TABLE = files("planner.validation").joinpath("data", "measured.csv")
OWN_NOTES = files("planner.validation").joinpath("data", "accuracy-notes.md")
OWN_NAME = "measured.csv of the project"
NAMED = ("model", "hardware")  # what the catalogue holds
MORE = re.compile(r" \(and \d+ more to correct(: .*)?\)$")
AGREEMENT = 0.10  # output_throughput against request_throughput × mean output
VARIED = {"max_concurrency": "closed", "max_rate_qps": "open"}


@dataclass(frozen=True)
class Case:
    """A measured run and the scenario that says the same run to the simulator."""

    row: MeasuredRow
    scenario: Scenario
    candidate: Candidate
    table: str = ""


def read_cases(paths: Sequence[Path] = ()) -> list[Case]:
    """The cases of the tables, or of the project's own one; DataFileError with all problems of the first bad table."""
    if not paths:
        with as_file(OWN_TABLE) as own:
            return [replace(case, table=OWN_NAME) for case in _cases(own)]
    cases: list[Case] = []
    for path in paths:
        found = _cases(path)
        first = {case.row.id: case for case in cases}
        twice = [_told_twice(case.row, first[case.row.id]) for case in found if case.row.id in first]
        if twice:
            raise refuse(path, twice)
        cases += found
    return cases


def own_notes() -> str:
    """Why the project's own rows miss, as Markdown written by hand."""
    return OWN_NOTES.read_text(encoding="utf-8")


def _told_twice(row: MeasuredRow, first: Case) -> Problem:
    return Problem(row.line, "id", row.id, f"stands in {first.table}, line {first.row.line}, too")


def _cases(path: Path) -> list[Case]:
    rows, problems = read_measured(path)
    told = {(problem.line, problem.column) for problem in problems}
    cases: list[Case] = []
    for row in rows:
        case, found = _case(row, path)
        if any((row.line, name) in told for name in MOST_LOADS):  # what it asks of the other cells is not known then
            found = [problem for problem in found if problem.column != "requests"]
        problems += (problem for problem in found if (problem.line, problem.column) not in told)
        if case is not None:
            cases.append(case)
    if problems:
        raise refuse(path, sorted(problems, key=lambda problem: problem.line))
    return cases


def _case(row: MeasuredRow, path: Path) -> tuple[Case | None, list[Problem]]:
    """A row as a case, or all that is wrong with its settings and their figures; what hangs on both is asked last."""
    scenario, problems = _shape(row, path.parent)
    problems += _name_problems(row, path.parent)
    if scenario is not None:
        problems += _contradictions(row, scenario)
    if scenario is None or problems:
        return None, problems
    try:
        return Case(row, scenario, only_candidate(scenario, "validate"), str(path)), []
    except InputError as error:
        return None, [problem_of(row, error)]


def _shape(row: MeasuredRow, base: Path) -> tuple[Scenario | None, list[Problem]]:
    """The scenario, or one problem after another: a setting that is refused is left out to find the next.

    A missing model or GPU is another function's to tell, and what is missing only because it was left out is no news.
    """
    left = dict(row.settings)
    problems: list[Problem] = []
    while True:
        try:
            scenario = row_scenario(replace(row, settings=dict.fromkeys(NAMED, "any") | left), base)
            return (None, problems) if problems else (scenario, [])
        except InputError as error:
            problem = problem_of(row, error)
        culprits = [name for name in left if f"{problem.column}.".startswith(f"{name}.")]
        if problems and not culprits:
            return None, problems
        problems.append(problem._replace(rule=MORE.sub("", problem.rule) if culprits else problem.rule))
        if not culprits:
            return None, problems
        left = {name: value for name, value in left.items() if name not in culprits}


def _name_problems(row: MeasuredRow, base: Path) -> Iterator[Problem]:
    """A model or a GPU that is missing or that the catalogue does not hold."""
    look_up: dict[str, Callable[[str], object]] = {"model": lambda name: model(name, base), "hardware": gpu}
    for key, find in look_up.items():
        name = row.settings.get(key)
        try:
            if name is None:
                yield Problem(row.line, key, None, "is required")
            elif isinstance(name, str):
                find(name)
        except InputError as error:
            yield problem_of(row, error)


def row_scenario(row: MeasuredRow, base: Path | None = None) -> Scenario:
    """The scenario of a row; raises ScenarioErrors. A stage without a name is called after its place."""
    data: dict[str, Any] = {"version": 1, "name": row.id or "row"}
    for key, value in row.settings.items():
        steps = ["slo", key.removeprefix("slo.")] if key.startswith("slo.") else key.split(".")
        place = data
        for step in steps[:-1]:
            place = place.setdefault(step, {})
        place[steps[-1]] = value
    _list_stages(data)
    return Scenario.from_dict(data, base)


def _list_stages(data: dict[str, Any]) -> None:
    """The mapping {"0": stage, "1": stage} that dotted keys make, as the list that a scenario holds."""
    stages = data.get("query", {}).get("stages")
    if isinstance(stages, dict):
        ordered = [stages[place] for place in sorted(stages, key=lambda place: (len(place), place))]
        data["query"]["stages"] = [{"name": f"stage {place}"} | stage for place, stage in enumerate(ordered)]


def problem_of(row: MeasuredRow, error: InputError) -> Problem:
    """The error of a scenario as the problem of the row that says it."""
    return Problem(row.line, _column(error.key), error.value, error.rule, error.nearest)


def _column(key: str) -> str:
    """A scenario's key as the column that holds it."""
    return key.replace("[", ".").replace("]", "")


def _contradictions(row: MeasuredRow, scenario: Scenario) -> Iterator[Problem]:
    """What only the scenario can tell: the run's length, the most load's arrivals, tokens against requests."""
    is_open, most = scenario.demand == "open", [name for name in MOST_LOADS if name in row.figures]
    if is_open and row.requests is None and not most:
        yield Problem(row.line, "requests", None, "is required with open arrivals: how many were sent")
    if not is_open and row.requests is not None:
        rule = f"may not stand beside {scenario.demand} arrivals, which say their own length"
        yield Problem(row.line, "requests", row.requests, rule)
    if row.last_arrival_s is not None and (not is_open or most):
        yield Problem(row.line, "last_arrival_s", f"{row.last_arrival_s:g}", "needs open arrivals of a given length")
    for name in most:
        if scenario.demand != VARIED[name]:
            yield Problem(row.line, name, None, f"needs {VARIED[name]} arrivals, not {scenario.demand}")
        if not scenario.slo:
            yield Problem(row.line, name, None, "needs the slo that the load was judged by", "slo.p99_ttft_ms")
        if len(row.figures) > 1:
            yield Problem(row.line, name, None, "must stand in a row without other figures: it is of another load")
    yield from _token_problems(row, scenario)


def _token_problems(row: MeasuredRow, scenario: Scenario) -> Iterator[Problem]:
    """Throughputs that name different numbers of tokens in a request."""
    requests, stages = row.figures.get("request_throughput"), scenario.query.stages
    if not isinstance(requests, float) or len(stages) != 1:
        return
    prompt, output = mean_tokens(stages[0].prompt_tokens), mean_tokens(stages[0].output_tokens)
    total = None if prompt is None or output is None else prompt + output
    expected = {"output_throughput": output, "total_token_throughput": total}
    for name, tokens in expected.items():
        measured = row.figures.get(name)
        if tokens is not None and isinstance(measured, float) and abs(measured / requests / tokens - 1) > AGREEMENT:
            rule = f"is {measured / requests:.4g} tokens for each of request_throughput, the query has {tokens:.4g}"
            yield Problem(row.line, name, f"{measured:g}", rule)


def mean_tokens(distribution: Distribution | None) -> float | None:
    """The mean of a token count; None where a file says it. Ends of a normal are taken as far out."""
    match distribution:
        case int():
            return float(distribution)
        case Uniform(uniform=(low, high)):
            return (low + high) / 2
        case Lognormal(lognormal=moments) | Normal(normal=moments):
            return moments.mean
    return None
