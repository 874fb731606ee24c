"""The emulator's engine on a real event loop, against the reference scheduler run on the same stamps."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.emulator.engine import Call, Engine, Gave
from planner.emulator.fleet import Fleet, chance_of
from planner.simulation.load import Load
from planner.simulation.reference import Request
from planner.simulation.replay import replay
from planner.simulation.stepper import Boundary, Stepper
from planner.specs import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=65, block_size=4, max_num_seqs=6, max_num_batched_tokens=32, max_model_len=96)
COST = StepCost(
    tokens_s=0.002 + 1e-5 * np.arange(33.0),
    requests_s=1e-5 * np.arange(7.0),
    decode_token_s=1e-6,
    frontend_s=0.001,
    frontend_token_s=3e-5,
)


@dataclass
class Heard:
    """A listener that notes what it is told, and when it was told."""

    token_s: dict[Call, list[float]] = field(default_factory=lambda: defaultdict(list))
    told_s: dict[Call, list[float]] = field(default_factory=lambda: defaultdict(list))
    stopped: list[Call] = field(default_factory=list)

    def on_token(self, call: Call, at_s: float) -> None:
        self.token_s[call].append(at_s)
        self.told_s[call].append(time.monotonic())

    def on_stop(self, call: Call) -> None:
        self.stopped.append(call)


@dataclass
class Counted:
    """An observer that adds up."""

    boundaries: list[Boundary] = field(default_factory=list)
    tokens: int = 0
    finished: int = 0
    idle: int = 0

    def on_boundary(self, boundary: Boundary) -> None:
        self.boundaries.append(boundary)

    def on_idle(self) -> None:
        self.idle += 1

    def on_step_end(self, gave: Gave) -> None:
        assert gave.tokens == len(gave.prompts) + len(gave.gaps_s)  # each is a first token, or ends a gap
        assert gave.late_s > 0
        self.tokens += gave.tokens
        self.finished += len(gave.finished)


def engine_of(config: SchedulerConfig = CONFIG) -> tuple[Engine, Counted]:
    counted = Counted()
    return Engine(config, COST, time.monotonic, asyncio.get_running_loop(), counted), counted


async def settle(engine: Engine) -> None:
    for _ in range(1000):
        if engine.outstanding == 0:
            break
        await asyncio.sleep(0.01)
    assert 0 == engine.outstanding
    await asyncio.sleep(0.02)


async def play(rng: random.Random, engine: Engine, heard: Heard, stalls: bool) -> list[Call]:
    calls = [engine.submit(engine.now_s(), 60, 30, (), heard) for _ in range(8)]  # more than the cache holds
    for turn in range(32):
        calls.append(engine.submit(engine.now_s(), rng.randint(1, 60), rng.randint(1, 30), (), heard))
        if stalls and turn % 8 == 3:
            time.sleep(0.03)  # the loop is busy elsewhere for many steps
        await asyncio.sleep(rng.choice([0.0, 0.002, 0.02]))
    await settle(engine)
    return calls


@pytest.mark.parametrize("stalls", [False, True], ids=["an idle loop", "a loop that stalls"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["synchronous", "async_scheduling"])
def test_a_replay_of_the_recorded_stamps_gives_the_engines_own_times_to_the_last_bit(stalls, asynchronous):
    config = SchedulerConfig(**(vars(CONFIG) | {"async_scheduling": asynchronous}))

    async def run() -> tuple[list[Call], Heard, Counted]:
        heard, (engine, counted) = Heard(), engine_of(config)
        return await play(random.Random(1), engine, heard, stalls), heard, counted

    calls, heard, counted = asyncio.run(run())
    load = Load(
        np.array([call.arrival_s for call in calls]),
        np.array([call.prompt_tokens for call in calls], np.int32),
        np.array([call.output_tokens for call in calls], np.int32),
    )
    answer = replay(load, config, COST)
    assert answer.first_token_s.tolist() == [call.first_s for call in calls]
    assert answer.finish_s.tolist() == [call.last_s for call in calls]
    gaps_s = [b - a for call in calls for a, b in zip(heard.token_s[call], heard.token_s[call][1:], strict=False)]
    assert sorted(answer.gaps_s.tolist()) == sorted(gaps_s)
    assert answer.ledger.preemptions == sum(call.preemptions for call in calls) > 0
    assert (sum(call.output_tokens for call in calls), 40) == (counted.tokens, counted.finished)
    assert counted.idle > 0


def test_no_token_is_handed_out_before_its_time():
    async def run() -> Heard:
        heard, (engine, _) = Heard(), engine_of()
        await play(random.Random(2), engine, heard, stalls=False)
        return heard

    heard = asyncio.run(run())
    pairs = [
        (due, told) for call in heard.token_s for due, told in zip(heard.token_s[call], heard.told_s[call], strict=True)
    ]
    assert len(pairs) > 300
    assert all(told > due for due, told in pairs)


def test_a_dropped_call_leaves_the_scheduler_at_the_next_boundary_as_a_deadline_would():
    async def run() -> tuple[list[Call], list[tuple[int, float]], Heard]:
        heard, (engine, _) = Heard(), engine_of()
        calls = [engine.submit(engine.now_s(), 20, 30, (), heard) for _ in range(9)]
        drops = []
        for victim in (0, 4, 8):  # the last of them still waits for a seat
            await asyncio.sleep(0.01)
            drops.append((victim, engine.now_s()))
            engine.drop(calls[victim], drops[-1][1])
        await settle(engine)
        return calls, drops, heard

    calls, drops, heard = asyncio.run(run())
    assert all(call.generated < 30 for call in (calls[0], calls[4], calls[8]))
    assert [30] * 6 == [calls[i].generated for i in (1, 2, 3, 5, 6, 7)]
    stepper = Stepper(CONFIG, COST)
    for call in calls:
        stepper.offer(Request(call.id, call.prompt_tokens, call.output_tokens), call.ready_s)
    for victim, at_s in drops:
        stepper.abort(victim, at_s)
    finish_s = {}
    while stepper.due_s is not None:
        boundary = stepper.advance()
        finish_s |= dict.fromkeys(boundary.outcome.finished, boundary.end_s)
    survivors = {call.id: call.last_s for call in calls if call.generated == 30}
    assert finish_s == survivors
    assert [] == heard.stopped


def test_whoever_waits_is_told_when_the_engine_stops():
    async def run() -> tuple[list[Call], Heard]:
        heard, (engine, _) = Heard(), engine_of()
        calls = [engine.submit(engine.now_s(), 4, 90, (), heard) for _ in range(3)]
        await asyncio.sleep(0.02)
        engine.stop()
        await asyncio.sleep(0.02)
        return calls, heard

    calls, heard = asyncio.run(run())
    assert calls == heard.stopped


def routed(routing: str, calls: int) -> list[int]:
    """Engines that calls go to which all come at once, and none of which ends."""

    async def run() -> list[int]:
        engines = [engine_of()[0] for _ in range(3)]
        fleet = Fleet(engines, routing, chance_of(3))
        places = []
        for _ in range(calls):
            engine = fleet.route()
            engine.submit(engine.now_s(), 4, 50, (), Heard())
            places.append(engines.index(engine))
        fleet.stop()
        return places

    return asyncio.run(run())


def test_round_robin_takes_engines_in_turn():
    assert [0, 1, 2, 0, 1, 2, 0] == routed("round_robin", 7)


def test_random_routing_uses_every_engine_and_repeats_with_its_seed():
    assert routed("random", 50) == routed("random", 50)
    assert {0, 1, 2} == set(routed("random", 50))


def test_least_loaded_goes_to_whoever_has_the_fewest_calls_and_goes_round_on_ties():
    async def run() -> list[int]:
        engines = [engine_of()[0] for _ in range(3)]
        fleet = Fleet(engines, "least_loaded", chance_of(0))
        for engine, count in zip(engines, (2, 0, 1), strict=True):
            for _ in range(count):
                engine.submit(engine.now_s(), 4, 50, (), Heard())
        places = []
        for _ in range(4):
            engine = fleet.route()
            engine.submit(engine.now_s(), 4, 50, (), Heard())
            places.append(engines.index(engine))
        fleet.stop()
        return places

    # 2 0 1 → engine 1; 2 1 1 → the tie of 1 and 2 goes on with 2; 2 1 2 → 1; 2 2 2 → on with 2.
    assert [1, 2, 1, 2] == asyncio.run(run())
