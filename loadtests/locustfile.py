"""Send a scenario's own load to a vLLM server, open loop and streaming.

    locust -f loadtests/locustfile.py --scenario ai-search --host http://127.0.0.1:8000 --headless --duration-s 60

It works as any locustfile does: with the web page, with --headless, with --processes, and with --master and --worker
on several hosts (only the master needs the scenario). How many users there are follows from the scenario: one for each
worker in an open loop, where every query is sent on its time whatever is outstanding; one for each client in a closed
loop. A key for the server is read from PLANNER_API_KEY or OPENAI_API_KEY, on every worker.

Exit codes: 0 valid · 1 the run must not be used, and why · 2 bad input · 3 the server failed · 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.event import EventHook
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests.conductor import Conductor
from loadtests.options import add_options, api_key
from loadtests.player import GO, ROWS, STOP, Player
from planner.errors import PlannerError

_players: dict[Environment, Player] = {}
_conductors: dict[Environment, Conductor] = {}


class ScheduledLoad(User):
    """A client of a closed loop; in an open loop the seat of a worker's dispatcher."""

    @task
    def play(self) -> None:
        """Take part for as long as the run lasts."""
        _players[self.environment].play_client()


class Schedule(LoadTestShape):
    """Starts the users that the scenario needs, and ends the run when the last answer has come."""

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate; None once the run is over."""
        for conductor in _conductors.values():
            return conductor.tick()
        return None


def _on(event: EventHook, handler: Callable[..., None]) -> None:
    event.add_listener(handler)  # type: ignore[no-untyped-call]


def join(environment: Environment, runner: Any, **_: Any) -> None:
    """Give this process its part: directing, sending, or in a single process both."""
    if isinstance(runner, MasterRunner | LocalRunner):
        _direct(environment, runner)
    if isinstance(runner, WorkerRunner | LocalRunner):
        _send(environment, runner)


def _direct(environment: Environment, runner: MasterRunner | LocalRunner) -> None:
    conductor = _conductors[environment] = Conductor(environment)
    try:
        conductor.check()
    except PlannerError as error:
        print(f"load test: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    # Locust answers SIGTERM only once a headless run with a shape is over.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runner.register_message(ROWS, conductor.on_rows)
    _on(events.spawning_complete, lambda **_: conductor.begin())
    _on(events.test_stopping, lambda **_: conductor.finish())
    _on(events.quitting, lambda **_: conductor.finish())
    _on(events.quit, lambda **_: conductor.print_summary())


def _send(environment: Environment, runner: WorkerRunner | LocalRunner) -> None:
    try:
        api_key()
    except PlannerError as error:
        print(f"load test: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    player = _players[environment] = Player(environment)
    runner.register_message(GO, player.on_go)
    runner.register_message(STOP, player.on_stop)
    _on(events.test_stopping, lambda **_: player.stop())
    _on(events.quitting, lambda **_: player.stop())
    if isinstance(runner, WorkerRunner):
        environment.process_exit_code = 0  # the master judges


_on(events.init_command_line_parser, add_options)
_on(events.init, join)
