"""The fewest replicas that hold the service levels under a given load."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from planner.deployment import FULL_SPANS, Deployment, idle_e2e_s, idle_outcome, make_load, run, run_length
from planner.deployment.collapse import other_seeds, session_pause
from planner.scenario import Scenario
from planner.simulation.load import Load, typical
from planner.sizing.probes import SHORT_SPANS, Probe, short_of
from planner.units import MS_PER_S

MOST_REPLICAS = 20_000  # where no fleet.max_gpus is given


class Obstacle(NamedTuple):
    """Why there is no size. `too_few`: as many replicas as `bound` allows were tried, and more might do.

    `bound` names the setting that stands in the way, "" = none does, or none was given.
    """

    words: str
    bound: str = ""
    too_few: bool = False

    def __str__(self) -> str:
        return f"{self.bound}: {self.words}" if self.bound else self.words


@dataclass(frozen=True)
class Size:
    """The fewest serving replicas of one deployment, or why there are none."""

    deployment: Deployment
    serving: int | None
    verified: bool  # by full-length runs of this size and the next smaller
    idle_e2e_s: float  # 99th percentile of E2E without load
    obstacle: Obstacle | None
    probes: tuple[Probe, ...] = field(repr=False)

    @property
    def reason(self) -> str | None:
        """Why there are none, in words."""
        return None if self.obstacle is None else str(self.obstacle)

    def probe(self, serving: int) -> Probe:
        """The longest run at that many serving replicas on the search's own seed, which must have been run."""
        own = (probe for probe in self.probes if probe.at == serving and probe.other_seed is None)
        return max(own, key=lambda probe: probe.full)

    def elsewhere(self, serving: int) -> tuple[Probe, ...]:
        """The runs at that many serving replicas on other seeds."""
        return tuple(probe for probe in self.probes if probe.at == serving and probe.other_seed is not None)

    @property
    def one_fewer(self) -> Probe | None:
        """The run of the next smaller fleet, of several seeds the one that fails; None where one replica serves."""
        if self.serving is None or self.serving == 1:
            return None
        failing = [probe for probe in self.elsewhere(self.serving - 1) if not probe.met]
        return failing[0] if failing else self.probe(self.serving - 1)


def least_serving(scenario: Scenario) -> int:
    """Serving replicas that `fleet.min_replicas` leaves beside the spare ones; at least 1."""
    return max(scenario.fleet.min_replicas - scenario.fleet.spare_replicas, 1)


def rough_size(deployment: Deployment, scenario: Scenario, seed: int, queries: int, most: int) -> Size:
    """The fewest replicas on short runs: close, and cheap enough to be found for every candidate.

    Demand that is given whole (a closed loop, a batch, a trace) is always run whole, and its size is final.
    """
    steady, least = scenario.demand == "open", least_serving(scenario)
    if least > most:
        words = f"{most} serving replicas are fewer than fleet.min_replicas asks for"
        return Size(deployment, None, True, 0.0, Obstacle(words, "fleet.max_gpus"), ())
    alone, idle = idle_outcome(deployment, scenario, short_of(queries), seed)
    best = Probe(math.inf, False, alone, idle)
    if not best.met:
        return Size(deployment, None, not steady, 0.0, Obstacle(f"even an idle fleet misses {best.broken()}"), (best,))
    e2e_s = idle_e2e_s(idle)
    length = run_length(scenario, short_of(queries), e2e_s, SHORT_SPANS)
    load = make_load(scenario, deployment.config.max_model_len, seed, length)
    allowed, most = most, max(least, min(most, load.requests))  # more replicas than requests serve nobody
    probes: dict[int, Probe] = {}

    def holds(replicas: int) -> bool:
        if replicas not in probes:
            probes[replicas] = Probe(replicas, not steady, load, run(deployment, scenario, load, replicas, seed))
        return probes[replicas].met

    found = _fewest(holds, _first_guess(deployment, scenario, load), least, most)
    if found is not None and found > 1 and not steady:
        holds(found - 1)  # the fleet that the answer is held against
    tried = tuple(probes.values())
    obstacle = None if found else _too_few(tried, most, most == allowed, scenario)
    return Size(deployment, found, not steady, e2e_s, obstacle, tried)


