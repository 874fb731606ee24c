"""What `planner loadtest` does with its options: one run, or a search's runs one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.loadtest_extras import write_extras
from planner.cli.options import find_scenario
from planner.cli.output import Progress, compile_note, json_text, warn, warn_of
from planner.errors import DataFileError, EndpointError, InputError

if TYPE_CHECKING:
    from planner.live import Endpoint
    from planner.scenario import Scenario
    from planner.studies.loadtest import LoadTest
    from planner.studies.loadtest_stopped import StoppedTest

DEFAULT_SECONDS, DEFAULT_WARMUP = 60.0, 10.0
UNUSABLE, ENDPOINT_FAILED, INTERRUPTED = 1, EndpointError.exit_code, 130
IDLE_WAIT_S = 120.0


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


class StoppedEarlyError(Exception):
    """The user stopped a run before anything of it could be judged; `answer` has what there is."""

    def __init__(self, answer: StoppedTest) -> None:
        self.answer = answer
        super().__init__(answer)


def one_run(
    run: Run,
    scenario: Scenario,
    endpoint: Endpoint,
    records: Path,
    *,
    as_json: bool,
    export: Path | None,
    plots: Path | None,
    progress: Progress | None,
) -> int:
    """One load test, its answer printed; the exit code."""
    _warn_of_overload(run, scenario)
    try:
        test, interrupted = _test(run, scenario, endpoint, records, run.settings, progress)
    except StoppedEarlyError as stopped:
        warn_of(stopped.answer.as_dict())
        click.echo(json_text(stopped.answer.as_dict()) if as_json else str(stopped.answer))
        return INTERRUPTED
    write_extras(test, export, plots)
    warn_of(test.as_dict())
    click.echo(json_text(test.as_dict()) if as_json else str(test))
    return _exit_code(test, interrupted)


def search(
    run: Run,
    scenario: Scenario,
    endpoint: Endpoint,
    records: Path,
    *,
    tolerance: float,
    as_json: bool,
    progress: Progress | None,
) -> int:
    """Step after step, each with records of its own; between them the server is let come to rest."""
    from planner.cli.loadtest_process import interruptible
    from planner.live.idle import wait_idle
    from planner.studies.loadtest_capacity import lowest_rate, measured_capacity
    from planner.summary.loadtest_capacity import STOPPED

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
        except StoppedEarlyError as error:
            so_far = error.answer.as_dict()
            said = f"stopped: {so_far['sent']} requests sent, {so_far['ended_requests']} ended; records: {path}"
            click.echo(f"step {number}: {rate:.4g} queries/s {said}", err=True)
            return None
        click.echo(f"step {number}: {rate:.4g} queries/s {_step_words(test)}", err=True)
        return test

    with compile_note(), interruptible() as asked:
        lowest_qps = lowest_rate(scenario, run.requests, run.duration or DEFAULT_SECONDS)
        found = measured_capacity(scenario, test_at, run.seed, tolerance, lowest_qps)
    warn_of(found.as_dict())
    click.echo(json_text(found.as_dict()) if as_json else str(found))
    if found.document["ended"] == STOPPED:
        return INTERRUPTED
    if found.error is not None:
        return found.error.exit_code
    # only the last step may have failed: it ends the search
    unusable = [code for code in map(_exit_code, found.tests) if code]
    return unusable[0] if unusable else 0 if found.document["max_rate_qps"] else UNUSABLE


def _warn_of_overload(run: Run, scenario: Scenario) -> None:
    """Before anything is sent: where the simulator expects the queue to grow without end."""
    from planner.studies.loadtest_overload import overload_warning

    with compile_note():
        found = overload_warning(scenario, run.seed, run.requests, run.duration or DEFAULT_SECONDS)
    if found:
        warn(found)


def _default_warmup_s(scenario: Scenario, seed: int) -> float:
    """Seconds before counting where none were asked for: of sessions, until the last turns come too."""
    from planner.studies.load_sessions import session_warmup_s

    with compile_note():
        return max(DEFAULT_WARMUP, session_warmup_s(scenario, seed))


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
    from planner.studies.load_sessions import session_rate_words
    from planner.studies.loadtest import evaluate
    from planner.studies.loadtest_stopped import stopped_test

    is_open = scenario.demand == "open"
    by_time = is_open and run.requests is None
    order = Order(
        scenario=find_scenario(run.source).absolute(),
        settings=settings,
        records=records.absolute(),
        seed=run.seed,
        requests=run.requests if is_open else None,
        duration_s=(run.duration or DEFAULT_SECONDS) if by_time else None,
        warmup_s=(_default_warmup_s(scenario, run.seed) if run.warmup is None else run.warmup) if is_open else None,
        processes=run.processes,
        api=run.api,
        served_model=run.served_model,
        send_lag_limit_ms=run.send_lag_limit,
        cpu_limit=run.cpu_limit,
    )
    try:
        done = make_run(order, endpoint, progress)
    except InputError as error:
        if error.key == "--duration":
            raise InputError(error.key, error.value, f"{error.rule}{session_rate_words(scenario)}") from None
        raise
    try:
        with compile_note():
            return evaluate(done.recording, scenario, done.server), done.interrupted
    except DataFileError as error:
        if done.interrupted:
            raise StoppedEarlyError(stopped_test(done.recording, done.server, f"its records {error.rule}")) from None
        raise


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


def compare_runs(files: tuple[Path, Path], source: str | None, *, unpaired: bool, as_json: bool) -> int:
    """Two runs side by side; a scenario beside them says where relative paths in the runs' own start from."""
    from planner.studies.compare import compare

    base = None if source is None else find_scenario(source).parent
    with compile_note():
        found = compare(files[0], files[1], base=base, unpaired=unpaired)
    click.echo(json_text(found.as_dict()) if as_json else str(found))
    return 0 if found.usable else UNUSABLE
