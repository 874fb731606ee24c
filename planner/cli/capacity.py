"""`planner capacity`."""

from __future__ import annotations

from typing import Literal

import click

from planner.cli.options import check_enough, check_length, read_scenario, scenario_options
from planner.cli.output import compile_note, json_text, progress_bar, warn_of


@click.command(short_help="The most load that a fleet carries within the service levels.")
@scenario_options
@click.option(
    "--vary",
    type=click.Choice(["rate", "concurrency"]),
    default="rate",
    show_default=True,
    help="What to raise: queries per second, or clients of a closed loop.",
)
def capacity(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int,
    as_json: bool,
    vary: Literal["rate", "concurrency"],
) -> int:
    """The most load that fleet.replicas carry within the service levels.

    Exit code 1: no load holds.

    \b
    planner capacity chat-closed-loop --vary concurrency
    """
    check_enough(requests)
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests)
    from planner import capacity as answer

    with compile_note(), progress_bar() as progress:
        result = answer(scenario, vary=vary, seed=seed, requests=requests, progress=progress)
    warn_of(result.as_dict())
    click.echo(json_text(result.as_dict()) if as_json else str(result))
    return 0 if result.feasible else 1
