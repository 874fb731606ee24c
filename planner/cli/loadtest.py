"""`planner loadtest`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from planner.cli.loadtest_extras import make_folder, write_extras
from planner.cli.options import (
    MOST_REQUESTS,
    OutputFile,
    check_length,
    find_scenario,
    read_scenario,
    seconds,
)
from planner.cli.output import Progress, compile_note, json_text, progress_bar, progress_lines
from planner.errors import DataFileError, EndpointError

if TYPE_CHECKING:
    from planner.live import Endpoint
    from planner.scenario import Scenario
    from planner.studies.loadtest import LoadTest

DEFAULT_SECONDS, DEFAULT_WARMUP = 60.0, 10.0
UNUSABLE, ENDPOINT_FAILED, INTERRUPTED = 1, EndpointError.exit_code, 130
IDLE_WAIT_S = 120.0


class StoppedEarlyError(Exception):
    """The user stopped a run before anything that counts was recorded."""


@dataclass(frozen=True)
class Run:
    """What all load tests of one command have in common."""

    source: str
    settings: tuple[str, ...]
    requests: int | None
    duration: float | None
    warmup: float | None
    seed: int
    processes: int
    api: str
    served_model: str | None
    send_lag_limit: float | None
    cpu_limit: float | None


@click.command(short_help="Load-test a server: measured beside simulated.")
@click.argument("source", metavar="[SCENARIO]", required=False)
@click.option("--host", metavar="URL", help="The server, as http://127.0.0.1:8000.")
@click.option(
    "--out", type=OutputFile(), metavar="FILE", help="New file for the records (JSON lines), one per request."
)
@click.option("--duration", type=float, callback=seconds, metavar="SECONDS", help="Seconds to count; default 60.")
@click.option("--warmup", type=click.FloatRange(min=0), metavar="SECONDS", help="Seconds before counting; default 10.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Sending processes.")
@click.option(
    "--api", type=click.Choice(["completions", "chat"]), default="completions", show_default=True, help="API."
)
@click.option("--served-model", metavar="NAME", help="The model's name at the server; default: the first it lists.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=300.0, show_default=True, metavar="SECONDS", help="For /health."
)
@click.option("--send-lag-limit", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="p99; default 10.")
@click.option(
    "--cpu-limit", type=click.FloatRange(0, 1, min_open=True), metavar="SHARE", help="Of a core; default 0.9."
)
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
    "--tolerance", type=click.FloatRange(0.005, 1.0), default=0.05, show_default=True, help="Of --find-capacity."
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
    and goes nowhere else. Exit codes: 1 the run is invalid (the load tester could not keep up, say) or no rate held, 3
    the server failed.

    \b
    planner loadtest ai-search --host http://127.0.0.1:8000 --set traffic.peak_qps=5
    planner loadtest scenario.yaml --host http://127.0.0.1:8000 --find-capacity --duration 120
    planner loadtest --compare cache-on.jsonl cache-off.jsonl
    """
    if compare is not None:
        if host or find_capacity:
            raise click.UsageError("--compare stands alone: it reads two runs that were made.")
        return _compare(compare, source, unpaired, as_json)
    if source is None:
        raise click.UsageError("SCENARIO is required: a file, or the name of a shipped example.")
    if host is None:
        raise click.UsageError("--host URL is required: the server to test.")
    scenario = read_scenario(source, settings)
    check_length(scenario, requests=requests, duration=duration)
    if out is not None and out.exists():
        raise click.UsageError(f"--out {out}: exists already; records are not overwritten.")
    if plots is not None:
        make_folder(plots)
    from planner.cli.loadtest_watch import waiting
    from planner.live import check_model, connect, server_facts, wait_ready
    from planner.studies.loadtest import records_name

    endpoint = connect(host)
    with progress_bar() as bar:
        progress = bar or (None if as_json else progress_lines())
        wait_ready(endpoint, wait, waiting(progress, endpoint.url, wait))
        if served_model is not None:
            check_model(server_facts(endpoint)[0], served_model, endpoint.url)
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        records = out or records_name(scenario, stamp)
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
            return _find_capacity(run, scenario, endpoint, records, tolerance, as_json, progress)
        try:
            test, interrupted = _test(run, scenario, endpoint, records, settings, progress)
        except StoppedEarlyError as error:
            click.echo(f"interrupted: {error}", err=True)
            return INTERRUPTED
    write_extras(test, export, plots)
    click.echo(json_text(test.as_dict()) if as_json else str(test))
    return _exit_code(test, interrupted)


