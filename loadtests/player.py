"""What sends: in a single process, or on each worker. It takes its part from the master and reports row after row."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections import Counter
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.exception import RPCError

from loadtests import locust_stats
from loadtests.client import Call, Client
from loadtests.dispatch import Dispatch, Limits
from loadtests.meters import BusyMeter, LoopMeter
from loadtests.options import api_key
from loadtests.prompts import Bodies
from loadtests.schedule import Part
from loadtests.wire import Address
from planner.records import RequestRow, encode_line
from planner.workload.token_ids import IdRange

logger = logging.getLogger(__name__)

GO, STOP, ROWS = "planner_go", "planner_stop", "planner_rows"
REPORT_EVERY_S = 0.4
SAMPLE_EVERY_S = 1.0


class Player:
    """One worker's share of one run after another."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._run: _Run | None = None
        self._gone = Event()

    def on_go(self, environment: Environment, msg: Any, **_: Any) -> None:
        """The master's message with this worker's part and the instant to begin."""
        if self._run is None or self._run.id != msg.data["run"]:
            self._run = _Run(self._environment, msg.data)
            self._gone.set()

    def on_stop(self, environment: Environment, msg: Any, **_: Any) -> None:
        """The master's message to end early."""
        self.stop()

    def stop(self) -> None:
        """End what is under way and report all of it. Nothing where no run is under way."""
        run, self._run = self._run, None
        self._gone.clear()
        if run is not None:
            run.stop()

    def play_client(self) -> None:
        """What a Locust user does: a closed loop's client, or a seat for as long as the open loop runs."""
        self._gone.wait()
        run = self._run
        if run is not None:
            run.play_client()
        Event().wait()  # until Locust ends the user; a task that returns would be begun again


class _Run:
    """A part that is being sent."""

    def __init__(self, environment: Environment, message: dict[str, Any]) -> None:
        self.id = message["run"]
        self._environment = environment
        self._worker = message["worker"]
        self._received_at = time.time()
        self._lines: list[bytes] = []
        self._lags_s: list[float] = []
        self._told: Counter[str] = Counter()
        self._done = False
        part = Part.decode(message["part"]) if isinstance(message["part"], dict) else message["part"]
        origin = time.perf_counter() + message["start_at"] - time.time()
        client = Client(Address(*message["address"]), message["api"], api_key(), origin)
        bodies = Bodies(message["api"], message["model"], message["prompt_seed"], IdRange(*message["ids"]))
        limits = Limits(message["max_in_flight"], message["timeout_s"] or math.inf, message["stall_s"])
        self._client = client
        self._dispatch = Dispatch(part, client, bodies, limits, self._note, self._worker)
        # Everything that lives now lives on: a collection during the run need not look at it.
        gc.collect()
        gc.freeze()
        self._meter, self._loop = BusyMeter(), LoopMeter()
        running = (self._report_on, self._sample_on, self._loop.run)
        self._greenlets = [gevent.spawn(work) for work in running]
        self._main = gevent.spawn(self._play, part)

    def play_client(self) -> None:
        """The next client of a closed loop, where there is one."""
        if self._dispatch.part.all_clients:
            self._dispatch.run_client()

    def _play(self, part: Part) -> None:
        if part.all_clients == 0:
            self._dispatch.run_open()
        elif part.clients == 0 or len(part.query) == 0:
            self._dispatch.over.set()
        self._dispatch.over.wait()
        self._end()

    def stop(self) -> None:
        """End early."""
        if not self._done:
            self._dispatch.stop()
            self._main.kill()
            self._end()

    def _end(self) -> None:
        if self._done:
            return
        self._done = True
        gevent.killall(self._greenlets, block=False)
        self._meter.finish()
        self._loop.finish()
        self._client.close()
        gc.unfreeze()
        self._report()

    # --- rows ---

    def _note(self, row: RequestRow, stage: str, call: Call) -> None:
        self._lines.append(encode_line(row))
        lag_s = locust_stats.send_lag_s(row)
        if lag_s is not None:
            self._lags_s.append(round(lag_s, 6))
        locust_stats.note(self._environment, row, stage, call.bytes)
        if row.error:
            self._told[row.error] += 1
            if self._told[row.error] == 1:  # once for each reason: there may be thousands
                logger.warning("missed: %s%s", row.error, f" ({call.detail})" if call.detail else "")

    def _report_on(self) -> None:
        while True:
            gevent.sleep(REPORT_EVERY_S)
            self._report()

    def _report(self) -> None:
        """Hand on what has ended since the last time; what could not be sent is kept for the next."""
        lines, lags = self._lines, self._lags_s
        self._lines, self._lags_s = [], []
        message = {
            "run": self.id,
            "worker": self._worker,
            "lines": b"".join(lines),
            "rows": len(lines),
            "lags_s": lags,
            "cpu_s": self._meter.cpu_s,
            "busy": self._meter.most,
            "loop_lag_ms": self._loop.percentile_ms(99),
            "received_at": self._received_at,
            "unsent": self._dispatch.unsent,
            "skipped": self._dispatch.skipped,
            "made_up": self._dispatch.made_up,
            "broken_off": self._dispatch.broken_off,
            "done": self._done,
        }
        try:
            self._environment.runner.send_message(ROWS, message)  # type: ignore[union-attr]
        except RPCError as error:
            logger.warning("rows wait for the master: %s", error)
            self._lines[:0], self._lags_s[:0] = lines, lags

    def _sample_on(self) -> None:
        while True:
            gevent.sleep(SAMPLE_EVERY_S)
            self._meter.sample()
