"""What is sent when: the simulator's own arrays, and each worker's part of them.

Parts are disjoint and whole queries. Open loop: worker w of n takes the queries q with q mod n = w, or the sessions s
with s mod n = w. Closed loop: it takes those of its clients, q mod clients; where clients share one heap of queries,
each worker's share that of its own.
A part travels to its worker as bytes, so workers need neither the scenario nor its trace files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.fleet_draws import beginnings, draws
from planner.simulation.load import Load, Prefixes, Stage
from planner.workload.sessions import turns_due

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
WIDE = 1 << 20  # so many replicas that no two sessions draw the same number
WARMUP_SHARE = 0.1  # of what is counted, where the warm-up is not given


@dataclass(frozen=True)
class Schedule:
    """All that one run sends, and what it was drawn from."""

    load: Load
    scenario: Scenario
    max_model_len: int
    vocabulary: int
    duration_s: float | None


def make_schedule(
    scenario: Scenario, seed: int, requests: int | None, duration_s: float | None, warmup_s: float | None
) -> Schedule:
    """The load of a scenario, as the simulator draws it. Raises InputErrors for lists and for what cannot be run."""
    from planner.catalogue.models import model as find_model
    from planner.deployment import Length, make_load, only_candidate  # loads numba: workers do without

    if scenario.hardware is None and not scenario.choices():  # what is sent does not depend on it
        model, given = find_model(scenario.model[0], scenario.base), scenario.engine.max_model_len
        max_model_len = given[0] if given else model.max_position
    else:
        candidate = only_candidate(scenario, "loadtest")
        model, max_model_len = candidate.model, candidate.options.max_model_len
    warmup = 0
    if scenario.demand == "open":
        warmup = _warmup(scenario, seed, requests, duration_s, warmup_s)
    else:
        duration_s = None
    load = make_load(scenario, max_model_len, seed, Length(requests or 0, warmup, 0), duration_s)
    return Schedule(load, scenario, max_model_len, model.vocab, duration_s)


def _warmup(
    scenario: Scenario, seed: int, requests: int | None, duration_s: float | None, warmup_s: float | None
) -> int:
    """Queries of the warm-up: of `warmup_s`, else a share of what is counted, and of sessions until all turns come."""
    rate_qps, session = reaching_qps(scenario), scenario.session
    if warmup_s is not None and session is None:
        return round(rate_qps * warmup_s)
    if warmup_s is not None and session is not None:
        return round(turns_due(rate_qps, session.turns, session.think_s, warmup_s))
    share = round(WARMUP_SHARE * (requests if duration_s is None and requests else rate_qps * (duration_s or 0)))
    if session is None:
        return share
    from planner.studies.load_sessions import session_warmup_s  # loads numba

    return max(share, round(turns_due(rate_qps, session.turns, session.think_s, session_warmup_s(scenario, seed))))


def reaching_qps(scenario: Scenario) -> float:
    """Queries per second that the response cache leaves to the model."""
    if scenario.traffic.peak_qps is None:
        return 0.0
    return scenario.traffic.peak_qps * (1.0 - response_hit_rate(scenario))


@dataclass(frozen=True)
class Part:
    """One worker's queries, in the order in which they are due; `query` holds their places in the load.

    Row i · width + j of the per-request columns is call j of the i-th query here. `first_client` and `clients` are this
    worker's clients of a closed loop of `all_clients`. `follows` is empty but for sessions: the place in this part of
    the turn before, -1 = none. `session` has a number for each request, the same for those that session_affinity keeps
    together; empty where it keeps nothing together.
    """

    query: I64
    arrival_s: F64
    think_s: F64
    prompt_tokens: I64
    output_tokens: I64
    link_start: I64
    link_segment: I64
    link_tokens: I64
    follows: I64
    session: I64
    stages: tuple[Stage, ...]
    first_client: int = 0
    clients: int = 0
    all_clients: int = 0
    per_client: bool = False

    @property
    def width(self) -> int:
        """Model calls of one query."""
        return sum(stage.requests for stage in self.stages)

    def chain(self, row: int) -> list[tuple[int, int]]:
        """The (segment, tokens) that the prompt of a request begins with."""
        links = slice(self.link_start[row], self.link_start[row + 1])
        return list(zip(self.link_segment[links].tolist(), self.link_tokens[links].tolist(), strict=True))

    def session_name(self, row: int) -> str:
        """What the request says its session is, empty = it is of none."""
        return f"{self.session[row]:x}" if len(self.session) else ""

    def encode(self) -> dict[str, Any]:
        """Plain values for a message."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return {
            **{name: column.tobytes() for name, column in columns.items()},
            "stages": [[stage.name, stage.calls, stage.samples] for stage in self.stages],
            **{name: getattr(self, name) for name in _NUMBERS},
        }

    @classmethod
    def decode(cls, message: dict[str, Any]) -> Part:
        """The part that `encode` made the message of."""
        values: dict[str, Any] = {name: np.frombuffer(message[name], kind) for name, kind in _COLUMNS.items()}
        values |= {name: message[name] for name in _NUMBERS}
        return cls(stages=tuple(Stage(*stage) for stage in message["stages"]), **values)