def _test(
    run: Run,
    scenario: Scenario,
    endpoint: Endpoint,
    records: Path,
    settings: tuple[str, ...],
    progress: Progress | None,
) -> tuple[LoadTest, bool]:
    """One run, and whether the user stopped it."""
    from planner.cli.loadtest_process import Order, make_run
    from planner.studies.loadtest import evaluate

    is_open = scenario.demand == "open"
    by_time = is_open and run.requests is None
    order = Order(
        scenario=find_scenario(run.source).absolute(),
        settings=settings,
        records=records.absolute(),
        seed=run.seed,
        requests=run.requests if is_open else None,
        duration_s=(run.duration or DEFAULT_SECONDS) if by_time else None,
        warmup_s=(DEFAULT_WARMUP if run.warmup is None else run.warmup) if is_open else None,
        processes=run.processes,
        api=run.api,
        served_model=run.served_model,
        send_lag_limit_ms=run.send_lag_limit,
        cpu_limit=run.cpu_limit,
    )
    done = make_run(order, endpoint, progress)
    try:
        with compile_note():
            return evaluate(done.recording, scenario, done.server), done.interrupted
    except DataFileError as error:
        if done.interrupted:
            raise StoppedEarlyError(str(error)) from None
        raise


def _find_capacity(
    run: Run,
    scenario: Scenario,
    endpoint: Endpoint,
    records: Path,
    tolerance: float,
    as_json: bool,
    progress: Progress | None,
) -> int:
    """Step after step, each with records of its own; between them the server is let come to rest."""
    from planner.cli.loadtest_process import interruptible
    from planner.live.idle import wait_idle
    from planner.studies.loadtest_capacity import STOPPED, lowest_rate, measured_capacity

    stopped = False

    def test_at(rate: float, number: int) -> LoadTest | None:
        nonlocal stopped
        changes = (*run.settings, f"traffic.peak_qps={rate:.6g}")
        at_rate = scenario.with_values({"traffic.peak_qps": float(f"{rate:.6g}")})
        path = records.with_name(f"{records.stem}-{number:02d}-{rate:.4g}qps{records.suffix or '.jsonl'}")
        if number > 1 and not stopped:
            wait_idle(endpoint, IDLE_WAIT_S, lambda: asked.count > 0)
        if stopped or asked.count:
            return None
        try:
            test, stopped = _test(run, at_rate, endpoint, path, changes, progress)
        except StoppedEarlyError:
            return None
        click.echo(f"step {number}: {rate:.4g} queries/s {_step_words(test)}", err=True)
        return test

    with compile_note(), interruptible() as asked:
        lowest_qps = lowest_rate(scenario, run.requests, run.duration or DEFAULT_SECONDS)
        found = measured_capacity(scenario, test_at, run.seed, tolerance, lowest_qps)
    click.echo(json_text(found.as_dict()) if as_json else str(found))
    if found.document["ended"] == STOPPED:
        return INTERRUPTED
    if found.error is not None:
        return found.error.exit_code
    # only the last step may have failed: it ends the search
    unusable = [code for code in map(_exit_code, found.tests) if code]
    return unusable[0] if unusable else 0 if found.document["max_rate_qps"] else UNUSABLE


def _step_words(test: LoadTest) -> str:
    if not test.document["valid"]:
        return "INVALID"
    return "held" if test.document["slo_met"] else "did not hold"


def _exit_code(test: LoadTest, interrupted: bool = False) -> int:
    if interrupted or test.document["ended"] == "interrupted":
        return INTERRUPTED
    if test.endpoint_failed:
        return ENDPOINT_FAILED
    return 0 if test.usable else UNUSABLE


def _compare(files: tuple[Path, Path], source: str | None, unpaired: bool, as_json: bool) -> int:
    """Two runs side by side; a scenario beside them says where relative paths in the runs' own start from."""
    from planner.studies.compare import compare

    base = None if source is None else find_scenario(source).parent
    with compile_note():
        found = compare(files[0], files[1], base=base, unpaired=unpaired)
    click.echo(json_text(found.as_dict()) if as_json else str(found))
    return 0 if found.usable else UNUSABLE
