"""From a scenario and a generator to the arrays of one run.

Each column is drawn from a child generator of its own, so a change to one key moves only the columns that depend on
it: the same seed at another rate gives the same token counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.response_cache import response_hit_rate
from planner.scenario import ClosedArrivals, ClosedClients, GammaArrivals, OfflineArrivals, Scenario, TraceArrivals
from planner.scenario import Stage as ScenarioStage
from planner.simulation.load import F64, I64, Load, Stage
from planner.workload.arrivals import MOST_QUERIES, Arrivals, open_arrivals
from planner.workload.lengths import draw_tokens, fit_to_context, refuse_misfit
from planner.workload.prefixes import (
    StagePrompts,
    draw_documents,
    draw_groups,
    prefix_chains,
    select_chains,
    telling_link,
)
from planner.workload.sessions import session_load
from planner.workload.tables import unusable
from planner.workload.traces import read_recording

REQUESTS_PER_CLIENT = 10
LEAST_CLOSED_REQUESTS = 64
FILE_KEY = "traffic.arrivals.trace.file"
Timed = Callable[[np.random.Generator, np.random.Generator], Arrivals]


def build_load(
    scenario: Scenario,
    *,
    queries: int | None,
    duration_s: float | None,
    warmup: int,
    rng: np.random.Generator,
    max_model_len: int,
    timed: Timed | None = None,
) -> Load:
    """Everything that arrives in one run.

    Open arrivals: `warmup` queries and then `queries` more, or, where `queries` is None, those that arrive within
    `duration_s` after the warm-up; queries that reach the model are counted. Closed, offline and trace demand say
    their own length: the three are then without effect and nothing is discarded. `rng` is spawned from, so pass a
    fresh generator of the same seed to get the same arrays again.

    Raises ScenarioError and DataFileError for values and files that cannot be used, among them fixed token counts and
    traces that do not fit `max_model_len`.
    """
    if scenario.demand == "trace":
        return _trace_load(scenario, rng, max_model_len)
    if scenario.session is not None:
        return session_load(
            scenario,
            scenario.session,
            queries=queries,
            duration_s=duration_s,
            warmup=warmup,
            rng=rng,
            max_model_len=max_model_len,
        )
    gaps_rng, cache_rng, *stage_rngs = rng.spawn(2 + 3 * len(scenario.query.stages))
    document_rngs = rng.spawn(len(scenario.query.stages))
    if timed is None:
        timing = _timing(scenario, queries, duration_s, warmup, gaps_rng, cache_rng)
    else:
        timing = _Timing(*timed(gaps_rng, cache_rng))
    total, width = len(timing.arrival_s), sum(stage.calls * stage.samples for stage in scenario.query.stages)
    if total * width > MOST_QUERIES:
        raise ScenarioError(
            "query.stages", f"{total} queries", f"make more than {MOST_QUERIES} model calls; shorten the run"
        )
    prompt_tokens = np.empty((total, width), np.int32)
    output_tokens = np.empty((total, width), np.int32)
    sharing: list[StagePrompts] = []
    notes: list[str] = []
    clipped = column = 0
    for index, stage in enumerate(scenario.query.stages):
        rngs = [*stage_rngs[3 * index : 3 * index + 3], document_rngs[index]]
        drawn = _stage(scenario, stage, index, total, rngs, max_model_len)
        requests = slice(column, column + stage.calls * stage.samples)
        prompt_tokens[:, requests] = np.repeat(drawn.sharing.prompts, stage.samples).reshape(total, -1)
        output_tokens[:, requests] = drawn.outputs.reshape(total, -1)
        sharing.append(drawn.sharing)
        clipped += drawn.clipped
        column = requests.stop
        if drawn.raised:
            notes.append(
                f"query.stages[{index}].prompt_tokens: {drawn.raised} of {total * stage.calls} prompts were drawn no"
                f" longer than {_beginning(stage)} and raised to {drawn.sharing.begin_tokens + 1} tokens"
            )
    return Load(
        timing.arrival_s,
        prompt_tokens.ravel(),
        output_tokens.ravel(),
        tuple(Stage(stage.name, stage.calls, stage.samples) for stage in scenario.query.stages),
        prefix_chains(sharing, total),
        timing.clients,
        timing.per_client,
        timing.think_s,
        scenario.traffic.max_in_flight or 0,
        scenario.traffic.timeout_s or np.inf,
        timing.warmup,
        clipped / (total * width),
        1.0 - total / timing.users,
        tuple(notes),
        group_links=tuple(telling_link(stage) for stage in scenario.query.stages),
    )


# --- when ---


class _Timing(NamedTuple):
    """When the queries that reach the model come, and of how many `users`' queries they are what is left."""

    arrival_s: F64
    users: float
    warmup: int = 0
    clients: int = 0
    per_client: bool = False
    think_s: F64 | None = None


