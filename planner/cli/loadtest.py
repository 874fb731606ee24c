"""`planner loadtest`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from planner.cli.loadtest_extras import make_folder, writable_anew
from planner.cli.loadtest_runs import Run, compare_runs, one_run, search
from planner.cli.options import (
    MOST_REQUESTS,
    Number,
    OutputFile,
    check_length,
    read_scenario,
    seconds,
)
from planner.cli.output import progress_bar, progress_lines

MOST_SEED = 2**62  # beyond it the load tester refuses


@click.command(short_help="Load-test a server: measured beside simulated.")
@click.argument("source", metavar="[SCENARIO]", required=False)
@click.option("--host", metavar="URL", help="The server, as http://127.0.0.1:8000.")
@click.option(
    "--out", type=OutputFile(), metavar="FILE", help="New file for the records (JSON lines), one per request."
)
@click.option("--duration", type=seconds(), metavar="SECONDS", help="Seconds to count; default 60.")
@click.option(
    "--warmup",
    type=seconds(zero=True),
    metavar="SECONDS",
    help="Seconds before counting; default 10, and with sessions at least as long as one takes.",
)
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Sending processes.")
@click.option(
    "--api", type=click.Choice(["completions", "chat"]), default="completions", show_default=True, help="API."
)
@click.option("--served-model", metavar="NAME", help="The model's name at the server; default: the first it lists.")
@click.option(
    "--wait", type=seconds(zero=True), default=300.0, show_default=True, metavar="SECONDS", help="For /health."
)
@click.option("--send-lag-limit", type=Number(0, 1e6, above=True), metavar="MS", help="p99; default 10.")
@click.option("--cpu-limit", type=Number(0, 1, above=True), metavar="SHARE", help="Of a core; default 0.9.")
@click.option(
    "--requests", type=click.IntRange(1, MOST_REQUESTS), metavar="N", help="Queries to count, in place of --duration."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the load.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the scenario, as traffic.peak_qps=40; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--find-capacity", is_flag=True, help="Step the rate, from traffic.peak_qps, to where the SLO breaks.")
@click.option(
    "--tolerance", type=Number(0.005, 1.0), default=0.05, show_default=True, metavar="SHARE", help="Of --find-capacity."
)
@click.option(
    "--export-vllm-bench", "export", type=OutputFile((".json",)), metavar="FILE", help="Also write as vllm bench does."
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A B",
    help="Set two runs side by side instead: records, or JSON answers of this verb.",
)
@click.option("--unpaired", is_flag=True, help="With --compare: even where the two did not send the same load.")
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write pictures there.")
def loadtest(
    source: str | None,
    host: str | None,
    out: Path | None,
    duration: float | None,
    warmup: float | None,
    processes: int,
    api: Literal["completions", "chat"],
    served_model: str | None,
    wait: float,
    send_lag_limit: float | None,
    cpu_limit: float | None,
    requests: int | None,
    seed: int,
    settings: tuple[str, ...],
    as_json: bool,
    find_capacity: bool,
    tolerance: float,
    export: Path | None,
    compare: tuple[Path, Path] | None,
    unpaired: bool,
    plots: Path | None,
) -> int:
    """Send the scenario's load to a real server, each query on its time, and set what came beside the simulation.

    Percentiles run from the scheduled arrival. A key comes from the environment, PLANNER_API_KEY or OPENAI_API_KEY,
    and goes nowhere else.

    Exit codes: 0 the run is valid, whether the limits of slo held or not; 1 it is invalid (the load tester could not
    keep up, say), or with --find-capacity no rate held; 2 bad input; 3 the server failed; 130 interrupted.

    \b
    planner loadtest ai-search --host http://127.0.0.1:8000 --set traffic.peak_qps=5
    planner loadtest scenario.yaml --host http://127.0.0.1:8000 --find-capacity --duration 120
    planner loadtest --compare cache-on.jsonl cache-off.jsonl
    """
    if compare is not None:
        if host or find_capacity:
            raise click.UsageError("--compare stands alone: it reads two runs that were made.")
        return compare_runs(compare, source, unpaired=unpaired, as_json=as_json)
    if source is None:
        raise click.UsageError("SCENARIO is required: a file, or the name of a shipped example.")
    if host is None:
        raise click.UsageError("--host URL is required: the server to test.")
    scenario = read_scenario(source, settings)
    if seed > MOST_SEED:
        raise click.UsageError(f"--seed {seed}: must be at most {MOST_SEED}.")
    check_length(scenario, requests=requests, duration=duration)
    if plots is not None:
        make_folder(plots)
    from planner.cli.loadtest_watch import waiting
    from planner.live import check_model, connect, server_facts, wait_ready
    from planner.studies.loadtest import records_name

    endpoint = connect(host)
    records = out or records_name(scenario, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    writable_anew(records)
    with progress_bar() as bar:
        progress = bar or (None if as_json else progress_lines())
        wait_ready(endpoint, wait, waiting(progress, endpoint.url, wait))
        if served_model is not None:
            check_model(server_facts(endpoint)[0], served_model, endpoint.url)
        run = Run(
            source,
            settings,
            requests,
            duration,
            warmup,
            seed,
            processes,
            api,
            served_model,
            send_lag_limit,
            cpu_limit,
        )
        if find_capacity:
            return search(run, scenario, endpoint, records, tolerance=tolerance, as_json=as_json, progress=progress)
        return one_run(run, scenario, endpoint, records, as_json=as_json, export=export, plots=plots, progress=progress)
