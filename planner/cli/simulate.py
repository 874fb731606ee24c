"""`planner simulate`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.cli.options import (
    OutputFile,
    check_length,
    find_scenario,
    read_scenario,
    refuse_inputs,
    refuse_same_file,
    scenario_options,
    seconds,
)
from planner.cli.output import compile_note, json_text, progress_bar, progress_lines, show_and_write, warn_of
from planner.units import MOST_DAYS

if TYPE_CHECKING:
    from planner.deployment import Simulation
    from planner.scenario import Scenario

TABLE, PICTURES = ".parquet", (".png", ".svg")
INTERVALS = 240


@click.command(short_help="One fleet under one load.")
@scenario_options
@click.option("--duration", type=seconds(), metavar="SECONDS", help="Simulated seconds, in place of --requests.")
@click.option(
    "--timeline",
    "timelines",
    type=OutputFile((TABLE, *PICTURES)),
    multiple=True,
    metavar="FILE",
    help="What the replicas did over the run: a table (.parquet), or a picture (.png, .svg). May be given for each.",
)
@click.option(
    "--intervals",
    type=click.IntRange(2, 100_000),
    metavar="N",
    help=f"Of --timeline.  [default: {INTERVALS}]",
)
@click.option(
    "--per-request",
    type=OutputFile((TABLE,)),
    metavar="FILE",
    help="Write when each model call came, began to answer and ended, or why it failed (.parquet).",
)
@click.option(
    "--days",
    type=click.IntRange(1, MOST_DAYS),
    metavar="N",
    help="Whole days from midnight, hour by hour: the load follows traffic.day, the replicas fleet.autoscaler.",
)
@click.option(
    "--picture",
    type=OutputFile((".png", ".svg")),
    metavar="FILE",
    help="With --days: draw load, replicas and service levels by the hour, as .png or .svg.",
)
def simulate(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int,
    as_json: bool,
    duration: float | None,
    timelines: tuple[Path, ...],
    intervals: int | None,
    per_request: Path | None,
    days: int | None,
    picture: Path | None,
) -> None:
    """One fleet under one load: latencies, throughput, KV cache, whether the service levels hold.

    The exit code is 0 whether they hold or not.

    \b
    planner simulate chat-closed-loop
    planner simulate trace-azure --set traffic.arrivals.trace.file=AzureLLMInferenceTrace_conv.csv
    planner simulate failures --timeline run.png --timeline run.parquet --per-request calls.parquet
    planner simulate week-autoscaler --days 7 --picture week.png
    """
    if picture is not None and days is None:
        raise click.UsageError("--picture needs --days.")
    if days is not None and (requests is not None or duration is not None):
        raise click.UsageError("--days is a length of its own: leave --requests and --duration out.")
    if days is not None and (timelines or per_request is not None):
        raise click.UsageError("--timeline and --per-request are of a run without --days; --picture draws the days.")
    if intervals is not None and not timelines:
        raise click.UsageError("--intervals needs --timeline.")
    files = [*(("--timeline", path) for path in timelines), ("--per-request", per_request), ("--picture", picture)]
    refuse_same_file(("SCENARIO", find_scenario(source)), *files)
    scenario = read_scenario(source, settings)
    refuse_inputs(scenario, *files)
    if days is not None:
        _days(scenario, days, seed, as_json, picture)
        return
    check_length(scenario, requests=requests, duration=duration)
    from planner import simulate as answer

    with compile_note():
        result = answer(scenario, seed=seed, requests=requests, duration_s=duration)
        written: list[tuple[Path, Callable[[], bytes]]] = [
            (path, partial(_timeline, result, path, intervals or INTERVALS)) for path in timelines
        ]
        if per_request is not None:
            written.append((per_request, lambda: result.requests().to_parquet(index=False)))
        warn_of(result.as_dict())
        show_and_write(lambda: click.echo(json_text(result.as_dict()) if as_json else str(result)), written)


def _days(scenario: Scenario, days: int, seed: int, as_json: bool, picture: Path | None) -> None:
    from planner.days import simulate_days

    with compile_note(), progress_bar() as bar:
        result = simulate_days(scenario, days=days, seed=seed, progress=bar or progress_lines())
    warn_of(result.as_dict())
    show_and_write(
        lambda: click.echo(json_text(result.as_dict()) if as_json else str(result)),
        [] if picture is None else [(picture, lambda: _picture(result.as_dict(), picture))],
    )


def _picture(document: dict[str, Any], path: Path) -> bytes:
    from planner.report.charts import image
    from planner.report.day_charts import days_chart

    return image(days_chart(document), path.suffix.lower().removeprefix("."))


def _timeline(result: Simulation, path: Path, intervals: int) -> bytes:
    """The run over time, as what the file's name asks for."""
    if path.suffix.lower() == TABLE:
        table: bytes = result.timeline_table(intervals).to_parquet(index=False)
        return table
    from planner.report.charts import image
    from planner.report.fleet_charts import fleet_timeline_chart

    name, failures = result.as_dict()["scenario"]["name"], result.as_dict().get("failures") or {}
    figure = fleet_timeline_chart(name, result.timeline(intervals), result.counted_s, failures.get("events") or [])
    return image(figure, path.suffix.lower().removeprefix("."))
