"""What limits an idle fleet in every draw: each latency of a fleet without load is a sum over terms of the step cost.

Nobody waits in an idle fleet, so that its latencies are linear in what each term takes. A term's part is found by a
short run with it a little dearer, and the latency in any world is then

    latency = planned + Σ part of a term · (product of the world's factors on its drivers − 1)

TTFT and the other latencies hang on other terms (a prompt's kernels, one engine step for each token), and neither
follows the mean busy time of an engine under load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, World
from planner.simulation.outcome import Outcome

F64 = NDArray[np.float64]
Shares = Mapping[str, float]  # limit: the latency over it
DEARER = 0.1  # of a term, to find its part
LEAST = 1e-3  # of the planned latency: no factor on one is less


class IdleFactors(NamedTuple):
    """On the worst TTFT and on the worst other latency of an idle fleet, shape [worlds] each; `runs` it took.

    None where no limit is of that kind.
    """

    ttft: F64 | None
    others: F64 | None
    runs: int


def shares_of(outcome: Outcome) -> dict[str, float]:
    """Each judged latency over its limit, by the limit's name; 0 where there is none."""
    return {check.key: 0.0 if check.value_ms is None else check.value_ms / check.limit_ms for check in outcome.checks}


def worst(shares: Shares, *, ttft: bool) -> float:
    """The largest share of the limits on TTFT, or of the others; 0 where there are none."""
    return max((share for key, share in shares.items() if ("_ttft_" in key) == ttft), default=0.0)


def idle_factors(
    deployment: Deployment, worlds: Sequence[World], planned: Shares, measure: Callable[[Deployment], Shares]
) -> IdleFactors:
    """Factors in each world on the worst latencies that `planned`, the shares in the nominal world, are of.

    `measure` simulates an idle fleet: once for each set of drivers.
    """
    drivers = {name: np.array([world.factors[name] for world in worlds]) for name in deployment.breakdown.drivers}
    change = {key: np.zeros(len(worlds)) for key in planned}
    groups = dict.fromkeys(term.drivers for term in deployment.breakdown.terms)
    for group in groups:
        factor = prod((drivers[name] for name in group), start=np.ones(len(worlds)))
        dearer = measure(_dearer(deployment, group))
        for key, share in planned.items():
            change[key] += (dearer[key] - share) / DEARER * (factor - 1.0)

    def of(*, ttft: bool) -> F64 | None:
        shares = [
            np.maximum(share + change[key], LEAST * share)
            for key, share in planned.items()
            if ("_ttft_" in key) == ttft
        ]
        nominal = worst(planned, ttft=ttft)
        return np.asarray(np.max(shares, axis=0) / nominal) if nominal > 0.0 else None

    return IdleFactors(of(ttft=True), of(ttft=False), len(groups))


def _dearer(deployment: Deployment, group: tuple[str, ...]) -> Deployment:
    """The deployment with the terms of one set of drivers dearer by `DEARER`."""
    terms = tuple(term for term in deployment.breakdown.terms if term.drivers == group)
    part, cost = vars(replace(deployment.breakdown, terms=terms).cost()), deployment.cost
    durations = {name: value + DEARER * part[name] for name, value in vars(cost).items() if name != "window"}
    return replace(deployment, cost=replace(cost, **durations))