def _timing(
    scenario: Scenario,
    queries: int | None,
    duration_s: float | None,
    warmup: int,
    gaps_rng: np.random.Generator,
    cache_rng: np.random.Generator,
) -> _Timing:
    match scenario.traffic.arrivals:
        case OfflineArrivals(offline=batch):
            left = _left(response_hit_rate(scenario), batch.requests, cache_rng)
            return _Timing(np.zeros(left), batch.requests)
        case ClosedArrivals(closed=clients):
            total = _closed_queries(clients)
            if total > MOST_QUERIES:
                raise ScenarioError("traffic.arrivals.closed", f"{total} queries", f"must be at most {MOST_QUERIES}")
            think_s = np.full(total, clients.think_s) if clients.think_s else None
            together = min(clients.concurrency, total)
            return _Timing(np.zeros(total), total, 0, together, clients.requests is None, think_s)
        case str() | GammaArrivals() as law:
            rate_qps = scenario.traffic.peak_qps
            if rate_qps is None:
                raise ScenarioError("traffic.peak_qps", None, "is required with open arrivals")
            arrival_s, users = open_arrivals(
                law,
                rate_qps,
                response_hit_rate(scenario),
                queries=queries,
                duration_s=duration_s,
                warmup=warmup,
                gaps_rng=gaps_rng,
                cache_rng=cache_rng,
            )
            return _Timing(arrival_s, users, warmup)
    raise TypeError("a trace has its own times")


