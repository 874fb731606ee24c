"""`planner plan`."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.options import OutputFile, check_enough, check_length, read_scenario, scenario_options
from planner.cli.output import json_text, warn, warn_of, write_file
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
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests)
    if scenario.fleet.replicas is not None and scenario.fleet.autoscaler is None:  # it begins with them
        rule = "has no effect: plan chooses the replicas; fleet.min_replicas is the floor"
        warn(f"fleet.replicas (={scenario.fleet.replicas}) {rule}")
    result = planned(scenario, seed=seed, requests=requests, waterfall=waterfall)
    if out is not None:
        write_file(out, json_text(result.as_dict()) + "\n")
    warn_of(result.as_dict())
    click.echo(json_text(result.as_dict()) if as_json else str(result))
    return 0 if result.feasible else 1
