"""The emulator's fleet beside the simulator's: the same calls at the same times go to the same replicas."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.emulator.engine import Call, Engine
from planner.emulator.fleet import Fleet, beginning_tokens, chance_of
from planner.emulator.routing import Asked, Index, drawn
from planner.emulator.tokens import block_names
from planner.scenario import Scenario
from planner.simulation.fleet import run_fleet
from planner.simulation.fleet_draws import draws
from planner.simulation.load import Load, Prefixes, Stage
from planner.simulation.operations import Control
from planner.specs import SchedulerConfig

STEP = StepCost(np.ones(65), np.zeros(5))
BLOCKS = 60  # of four tokens: the index of a router forgets
CONFIG = SchedulerConfig(BLOCKS, 4, 4, 64, 64, enable_prefix_caching=True)
REPLICAS, CALLS, GROUPS, SHARED, PROMPT = 3, 200, 8, 12, 16


class Timers:
    """Stands for the event loop: time passes as fast as there is nothing to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._count = 0

    def clock(self) -> float:
        """Seconds since the start."""
        return self.now_s

    def call_later(self, delay_s: float, work: Callable[..., None], *args: Any) -> Timer:
        """Do it then."""
        self._count += 1
        timer = Timer(lambda: work(*args))
        heapq.heappush(self._due, (self.now_s + delay_s, self._count, timer))
        return timer

    def call_soon(self, work: Callable[..., None], *args: Any) -> Timer:
        """Do it next."""
        return self.call_later(0.0, work, *args)

    def run_to(self, at_s: float) -> None:
        """All that is due until then; a timer is never early, as a real one is not."""
        while self._due and self._due[0][0] < at_s:
            due_s, _, timer = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due_s) + 1e-6
            timer.work()
        self.now_s = max(self.now_s, at_s)


