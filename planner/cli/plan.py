"""`planner plan`."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.options import (
    OutputFile,
    check_enough,
    check_length,
    find_scenario,
    read_scenario,
    refuse_inputs,
    refuse_same_file,
    scenario_options,
)
from planner.cli.output import json_text, show_and_write, warn, warn_of
from planner.cli.planned import planned


@click.command(short_help="The cheapest fleet that holds the service levels.")
@scenario_options
@click.option("--out", type=OutputFile(), metavar="FILE", help="Also write the JSON document to FILE.")
@click.option(
    "--waterfall",
    is_flag=True,
    help="Also show what each option (caches, FP8, batching, MoE, routing, spares …) takes off the fleet.",
)
def plan(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int,
    as_json: bool,
    out: Path | None,
    waterfall: bool,
) -> int:
    """The cheapest fleet that holds the service levels at the peak.

    Shows the fleet, the smaller one that fails, cost, revenue and margin of a query, every rejected candidate with
    its reason, and where each number comes from. Exit code 1: no fleet fits.

    \b
    planner plan ai-search
    planner plan scenario.yaml --set peak_qps=200 --json
    planner plan ai-search --waterfall
    """
    check_enough(requests)
    refuse_same_file(("SCENARIO", find_scenario(source)), ("--out", out))
    scenario = read_scenario(source, settings)
    refuse_inputs(scenario, ("--out", out))
    check_length(scenario, requests=requests)
    if scenario.fleet.replicas is not None and scenario.fleet.autoscaler is None:  # it begins with them
        rule = "has no effect: plan chooses the replicas; fleet.min_replicas is the floor"
        warn(f"fleet.replicas (={scenario.fleet.replicas}) {rule}")
    result = planned(scenario, seed=seed, requests=requests, waterfall=waterfall)
    warn_of(result.as_dict())
    show_and_write(
        lambda: click.echo(json_text(result.as_dict()) if as_json else str(result)),
        [] if out is None else [(out, lambda: json_text(result.as_dict()) + "\n")],
    )
    return 0 if result.feasible else 1
