"""What directs a run: in a single process, or on the master. It draws the load, hands out parts, keeps the records.

A run goes: `prepare` (scenario, server, arrays) · Locust spawns the users · `begin` (parts and a common instant) ·
rows come in · `finish` (verdict, end of the records, summary). Where something fails the run ends and says why.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any
from uuid import uuid4

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from loadtests.header import ask_server, iso_time, make_header
from loadtests.meters import BusyMeter
from loadtests.options import Options, api_key, read_options
from loadtests.player import GO, STOP
from loadtests.report import report, unreadable
from loadtests.schedule import Part, Schedule, make_schedule, parts_of
from loadtests.state import RunState, WorkerState
from loadtests.verdict import ENDPOINT_FAILED, Findings, exit_code
from loadtests.writer import Writer, free_path
from planner.errors import DataFileError, InputError, PlannerError, ScenarioError
from planner.readers.recordings import Recording, read_own
from planner.records import RunEnd, encode_line
from planner.workload.token_ids import ordinary_ids

logger = logging.getLogger(__name__)

LEAD_S, DISTRIBUTED_LEAD_S = 0.5, 1.5  # from handing out the parts to the first instant of the schedule
LAST_ROWS_S = 4.0  # that workers get to report after they were stopped
USERS_AT_ONCE = 100  # above it Locust warns


class Conductor:
    """Runs one load test after another; `tick` is Locust's question how many users there should be."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._run: RunState | None = None
        self._closing = False
        self.summary = ""
        given = vars(environment.parsed_options) if environment.parsed_options else {}
        # The web page may change neither files nor, once there is a key, the server that gets it.
        self._fixed = {name: given.get(name) for name in ("scenario", "set", "records")}
        self._host = environment.host

    # --- before ---

    def check(self) -> None:
        """Refuse what cannot be run before anything is started. Raises PlannerErrors."""
        api_key()
        options = self._options()
        if options is not None:
            schedule = self._schedule(options)
            logger.info("%d queries, %d requests", schedule.load.queries, schedule.load.requests)

    def _options(self) -> Options | None:
        """The options as they stand; None where the web page has yet to give the host."""
        if not self._environment.host and self._environment.web_ui is not None and self._run is None:
            return None
        parsed = self._environment.parsed_options
        vars(parsed).update(self._fixed)
        if api_key() and self._environment.host != self._host:
            raise InputError("--host", None, "the API key goes to no server but the command line's --host")
        return read_options(parsed, self._environment.host)  # type: ignore[arg-type]

    @staticmethod
    def _schedule(options: Options) -> Schedule:
        return make_schedule(options.scenario, options.seed, options.requests, options.duration_s, options.warmup_s)

    def tick(self) -> tuple[int, float] | None:
        """Users and how fast to start them; None ends the run."""
        if self._run is None:
            try:
                self._run = self._prepare()
            except PlannerError as error:
                self._refuse(error)
                return None
        run = self._run
        if run.meter is not None:
            run.meter.sample()
        if not run.over:
            self._look_after_workers(run)
            run.over = bool(run.writer.error) or (
                bool(run.workers) and all(w.done or w.lost for w in run.workers.values())
            )
        return None if run.over else self._users(run)

    def _users(self, run: RunState) -> tuple[int, float]:
        users = run.schedule.load.clients or self._worker_count()
        return users, float(max(min(users, USERS_AT_ONCE), users // 10))

    def _worker_count(self) -> int:
        runner = self._environment.runner
        return runner.worker_count if isinstance(runner, MasterRunner) else 1

    def _prepare(self) -> RunState:
        self.summary = ""
        options = self._options()
        if options is None:
            raise InputError("--host", None, "is required: the server's address", "http://127.0.0.1:8000")
        workers = self._worker_count()
        if workers == 0:
            raise InputError("--worker", None, "no worker is connected: start at least one")
        limit = options.scenario.traffic.max_in_flight
        if limit and limit < workers:
            raise ScenarioError("traffic.max_in_flight", limit, f"is shared out to {workers} workers: use fewer")
        model, facts = ask_server(options)
        schedule = self._schedule(options)
        path = options.records if self._environment.web_ui is None else free_path(options.records)
        findings = Findings(
            open_loop=schedule.scenario.demand in ("open", "trace"),
            send_lag_limit_ms=options.send_lag_limit_ms,
            cpu_limit=options.cpu_limit,
            loop_lag_limit_ms=options.loop_lag_limit_ms,
        )
        ids = ordinary_ids(schedule.vocabulary)
        return RunState(uuid4().hex, options, schedule, model, facts, ids, Writer(path), findings)

    def _refuse(self, error: PlannerError) -> None:
        self._environment.process_exit_code = error.exit_code
        print(f"load test: error: {error}", file=sys.stderr)

    # --- during ---

    def begin(self) -> None:
        """All users are there: write the header, give each worker its part and all the same instant to begin."""
        run = self._run
        if run is None or run.workers or run.over:
            return
        users = self._users_by_worker(run)
        parts = parts_of(run.schedule.load, list(users.values()))
        distributed = isinstance(self._environment.runner, MasterRunner)
        run.sent_at = time.time()
        start_at = run.sent_at + (DISTRIBUTED_LEAD_S if distributed else LEAD_S)
        run.header = make_header(run.options, run.schedule, run.model, run.facts, start_at, len(users))
        run.writer.append(encode_line(run.header))
        run.workers = {
            node: WorkerState(number, len(part.prompt_tokens), len(part.prompt_tokens))
            for number, (node, part) in enumerate(zip(users, parts, strict=True))
        }
        if run.writer.error:
            return
        for number, (node, part) in enumerate(zip(users, parts, strict=True)):
            message = self._message(run, number, len(users), start_at, part if not distributed else part.encode())
            self._environment.runner.send_message(GO, message, client_id=node)  # type: ignore[union-attr]
        run.meter = BusyMeter() if distributed else None

    def _users_by_worker(self, run: RunState) -> dict[str, int]:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return {"local": run.schedule.load.clients or 1}
        present = {node: client for node, client in runner.clients.items() if client.state != STATE_MISSING}
        return {node: client.user_count for node, client in sorted(present.items())}

    def _message(
        self, run: RunState, number: int, workers: int, start_at: float, part: Part | dict[str, Any]
    ) -> dict[str, Any]:
        options, limit = run.options, run.schedule.load.max_in_flight
        return {
            "run": run.id,
            "worker": number,
            "part": part,
            "start_at": start_at,
            "address": tuple(options.address),
            "api": options.api,
            "model": run.model,
            "prompt_seed": options.prompt_seed,
            "ids": tuple(run.ids),
            "max_in_flight": limit // workers + (number < limit % workers) if limit else 0,
            "timeout_s": options.timeout_s,
            "stall_s": options.stall_timeout_s,
        }

    def on_rows(self, environment: Environment, msg: Any, **_: Any) -> None:
        """A worker's rows since its last message."""
        run, data = self._run, msg.data
        if run is None or data["run"] != run.id or msg.node_id not in run.workers:
            return
        worker = run.workers[msg.node_id]
        if data["lines"] and run.writer.append(data["lines"]):
            run.rows += data["rows"]
        run.findings.lags_s += data["lags_s"]
        run.findings.busy[f"worker {worker.number}"] = data["busy"]
        run.findings.loop_lag_ms[f"worker {worker.number}"] = data["loop_lag_ms"]
        if not worker.done:
            worker.unsent, worker.skipped = data["unsent"], data["skipped"]
            worker.made_up, worker.broken_off = data["made_up"], data["broken_off"]
            worker.cpu_s, worker.done = data["cpu_s"], data["done"]
            run.compare_clocks(worker, data["received_at"])

    def _look_after_workers(self, run: RunState) -> None:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return
        for node, worker in run.workers.items():
            client = runner.clients.get(node)
            if not worker.done and not worker.lost and (client is None or client.state == STATE_MISSING):
                worker.lost = True
                run.findings.lost_workers.append(f"worker {worker.number} ({node.rpartition('_')[0]})")

    # --- after ---

    def finish(self) -> None:
        """End the run that is under way, if one is: verdict, last line of the records, summary, exit code."""
        run = self._run
        if run is None or self._closing:
            return
        self._closing = True
        try:
            interrupted = not run.over
            if interrupted:
                self._stop_workers(run)
            self._close(run, interrupted)
        finally:
            self._run, self._closing = None, False

    def _stop_workers(self, run: RunState) -> None:
        if not run.workers:
            return
        self._environment.runner.send_message(STOP, {"run": run.id})  # type: ignore[union-attr]
        until = time.monotonic() + LAST_ROWS_S
        while time.monotonic() < until and not all(w.done or w.lost for w in run.workers.values()):
            self._look_after_workers(run)
            gevent.sleep(0.05)

    def _close(self, run: RunState, interrupted: bool) -> None:
        runner, findings = self._environment.runner, run.findings
        findings.write_error = run.writer.error
        findings.locust_cpu_warning = bool(runner and (runner.cpu_warning_emitted or runner.worker_cpu_warning_emitted))
        unsent = sum(worker.unsent for worker in run.workers.values())
        findings.left_out = unsent - sum(worker.skipped for worker in run.workers.values())
        if interrupted:
            findings.other.insert(0, "interrupted")
        cpu_s = {f"worker {w.number}": w.cpu_s for w in run.workers.values()}
        if run.meter is not None:
            run.meter.finish()
            findings.busy["master"], cpu_s["master"] = run.meter.most, run.meter.cpu_s
        invalid = findings.invalid()
        failed = bool(findings.write_error or findings.lost_workers)
        end = RunEnd(
            finished_at=iso_time(time.time()),
            reason="interrupted" if interrupted else "failed" if failed else "complete",
            rows=run.rows,
            unsent=unsent,
            invalid=invalid,
            notes=_notes(run),
            made_up=_made_up(run),
            client_cpu={name: round(used_s, 3) for name, used_s in cpu_s.items()}
            | {"busy_max": round(max(findings.busy.values(), default=0.0), 4)}
            | {"loop_lag_p99_ms": max(findings.loop_lag_ms.values(), default=0.0)},
        )
        if run.header is not None:
            run.writer.append(encode_line(end))
        run.writer.close()
        self._sum_up(run, invalid, interrupted)

    def _sum_up(self, run: RunState, invalid: list[str], interrupted: bool) -> None:
        recording: Recording | None = None
        trouble = ""
        if run.rows:
            try:
                recording = read_own(run.writer.path)
            except DataFileError as error:
                trouble = unreadable(run.writer.path, error.rule)
        answered, errors = 0, {}
        if recording is not None:
            answered = int(recording.answered.sum())
            errors = {error: 1 for error in recording.errors if error}
        self._environment.process_exit_code = exit_code(interrupted, invalid, errors, answered)
        if self._environment.process_exit_code == ENDPOINT_FAILED:
            invalid = ["the endpoint answered nothing", *invalid]
        if run.header is not None:
            self.summary = report(recording, run.header, invalid, run.findings)
            self.summary += "".join(f"\nnote      {note}" for note in (*run.schedule.load.notes, *_notes(run)))
            self.summary += f"\n{trouble}" if trouble else ""
        if self._environment.web_ui is not None:
            self.print_summary()

    def print_summary(self) -> None:
        """Say it once, on standard error."""
        if self.summary:
            print(self.summary, file=sys.stderr, flush=True)
        self.summary = ""


def _made_up(run: RunState) -> int:
    return sum(worker.made_up for worker in run.workers.values())


def _notes(run: RunState) -> list[str]:
    """What must be known of how a run was sent."""
    unsaid, broken_off = _made_up(run), sum(worker.broken_off for worker in run.workers.values())
    causes = [f"the server did not say which tokens {unsaid} of its answers were"] if unsaid else []
    causes += [f"{broken_off} answers of sessions failed"] if broken_off else []
    if not causes:
        return []
    return [f"{', and '.join(causes)}: made-up ones were re-sent in their place, which its prefix cache cannot know"]