def _closed_queries(clients: ClosedClients) -> int:
    """How many queries all clients send together; a response cache may not stand beside a closed loop."""
    if clients.requests is not None:
        return clients.requests
    if clients.requests_per_client is not None:
        return clients.requests_per_client * clients.concurrency
    return max(REQUESTS_PER_CLIENT, -(-LEAST_CLOSED_REQUESTS // clients.concurrency)) * clients.concurrency


def _left(hit_rate: float, users: int, cache_rng: np.random.Generator) -> int:
    """How many of so many queries reach the model."""
    left = int(np.count_nonzero(cache_rng.random(users) >= hit_rate))
    if left == 0:
        raise ScenarioError("query.response_cache.hit_rate", hit_rate, f"answers all {users} queries")
    return left


# --- how long ---


class _Drawn(NamedTuple):
    sharing: StagePrompts
    outputs: I64  # [queries · calls, samples]
    clipped: int  # requests cut to fit the context
    raised: int  # prompts raised above their prefix


def _stage(
    scenario: Scenario,
    stage: ScenarioStage,
    index: int,
    queries: int,
    rngs: list[np.random.Generator],
    max_model_len: int,
) -> _Drawn:
    key, calls = f"query.stages[{index}]", queries * stage.calls
    prompt_rng, output_rng, group_rng, document_rng = rngs
    prefix, document = stage.shared_prefix, stage.document
    prefix_tokens, document_tokens = prefix.tokens if prefix else 0, document.tokens if document else 0
    assert stage.prompt_tokens is not None  # the scenario requires it without a trace
    begins = {"shared_prefix": prefix_tokens, "document": document_tokens}
    least = refuse_misfit(stage.prompt_tokens, stage.output_tokens, begins, max_model_len, key)
    prompts, along = draw_tokens(stage.prompt_tokens, calls, prompt_rng, scenario.resolve, f"{key}.prompt_tokens")
    if along is not None:
        outputs = np.repeat(along, stage.samples)
    else:
        assert stage.output_tokens is not None
        outputs, _ = draw_tokens(
            stage.output_tokens, calls * stage.samples, output_rng, scenario.resolve, f"{key}.output_tokens"
        )
    raised = int(np.count_nonzero(prompts < least)) if prefix or document else 0
    prompts = np.maximum(prompts, least)
    fitted = fit_to_context(prompts, outputs.reshape(calls, stage.samples), least, max_model_len)
    group = draw_groups(prefix, calls, group_rng) if prefix else np.zeros(calls, np.int64)
    sharing = StagePrompts(
        fitted.prompts,
        stage.samples,
        prefix_tokens,
        prefix.groups if prefix else 0,
        group,
        document_tokens,
        draw_documents(document, queries, stage.calls, document_rng) if document else None,
    )
    return _Drawn(sharing, fitted.outputs, fitted.clipped, raised)


def _beginning(stage: ScenarioStage) -> str:
    """What a prompt of the stage must be longer than, in words."""
    parts = [stage.shared_prefix and "their shared prefix", stage.document and "their document"]
    return " and ".join(part for part in parts if part)


# --- recorded ---


def _trace_load(scenario: Scenario, rng: np.random.Generator, max_model_len: int) -> Load:
    """A trace, whole; what the response cache answers is left out of it."""
    arrivals = scenario.traffic.arrivals
    assert isinstance(arrivals, TraceArrivals)
    trace, stages = arrivals.trace, scenario.query.stages
    if trace.file is None:
        raise ScenarioError(FILE_KEY, None, f"is required: name the file, or give it by --set {FILE_KEY}=PATH")
    if len(stages) > 1 or any(stage.calls * stage.samples > 1 for stage in stages):
        raise ScenarioError(
            "query.stages", None, "a trace records one model call a query: one stage, calls 1, samples 1"
        )
    path = scenario.resolve(trace.file)
    recording = read_recording(path, trace.format, FILE_KEY)
    total_tokens = recording.prompt_tokens.astype(np.int64) + recording.output_tokens
    beyond = np.flatnonzero(total_tokens > max_model_len)
    if len(beyond):
        worst = int(total_tokens.max())
        rule = (
            f"line {recording.line[beyond[0]]}: prompt and output have {total_tokens[beyond[0]]} tokens, more than"
            f" max_model_len (={max_model_len}); {len(beyond)} lines do not fit, the longest has {worst}"
        )
        raise unusable(FILE_KEY, path, rule)
    _, cache_rng = rng.spawn(2)
    hit_rate = response_hit_rate(scenario)
    keep = cache_rng.random(len(recording.line)) >= hit_rate
    if not keep.any():
        raise ScenarioError("query.response_cache.hit_rate", hit_rate, f"answers all {len(keep)} queries of the trace")
    notes = []
    if recording.raised:
        notes.append(f"{recording.raised} requests of the trace have 0 prompt or output tokens, taken as 1")
    for key in ("prompt_tokens", "output_tokens", "shared_prefix", "document"):
        if stages and getattr(stages[0], key) is not None:
            notes.append(f"query.stages[0].{key} is not used: token counts and prefixes come from the trace")
    return Load(
        recording.arrival_s[keep] / trace.speedup,
        recording.prompt_tokens[keep],
        recording.output_tokens[keep],
        (Stage(stages[0].name if stages else "answer"),),
        select_chains(recording.prefixes, keep) if recording.prefixes else None,
        max_in_flight=scenario.traffic.max_in_flight or 0,
        timeout_s=scenario.traffic.timeout_s or np.inf,
        cached_share=1.0 - np.count_nonzero(keep) / len(keep),
        notes=tuple(notes),
    )
