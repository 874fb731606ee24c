"""`planner economics`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.cli.economics_scenario import (
    answer_scenario,
    is_scenario,
    refuse_scenario_options,
    scenario_money_options,
)
from planner.cli.economics_years import CHANGES, answer_years, refuse_changes, years_options
from planner.cli.output import compile_note, json_text, print_table
from planner.errors import ScenarioError, nearest_names

if TYPE_CHECKING:
    from planner.economics.cases import Case

DOCUMENT_WIDTH = 44


@click.command(short_help="What queries cost and earn: of a scenario, and of named cases.")
@click.argument("source", metavar="CASE|SCENARIO", required=False)
@scenario_money_options
@years_options
@click.option("--list", "listed", is_flag=True, help="Name the shipped cases.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a case's input, as cost.cache_hit_rate=0.5 or \"rent.of=25 USD/server/hour\", or a scenario's key; "
    "may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def economics(
    source: str | None,
    listed: bool,
    settings: tuple[str, ...],
    as_json: bool,
    years: int | None,
    **of_scenario: Any,
) -> int | None:
    """Work out a case: what a query, a token or a training run costs, step by step, with units.

    Of a SCENARIO: the plan's money in short, revenue at risk, the service level worth asking for, what would make a
    query earn more, and with --reconcile its cost on four bases; with --years N instead its fleet, cost and margin in
    the years ahead. Exit code 1: no fleet fits.

    CASE is the name of a shipped case or a case file of one's own. Each system of the source documents is a case; the
    answer shows every step with its numbers, holds the result against what the document prints, and says what is
    assumed. USD and CNY, words and tokens, months and hours meet only by a rate that the case states.

    \b
    planner economics --list
    planner economics two-stage-search-summarizer
    planner economics two-stage-search-summarizer --set budget.fan_out=5 --json
    planner economics ai-search --reconcile --list-price 0.75,3.75
    planner economics ai-search --years 3 --traffic-change 0.3
    """
    changes = {key: of_scenario.pop(key) for key in CHANGES}
    if years is None:
        refuse_changes(changes)
    if listed:
        if source is not None or settings:
            raise click.UsageError("--list: takes neither a case nor --set.")
        refuse_scenario_options(**of_scenario, years=years)
        _list(as_json)
        return None
    if source is None:
        raise click.UsageError("give a CASE or a SCENARIO, or --list to see the shipped cases.")
    if is_scenario(source):
        if years is not None:
            return answer_years(source, settings, as_json, years, changes, **of_scenario)
        return answer_scenario(source, settings, as_json, **of_scenario)
    refuse_scenario_options(**of_scenario, years=years)
    case = _find(source)
    set_to = _changes(settings)
    from planner.studies.simulated_cases import answer_case

    with compile_note():
        answer = answer_case(case, set_to)
    click.echo(json_text(answer.as_dict()) if as_json else str(answer))
    return None


def _list(as_json: bool) -> None:
    from planner.economics.cases import names, shipped

    cases = [shipped(name) for name in names()]
    if as_json:
        rows = [{"name": case.name, "title": case.title, "source": case.source.model_dump()} for case in cases]
        click.echo(json_text({"schema_version": 1, "cases": rows}))
        return
    table = [[case.name, case.title, _short(case.source.document)] for case in cases]
    print_table(["case", "what it works out", "source"], table)


def _short(text: str) -> str:
    return text if len(text) <= DOCUMENT_WIDTH else f"{text[: DOCUMENT_WIDTH - 1].rstrip()}…"


def _find(source: str) -> Case:
    """The case of a file that exists under this path, else the shipped one of this name."""
    from planner.economics.cases import Case, is_case, named_after, names, read, shipped

    path = Path(source)
    if path.exists():
        data = read(path)
        if not is_case(data):
            raise ScenarioError("case file", source, "has neither a case's steps nor a scenario's model")
        return Case.from_dict(named_after(data, path))
    if source not in names():
        nearest = nearest_names(path.stem, names())
        rule = "no such file, nor a shipped case or example" + (
            "" if nearest else "; planner economics --list names them"
        )
        raise ScenarioError("case", source, rule, nearest)
    return shipped(source)


def _changes(settings: tuple[str, ...]) -> dict[str, Any]:
    changes = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"--set {setting}: must be STEP.INPUT=VALUE.")
        changes[key.strip()] = text
    return changes
