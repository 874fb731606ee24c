"""Fleets and loads of which laws are asked: durations are sums of a few powers of two, so nothing is rounded."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Prefixes, Stage
from planner.specs import SchedulerConfig

MODEL_LEN, BUDGET = 40, 24
BASE_S, TOKEN_S, CONTEXT_S, FRONTEND_S, FRONTEND_TOKEN_S = 0.25, 2.0**-5, 2.0**-7, 0.125, 2.0**-8
COST = StepCost(
    tokens_s=BASE_S + TOKEN_S * np.arange(BUDGET + 1),
    requests_s=np.zeros(9),
    decode_token_s=CONTEXT_S,
    frontend_s=FRONTEND_S,
    frontend_token_s=FRONTEND_TOKEN_S,
)
ROUTINGS = ("random", "round_robin", "least_loaded", "power_of_two", "session_affinity", "prefix_aware")
SHAPES = (
    (Stage("answer"),),
    (Stage("answer"),),
    (Stage("answer", samples=3),),
    (Stage("gather", calls=3), Stage("answer")),
    (Stage("draft", calls=2, samples=2), Stage("judge"), Stage("answer", samples=2)),
)
IN_TIME = {"busy_s", "running_s", "waiting_s", "kv_block_s"}
COUNTS = {
    *("steps", "kv_peak_blocks", "prefill_tokens", "decode_tokens", "context_tokens", "preemptions"),
    *("queried_tokens", "hit_tokens", "requeried_tokens", "rehit_tokens", "evicted_blocks"),
}
LEDGER = sorted(IN_TIME | COUNTS)

many = settings(max_examples=200, deadline=None)


class World(NamedTuple):
    load: Load
    config: SchedulerConfig
    replicas: int
    routing: str
    seed: int

    def run(self, cost: StepCost = COST, **changes: object) -> FleetRun:
        load = replace(self.load, **changes)
        return run_fleet(load, self.config, cost, self.replicas, self.routing, np.random.default_rng(self.seed))


@st.composite
def configs(draw: st.DrawFn) -> SchedulerConfig:
    """An engine that the longest request just fits, or with some room to spare."""
    size = draw(st.sampled_from([2, 4, 8]))
    return SchedulerConfig(
        num_blocks=1 + MODEL_LEN // size + draw(st.sampled_from([0, 1, 6, 40])),
        block_size=size,
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(8, BUDGET)),
        max_model_len=MODEL_LEN,
        enable_prefix_caching=draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 5])),
        scheduler_reserve_full_isl=draw(st.booleans()),
    )


def one_prompt_a_call(stages: tuple[Stage, ...], prompts: NDArray[np.int32]) -> tuple[NDArray[np.int32], Prefixes]:
    """Prompts of whole queries, and chains that say: the samples of a call have the same one."""
    first = call_first(stages)
    prompts = prompts.reshape(-1, len(first))[:, first].ravel()
    leader = np.arange(len(prompts)).reshape(-1, len(first))[:, first].ravel()
    return prompts, Prefixes(np.arange(len(prompts) + 1), leader.astype(np.int32), prompts)


def call_first(stages: tuple[Stage, ...]) -> list[int]:
    """For each place in a query the place of the first sample of its call."""
    first: list[int] = []
    for stage in stages:
        for _ in range(stage.calls):
            first += [len(first)] * stage.samples
    return first


@st.composite
def worlds(
    draw: st.DrawFn, routings: tuple[str, ...] = ROUTINGS, shapes: tuple[tuple[Stage, ...], ...] = SHAPES
) -> World:
    """Open arrivals, no limits: up to 12 queries on up to 4 replicas."""
    stages = draw(st.sampled_from(shapes))
    queries, width = draw(st.integers(1, 12)), sum(stage.requests for stage in stages)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 0.5, 4.0, 40.0]))
    prompts = rng.integers(1, MODEL_LEN - 1, queries * width).astype(np.int32)
    prompts, prefixes = one_prompt_a_call(stages, prompts)
    load = Load(
        arrival_s=np.sort(rng.integers(0, 65, queries) / 64 * spread),
        prompt_tokens=prompts,
        output_tokens=rng.integers(1, draw(st.sampled_from([2, 30])), queries * width).astype(np.int32),
        stages=stages,
        prefixes=draw(st.sampled_from([None, prefixes])),
    )
    return World(
        load, draw(configs()), draw(st.integers(1, 4)), draw(st.sampled_from(routings)), draw(st.integers(0, 99))
    )


@st.composite
def limited(draw: st.DrawFn, timeouts: bool = True) -> World:
    """The same with what a client may do: closed loops, a limit in flight, timeouts."""
    world = draw(worlds())
    load = replace(world.load, max_in_flight=draw(st.sampled_from([0, 0, 1, 2, 5])))
    if draw(st.booleans()):
        think_s = np.array([draw(st.sampled_from([0.0, 0.25, 3.0])) for _ in range(load.queries)])
        load = replace(
            load,
            arrival_s=np.zeros(load.queries),
            clients=draw(st.integers(1, 5)),
            per_client=draw(st.booleans()),
            think_s=draw(st.sampled_from([None, think_s])),
        )
    if timeouts:
        load = replace(load, timeout_s=draw(st.sampled_from([np.inf, 0.0625, 1.0, 3.0, 10.0])))
    return world._replace(load=load)


def outputs(load: Load) -> NDArray[np.int64]:
    """Tokens that each request generates if nobody gives it up."""
    return np.minimum(load.output_tokens, MODEL_LEN - load.prompt_tokens).astype(np.int64)


def stage_slices(load: Load) -> list[slice]:
    ends = np.cumsum([stage.requests for stage in load.stages])
    return [slice(end - stage.requests, end) for stage, end in zip(load.stages, ends, strict=True)]


def by_query(run: FleetRun, column: NDArray[np.float64]) -> NDArray[np.float64]:
    return column.reshape(run.load.queries, run.load.width)


def stage_sent_s(run: FleetRun) -> NDArray[np.float64]:
    """When each request's stage was sent: the first with the query, each other when all before it had ended."""
    sent, last = np.empty((run.load.queries, run.load.width)), by_query(run, run.last_token_s)
    at = run.sent_s
    for place in stage_slices(run.load):
        sent[:, place] = at[:, None]
        at = last[:, place].max(axis=1)
    return sent.ravel()