_COLUMNS = {
    "query": np.int64,
    "arrival_s": np.float64,
    "think_s": np.float64,
    "prompt_tokens": np.int64,
    "output_tokens": np.int64,
    "link_start": np.int64,
    "link_segment": np.int64,
    "link_tokens": np.int64,
    "follows": np.int64,
    "session": np.int64,
}
_NUMBERS = ("first_client", "clients", "all_clients", "per_client")


def parts_of(load: Load, users: list[int]) -> list[Part]:
    """The load cut into a part for each worker; `users[w]` of a closed loop's clients run on worker w."""
    query = np.arange(load.queries)
    names = _session_names(load)
    if load.follows is not None:
        session = _sessions(load.follows)
        return [_part(load, names, query[session % len(users) == worker]) for worker in range(len(users))]
    if load.clients == 0:
        return [_part(load, names, query[query % len(users) == worker]) for worker in range(len(users))]
    parts, first = [], 0
    for clients in users:
        client = query % load.clients
        mine = query[(client >= first) & (client < first + clients)]
        parts.append(_part(load, names, mine, first, clients))
        first += clients
    return parts


def _sessions(follows: I64) -> I64:
    """The session of each query, counted in the order in which they begin."""
    begin = np.where(follows < 0, np.arange(len(follows)), follows)
    for _ in range(len(follows).bit_length()):  # each time as far back again
        begin = begin[begin]
    return (np.cumsum(follows < 0) - 1)[begin]


def _session_names(load: Load) -> I64:
    """A number for each request: the very one that the simulator's session_affinity draws for its session or, without
    sessions, for its prompt group. Empty where there are neither: a call that is kept with no other is no session.
    """
    if load.follows is None and (beginnings(load) < 0).all():
        return np.zeros(0, np.int64)
    return draws(load, WIDE, "session_affinity", np.random.default_rng(0))


def _follows(load: Load, mine: I64) -> I64:
    if load.follows is None:
        return np.zeros(0, np.int64)
    place = np.full(load.queries, -1)
    place[mine] = np.arange(len(mine))
    return np.where(load.follows[mine] < 0, -1, place[load.follows[mine]])


def _part(load: Load, names: I64, mine: I64, first_client: int = 0, clients: int = 0) -> Part:
    rows = (mine[:, None] * load.width + np.arange(load.width)).ravel()
    start, segment, tokens = _links(load.prefixes, rows)
    return Part(
        query=mine,
        arrival_s=load.arrival_s[mine].astype(np.float64),
        think_s=np.zeros(len(mine)) if load.think_s is None else load.think_s[mine].astype(np.float64),
        prompt_tokens=load.prompt_tokens[rows].astype(np.int64),
        output_tokens=load.output_tokens[rows].astype(np.int64),
        link_start=start,
        link_segment=segment,
        link_tokens=tokens,
        follows=_follows(load, mine),
        session=names[rows] if len(names) else names,
        stages=load.stages,
        first_client=first_client,
        clients=clients,
        all_clients=load.clients,
        per_client=load.per_client,
    )


def _links(prefixes: Prefixes | None, rows: I64) -> tuple[I64, I64, I64]:
    if prefixes is None:
        return np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    begin, end = prefixes.chain_start[rows], prefixes.chain_start[rows + 1]
    start = np.concatenate(([0], np.cumsum(end - begin))).astype(np.int64)
    links = np.arange(start[-1]) + np.repeat(begin - start[:-1], end - begin)
    segment = prefixes.chain_segment[links].astype(np.int64)
    return start, segment, prefixes.segment_tokens[segment].astype(np.int64)
