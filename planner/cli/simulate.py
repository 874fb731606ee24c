"""`planner simulate`."""

from __future__ import annotations

import click

from planner.cli.options import check_length, read_scenario, scenario_options, seconds
from planner.cli.output import compile_note, json_text, warn_of


@click.command(short_help="One fleet under one load.")
@scenario_options
@click.option("--duration", type=seconds(), metavar="SECONDS", help="Simulated seconds, in place of --requests.")
def simulate(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int,
    as_json: bool,
    duration: float | None,
) -> None:
    """One fleet under one load: latencies, throughput, KV cache, whether the service levels hold.

    The exit code is 0 whether they hold or not.

    \b
    planner simulate chat-closed-loop
    planner simulate trace-azure --set traffic.arrivals.trace.file=AzureLLMInferenceTrace_conv.csv
    """
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests, duration=duration)
    from planner import simulate as answer

    with compile_note():
        result = answer(scenario, seed=seed, requests=requests, duration_s=duration)
    warn_of(result.as_dict())
    click.echo(json_text(result.as_dict()) if as_json else str(result))