def ready_s(run: FleetRun) -> NDArray[np.float64]:
    """When each request had passed the front end."""
    return stage_sent_s(run) + FRONTEND_S + FRONTEND_TOKEN_S * run.load.prompt_tokens


def most_outstanding(run: FleetRun) -> int:
    """Most queries between sending and end at once; what ends at an instant makes room at that instant."""
    times = np.concatenate((run.ended_s, run.sent_s))
    change = np.repeat([-1, 1], run.load.queries)
    return int(np.cumsum(change[np.lexsort((change, times))]).max())


def totals(run: FleetRun) -> dict[str, float]:
    return {name: run.ledger[name].sum().item() for name in LEDGER}


def assert_same(expected: FleetRun, actual: FleetRun, scale: float = 1.0) -> None:
    for name in ("arrival_s", "sent_s", "first_token_s", "last_token_s"):
        np.testing.assert_array_equal(scale * getattr(expected, name), getattr(actual, name), name)
    np.testing.assert_array_equal(expected.replica, actual.replica)
    np.testing.assert_array_equal(expected.failed, actual.failed)
    for name in LEDGER:
        factor = scale if name in IN_TIME else 1
        if name == "kv_block_s":  # within a jump an average, and two paths need not jump alike
            np.testing.assert_allclose(factor * expected.ledger[name], actual.ledger[name], rtol=0.2)
        else:
            np.testing.assert_array_equal(factor * expected.ledger[name], actual.ledger[name], name)
