"""`planner economics SCENARIO`: the options that belong to a scenario, and its answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from planner.cli.options import MOST_REQUESTS, check_enough, check_length, find_scenario, read_scenario
from planner.cli.output import compile_note, json_text, progress_bar
from planner.errors import ScenarioError

if TYPE_CHECKING:
    from planner.economics.bases import ListPrice
    from planner.scenario import Scenario

F = TypeVar("F", bound=Callable[..., Any])


def scenario_money_options(command: F) -> F:
    """--reconcile with its options, --requests, --seed: what a scenario takes and a case does not."""
    for decorate in (
        click.option("--seed", type=click.IntRange(min=0), help="Of a scenario: random seed (default 0)."),
        click.option(
            "--requests",
            type=click.IntRange(1, MOST_REQUESTS),
            metavar="N",
            help="Of a scenario: queries to count in a run, after its warm-up.",
        ),
        click.option(
            "--records",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="With --reconcile: records of a load test, for the measured basis.",
        ),
        click.option("--mfu", type=float, metavar="SHARE", help="With --reconcile: MFU of the FLOP basis, as 0.4."),
        click.option(
            "--provider-margin",
            type=float,
            metavar="SHARE",
            help="With --reconcile: the seller's gross margin in the list price, as 0.3.",
        ),
        click.option(
            "--list-price",
            metavar="IN,OUT",
            help="With --reconcile: an API's USD per million input and output tokens, as 0.75,3.75.",
        ),
        click.option(
            "--reconcile",
            is_flag=True,
            help="Of a scenario: its cost by list price, FLOP, load test and simulation, and what lies between them.",
        ),
    ):
        command = decorate(command)
    return command


def is_scenario(source: str) -> bool:
    """Whether this is a scenario: a shipped example's name, or a file with a model and without a case's steps."""
    from planner.economics.cases import is_case, names, read

    path = Path(source)
    if path.is_file():
        data = read(path)
        return "model" in data and not is_case(data)
    if source in names():
        return False
    try:
        find_scenario(source)
    except ScenarioError:
        return False
    return True


def refuse_scenario_options(**given: Any) -> None:
    """Raise UsageError where one of `scenario_money_options` was given for a case or a list."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise click.UsageError(f"--{name.replace('_', '-')}: is of a scenario; a case has its numbers in its file.")


def answer_scenario(
    source: str,
    settings: tuple[str, ...],
    as_json: bool,
    *,
    reconcile: bool,
    list_price: str | None,
    provider_margin: float | None,
    mfu: float | None,
    records: Path | None,
    requests: int | None,
    seed: int | None,
) -> int:
    """Print the economics of a scenario; the exit code is that of `plan`."""
    if not reconcile:
        beside = {"--list-price": list_price, "--provider-margin": provider_margin, "--mfu": mfu, "--records": records}
        for name, value in beside.items():
            if value is not None:
                raise click.UsageError(f"{name}: needs --reconcile.")
    if provider_margin is not None and not 0 <= provider_margin < 1:
        rule = "must be a share of at least 0 and below 1, as 0.3 for 30 %."
        raise click.UsageError(f"--provider-margin {provider_margin:g}: {rule}")
    if mfu is not None and not 0 < mfu <= 1:
        raise click.UsageError(f"--mfu {mfu:g}: must be above 0 and at most 1: a share of the GPU's peak FLOP/s.")
    price = None if list_price is None else _list_price(list_price)
    check_enough(requests)
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests)
    from planner.studies.scenario_economics import economics

    if reconcile:
        price = _with_margin(scenario, price, provider_margin)
    with compile_note(), progress_bar() as progress:
        answer = economics(
            scenario,
            seed=seed or 0,
            requests=requests,
            progress=progress,
            bases=reconcile,
            price=price,
            mfu=mfu,
            records=records,
        )
    click.echo(json_text(answer.as_dict()) if as_json else str(answer))
    return 0 if answer.feasible else 1


def _with_margin(scenario: Scenario, price: ListPrice | None, margin: float | None) -> ListPrice:
    """The list price to be taken with the seller's margin; a warning where it is a public one that has ended."""
    from planner.studies.list_prices import asked_price, ended

    asked = asked_price(scenario, price)
    late = ended(date.today().isoformat()) if asked.assumed else None
    if late:
        click.echo(f"Warning: {late}.", err=True)
    return replace(asked, provider_margin=margin)


def _list_price(text: str) -> ListPrice:
    """Two prices in USD per million tokens."""
    from planner.economics.bases import ListPrice

    rule = "must be two prices above 0, in and out, in USD per million tokens, as 0.75,3.75."
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--list-price {text}: {rule}") from None
    if len(values) != 2 or not all(value > 0 and math.isfinite(value) for value in values):
        raise click.UsageError(f"--list-price {text}: {rule}")
    return ListPrice(values[0], values[1])