class Timer:
    """What may be cancelled."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def cancel(self) -> None:
        """It is not done."""
        self.work = lambda: None


class Nobody:
    """Hears and counts nothing."""

    def on_token(self, call: Call, at_s: float) -> None: ...
    def on_stop(self, call: Call) -> None: ...
    def on_boundary(self, boundary: Any) -> None: ...
    def on_idle(self) -> None: ...
    def on_step_end(self, gave: Any) -> None: ...


def load(samples: int) -> Load:
    """Calls that come too fast for the fleet, no two of them within 5 ms of a whole number of seconds of each other."""
    rng = np.random.default_rng(7)
    fraction = (rng.permutation(CALLS) + 0.5) / CALLS
    arrival_s = np.floor(np.arange(CALLS) * 0.55 * samples) + fraction
    arrival_s.sort()
    group = np.repeat(rng.integers(0, GROUPS, CALLS), samples).astype(np.int32)
    prefixes = Prefixes(np.arange(len(group) + 1), group, np.full(GROUPS, SHARED, np.int32))
    output = np.repeat(rng.integers(1, 13, CALLS), samples).astype(np.int32)
    return Load(arrival_s, np.full(len(group), PROMPT, np.int32), output, (Stage("a", 1, samples),), prefixes)


def emulated(given: Load, config: SchedulerConfig, routing: str, room: int) -> list[int]:
    """Where each call went, -1 = it was refused; all samples of it go together."""
    timers, samples = Timers(), given.stages[0].samples
    numbers = draws(given, REPLICAS, routing, np.random.default_rng(0))[::samples].tolist()
    engines = [Engine(config, STEP, timers.clock, timers, Nobody()) for _ in range(REPLICAS)]  # type: ignore[arg-type]
    chance = iter(numbers)
    fleet = Fleet(engines, routing, lambda: next(chance), room)
    group = given.prefixes.chain_segment.tolist()
    went = []
    for k, at_s in enumerate(given.arrival_s.tolist()):
        timers.run_to(at_s)
        i = k * samples
        output = int(given.output_tokens[i])
        prompt = [group[i]] * SHARED + [1000 + k] * (PROMPT - SHARED)
        every = [block_names([*prompt, *[10_000 + i + s] * output], 4) for s in range(samples)]
        engine = fleet.route(samples, prompt, every[0][: (PROMPT + output - 1) // 4])
        went.append(-1 if engine is None else engines.index(engine))
        if engine is not None:
            for blocks in every:
                engine.submit(at_s, PROMPT, output, blocks, Nobody())
    return went


RULES = ["random", "round_robin", "least_loaded", "power_of_two", "session_affinity", "prefix_aware"]
LIMITS = [(1, 0), (1, 6), (2, 7)]


@pytest.mark.parametrize("routing", RULES)
@pytest.mark.parametrize(("samples", "room"), LIMITS, ids=["all in", "room for 6", "room for 3 pairs"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["synchronous", "async_scheduling"])
def test_calls_go_where_the_simulator_sends_them(routing: str, samples: int, room: int, asynchronous: bool):
    given, config = load(samples), replace(CONFIG, async_scheduling=asynchronous)
    control = Control(room=room)
    run = run_fleet(given, config, STEP, REPLICAS, routing, np.random.default_rng(0), control=control)
    expected = run.replica[::samples].tolist()
    assert expected == emulated(given, config, routing, room)
    assert {0, 1, 2} <= set(expected), "all replicas are used"
    assert (room > 0) == (-1 in expected), "and with a limit some are refused"


def test_a_call_is_refused_only_where_no_engine_has_room_for_all_its_samples():
    timers = Timers()
    engines = [Engine(CONFIG, STEP, timers.clock, timers, Nobody()) for _ in range(2)]  # type: ignore[arg-type]
    fleet = Fleet(engines, "round_robin", chance_of(0), 3)
    for engine, count in zip(engines, (1, 2), strict=True):
        for _ in range(count):
            engine.submit(0.0, 4, 5, (), Nobody())
    assert [engines[0], engines[0], None] == [fleet.route(2), fleet.route(2), fleet.route(3)]
    assert [engines[1], engines[0]] == [fleet.route(1), fleet.route(1)]


def test_a_session_has_an_engine_and_calls_without_one_are_strewn():
    routing = "session_affinity"
    timers = Timers()
    engines = [Engine(CONFIG, STEP, timers.clock, timers, Nobody()) for _ in range(4)]  # type: ignore[arg-type]
    fleet = Fleet(engines, routing, chance_of(0))
    turns = {name: {fleet.route(session=name) for _ in range(5)} for name in map(str, range(40))}
    assert {1} == {len(went) for went in turns.values()}
    assert set(engines) == set().union(*turns.values())
    assert set(engines) == {fleet.route(prompt=[7] * 12) for _ in range(40)}, "how they begin does not matter"
    grouped = Fleet(engines, routing, chance_of(0), beginning=8)
    begun = {k: {grouped.route(prompt=[k] * 8 + [tail]) for tail in range(5)} for k in range(40)}
    assert {1} == {len(went) for went in begun.values()}
    assert set(engines) == set().union(*begun.values())


@pytest.mark.parametrize(
    ("prefixes", "tokens", "because"),
    [
        ([{"tokens": 40, "groups": 3}], 40, "three system prompts"),
        ([{"tokens": 40}], 0, "one system prompt tells nobody apart"),
        ([{"tokens": 40, "groups": 3}, None], 0, "the second stage's begin as they like"),
        ([{"tokens": 40, "groups": 3}, {"tokens": 30, "groups": 2}], 30, "so many tokens tell both stages' apart"),
    ],
)
def test_prompts_are_told_apart_by_their_beginning_only_if_there_are_several_groups(prefixes, tokens, because):
    stages = [
        {"name": f"s{k}", "prompt_tokens": 200, "output_tokens": 5} | ({"shared_prefix": one} if one else {})
        for k, one in enumerate(prefixes)
    ]
    about = {"version": 1, "name": "groups", "model": "qwen3-0.6b", "traffic": {"peak_qps": 1}}
    scenario = Scenario.from_dict({**about, "hardware": "h100-sxm-80gb", "query": {"stages": stages}})
    assert tokens == beginning_tokens(scenario), because


def test_a_router_forgets_the_block_that_it_sent_longest_ago():
    index = Index(1, 3)
    first, second = (Asked(1, 0, [name + b"1", name + b"2"], 2) for name in (b"a", b"b"))
    index.remember(0, first)
    assert 2 == index.matched(0, first)
    index.remember(0, second)
    assert (1, 2) == (index.matched(0, first), index.matched(0, second)), (
        "the end of a prompt goes before its beginning"
    )


def test_the_row_of_a_number_visits_all_replicas_evenly():
    counts = np.bincount([drawn(number, k, 5) for number in range(400) for k in range(1, 26)], minlength=5)
    assert counts == pytest.approx(2000, abs=5 * 40), "400 · 25 ÷ 5, within five standard deviations"