def verified_size(rough: Size, scenario: Scenario, seed: int, queries: int, most: int) -> Size:
    """Settle a rough size on full-length runs: it holds with confidence, and one replica fewer does not.

    Where sessions are near the collapse of their cache one run is one of two states: such a size holds if it does on
    `other_seeds` too.
    """
    if rough.verified or rough.serving is None:
        return rough
    deployment = rough.deployment
    length = run_length(scenario, queries, rough.idle_e2e_s, FULL_SPANS)
    load = make_load(scenario, deployment.config.max_model_len, seed, length)
    known: dict[int, Probe] = {}
    loads: dict[int, Load] = {}
    others: dict[int, list[Probe]] = {}

    def at(replicas: int) -> Probe:
        if replicas not in known:
            known[replicas] = Probe(replicas, True, load, run(deployment, scenario, load, replicas, seed))
        return known[replicas]

    def on(other: int, replicas: int) -> Probe:
        if other not in loads:
            loads[other] = make_load(scenario, deployment.config.max_model_len, other, length)
        outcome = run(deployment, scenario, loads[other], replicas, other)
        return Probe(replicas, True, loads[other], outcome, other)

    def holds(replicas: int) -> bool:
        if not at(replicas).met:
            return False
        if replicas not in others:
            others[replicas] = []
            pause = session_pause(deployment, scenario, load, at(replicas).outcome, replicas, seed)
            for other in other_seeds(seed) if pause is not None and pause.near else ():
                others[replicas].append(on(other, replicas))
                if not others[replicas][-1].met:
                    break
        return all(probe.met for probe in others[replicas])

    serving = rough.serving
    while not holds(serving) and serving < most:
        serving = min(serving + max(1, serving // 50), most)
    found = serving if holds(serving) else None
    # Below the floor nothing is chosen, fleet.min_replicas is the user's own; but it is shown what it would do.
    while found and found > least_serving(scenario) and holds(found - 1):
        found -= 1
    if found and found > 1:
        at(found - 1)
    tried = (*rough.probes, *known.values(), *(probe for probes in others.values() for probe in probes))
    obstacle = None if found else _too_few(tried, most, True, scenario)
    return Size(deployment, found, True, rough.idle_e2e_s, obstacle, tried)


def _too_few(probes: tuple[Probe, ...], most: int, bounded: bool, scenario: Scenario) -> Obstacle:
    """Why no size was found, with what the largest one breaks; `bounded`: no more than `most` replicas are allowed."""
    largest = max(probes, key=lambda probe: (probe.at, probe.full, not probe.met))
    bound = "fleet.max_gpus" if bounded and scenario.fleet.max_gpus is not None else ""
    return Obstacle(f"even {most} serving replicas are too few ({largest.broken()})", bound, bounded)


def _first_guess(deployment: Deployment, scenario: Scenario, load: Load) -> int:
    """Where to begin: replicas whose batches, in the fluid limit, stay within the strictest TPOT or ITL limit.

    With n requests decoding, one takes prefill_s + output · step_s(n) / n of the engine, and prefills stretch the time
    between its tokens to step_s(n) / (decoding's share of that). No prefix is taken to be cached. Only the length of
    the search depends on this.
    """
    span_s = float(load.arrival_s[-1] - load.arrival_s[0])
    if span_s <= 0:
        return 1
    cost = deployment.cost
    counted = typical(load)
    prompt, output = float(load.prompt_tokens[counted].mean()), float(load.output_tokens[counted].mean())
    context = prompt + output / 2
    n = np.arange(1, max(min(deployment.config.seats, int(deployment.kv.tokens / context)), 1) + 1)
    step_s = cost.tokens_s[n] + cost.requests_s[n] + cost.decode_attention_s + cost.decode_token_s * context * n
    prefill_s = prompt * float(cost.tokens_s[-1]) / (len(cost.tokens_s) - 1)
    request_s = prefill_s + output * step_s / n
    tpot_s = step_s / (1 - prefill_s / request_s)
    strictest = min((limit.limit_ms for limit in scenario.slo if limit.metric in ("tpot", "itl")), default=math.inf)
    allowed = (tpot_s * MS_PER_S <= strictest) | (n == 1)
    busy = load.requests / span_s * float(request_s[allowed].min())
    return max(1, math.floor(busy / deployment.candidate.options.data_parallel_size))


def _fewest(holds: Callable[[int], bool], first: int, least: int, most: int) -> int | None:
    """The smallest n in [least, most] with holds(n), where 1 ≤ least ≤ most; None if there is none.

    It searches as if `holds` grew with n; neighbours of the answer are settled by the caller.
    """
    low, n = least - 1, min(max(first, least), most)
    while not holds(n):  # outwards, in growing strides
        if n >= most:
            return None
        low, n = n, min(max(n + 1, math.ceil(n * 1.25)), most)
    high = n
    stride = max(1, high // 16)
    while high - low > 1:  # inwards: first near the end that held, then by halves
        middle = max(high - stride, (low + high) // 2) if stride else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        if holds(middle):
            high, stride = middle, stride * 2
        else:
            low, stride = middle, 0
    return high
