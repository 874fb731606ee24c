"""`planner economics SCENARIO --years N`: its options, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from planner.cli.options import Number, check_enough, read_scenario
from planner.cli.output import compile_note, json_text, progress_bar

F = TypeVar("F", bound=Callable[..., Any])
MOST_YEARS, MOST_CHANGE = 50, 10.0
CHANGES = {
    "gpu_price_change": "a GPU-hour's price (left out: falls as FLOP per USD grow)",
    "speed_change": "the speed of the engine's steps (left out: none)",
    "traffic_change": "the peak rate (left out: none)",
    "revenue_change": "what a query earns (left out: none)",
}


def years_options(command: F) -> F:
    """--years N and the four yearly rates."""
    for key, what in reversed(CHANGES.items()):
        command = click.option(
            f"--{key.replace('_', '-')}",
            type=Number(-1, MOST_CHANGE, above=True),
            metavar="SHARE",
            help=f"With --years: a year's change of {what}, as -0.2.",
        )(command)
    return click.option(
        "--years",
        type=click.IntRange(1, MOST_YEARS),
        metavar="N",
        help="Of a scenario: its fleet, cost and margin in each of the years 0 to N.",
    )(command)


def refuse_changes(changes: Mapping[str, float | None]) -> None:
    """Raise UsageError where a yearly rate stands without --years."""
    for key, value in changes.items():
        if value is not None:
            raise click.UsageError(f"--{key.replace('_', '-')}: needs --years N, of a scenario.")


def answer_years(
    source: str,
    settings: tuple[str, ...],
    as_json: bool,
    count: int,
    changes: Mapping[str, float | None],
    *,
    requests: int | None,
    seed: int | None,
    **others: object,
) -> int:
    """Print a scenario's years; the exit code is that of `plan`. `others` are options that do not go with --years."""
    for name, value in others.items():
        if value is not None and value is not False:
            raise click.UsageError(f"--{name.replace('_', '-')}: not together with --years.")
    check_enough(requests)
    scenario = read_scenario(source, settings)
    from planner.studies.years import years
    from planner.studies.years_rates import YearlyChanges

    with compile_note(), progress_bar() as progress:
        rates = YearlyChanges(**changes)
        answer = years(scenario, count, rates, seed=seed or 0, requests=requests, progress=progress)
    click.echo(json_text(answer.as_dict()) if as_json else str(answer))
    return 0 if answer.feasible else 1
