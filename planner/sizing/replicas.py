"""The fewest replicas that hold the service levels under a given load."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from planner.deployment import Deployment, make_load, run
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.sizing.probes import Probe, short_of

SHARED_GUESS = 0.5  # of a prompt that the prefix cache may hold: only where the search begins depends on it
IDLE_GAP_S = 1e5  # so far apart that no query ever meets another
MOST_REPLICAS = 20_000  # where no fleet.max_gpus is given


@dataclass(frozen=True)
class Size:
    """The fewest serving replicas of one deployment, or why there are none."""

    deployment: Deployment
    serving: int | None
    verified: bool  # by full-length runs of this size and the next smaller
    reason: str | None
    probes: tuple[Probe, ...] = field(repr=False)

    def probe(self, serving: int) -> Probe:
        """The longest run at that many serving replicas, which must have been run."""
        return max((probe for probe in self.probes if probe.at == serving), key=lambda probe: probe.full)

    @property
    def one_fewer(self) -> Probe | None:
        """The run of the next smaller fleet; None where there is none, or `fleet.min_replicas` forbids it."""
        if self.serving is None or all(probe.at != self.serving - 1 for probe in self.probes):
            return None
        return self.probe(self.serving - 1)


def least_serving(scenario: Scenario) -> int:
    """Serving replicas that `fleet.min_replicas` leaves beside the spare ones; at least 1."""
    return max(scenario.fleet.min_replicas - scenario.fleet.spare_replicas, 1)


def rough_size(deployment: Deployment, scenario: Scenario, seed: int, queries: int, most: int) -> Size:
    """The fewest replicas on short runs: close, and cheap enough to be found for every candidate."""
    steady = scenario.demand == "open"
    load = make_load(scenario, deployment.config.max_model_len, seed, short_of(queries) if steady else None)
    idle = _idle_probe(deployment, scenario, load, seed)
    if not idle.met:
        return Size(deployment, None, True, f"even an idle replica misses {idle.broken()}", (idle,))
    most = min(most, load.queries)  # more replicas than queries serve nobody
    probes: list[Probe] = []

    def holds(replicas: int) -> bool:
        probe = Probe(replicas, not steady, load, run(deployment, scenario, load, replicas, seed))
        probes.append(probe)
        return probe.met

    found = _fewest(holds, _first_guess(deployment, load), least_serving(scenario), most)
    if found is None:
        return Size(deployment, None, not steady, _too_few(probes, most, scenario), tuple(probes))
    return Size(deployment, found, not steady, None, tuple(probes))


def verified_size(rough: Size, scenario: Scenario, seed: int, queries: int, most: int) -> Size:
    """Settle a rough size on full-length runs: it holds with confidence, and one replica fewer does not."""
    if rough.verified or rough.serving is None:
        return rough
    deployment = rough.deployment
    load = make_load(scenario, deployment.config.max_model_len, seed, queries)
    probes = list(rough.probes)
    known: dict[int, Probe] = {}

    def at(replicas: int) -> Probe:
        if replicas not in known:
            known[replicas] = Probe(replicas, True, load, run(deployment, scenario, load, replicas, seed))
            probes.append(known[replicas])
        return known[replicas]

    serving = rough.serving
    while not at(serving).met:
        serving = serving + max(1, serving // 50)
        if serving > most:
            at(most)
            return Size(deployment, None, True, _too_few(probes, most, scenario), tuple(probes))
    # Below the floor nothing is tried: fleet.min_replicas is the user's own.
    while serving > least_serving(scenario) and at(serving - 1).met:
        serving -= 1
    if serving > 1:
        at(serving - 1)
    return Size(deployment, serving, True, None, tuple(probes))


def _too_few(probes: list[Probe], most: int, scenario: Scenario) -> str:
    """Why no size was found, with what the largest one breaks."""
    largest = max(probes, key=lambda probe: (probe.at, probe.full), default=None)
    breaks = f" ({largest.broken()})" if largest is not None else ""
    if scenario.fleet.max_gpus is None:
        return f"even {most} serving replicas are too few{breaks}"
    if most < least_serving(scenario):
        return f"fleet.max_gpus: {most} serving replicas are fewer than fleet.min_replicas asks for"
    return f"fleet.max_gpus: {most} serving replicas are too few{breaks}"


def _idle_probe(deployment: Deployment, scenario: Scenario, load: Load, seed: int) -> Probe:
    """The same queries one at a time on one replica: limits that fail here fail at any size."""
    arrival_s = IDLE_GAP_S * np.arange(load.queries, dtype=np.float64)
    alone = dataclasses.replace(load, arrival_s=arrival_s, clients=0, think_s=None, max_in_flight=0)
    return Probe(math.inf, False, alone, run(deployment, scenario, alone, 1, seed))


def _first_guess(deployment: Deployment, load: Load) -> int:
    """Offered work ÷ one replica's capacity, from the step cost alone: the smallest fleet worth trying.

    A decode costs at least its share of a full batch's step, a prompt its share of a full prefill step.
    """
    span_s = float(load.arrival_s[-1] - load.arrival_s[0])
    if span_s <= 0:
        return 1
    cost = deployment.cost
    prompt, output = float(load.prompt_tokens.mean()), float(load.output_tokens.mean())
    context = prompt + output / 2
    seats = max(min(deployment.config.seats, int(deployment.kv.tokens / context)), 1)
    step_s = float(cost.tokens_s[min(seats, len(cost.tokens_s) - 1)] + cost.requests_s[seats]) + cost.decode_attention_s
    per_output_token = step_s / seats + cost.decode_token_s * context
    per_prompt_token = float(cost.tokens_s[-1]) / (len(cost.tokens_s) - 1)
    work_s = load.requests * (output * per_output_token + (1 - SHARED_GUESS) * prompt * per_prompt_token)
    return max(1, math.floor(work_s / span_s / deployment.candidate.options.data_parallel_size))


def _fewest(holds: Callable[[int], bool], first: int, least: int, most: int) -> int | None:
    """The smallest n in [least, most] with holds(n), for a property that mostly grows with n; None if there is none."""
    low, n = max(least, 1) - 1, min(max(first, least, 1), most)
    if most < max(least, 1):
        return None
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
