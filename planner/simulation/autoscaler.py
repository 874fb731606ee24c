"""How many replicas an autoscaler wants: numbers in, a number out.

The rule is that of Kubernetes' HorizontalPodAutoscaler for a metric with an average value, which KEDA hands it:

    wanted = ⌈total ÷ target⌉, unless |total ÷ (target · replicas) − 1| ≤ tolerance: then as many as there are
    up at once; down to the most that was wanted within the last `delay_s`

(kubernetes/pkg/controller/podautoscaler: `GetExternalPerPodMetricReplicas`, `stabilizeRecommendationWithBehaviors`.)
Replicas that start count as there, those that drain do not. What is then done is `fleet_scaling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from planner.units import HOURS_PER_DAY, S_PER_HOUR

Kind = Literal["queue", "utilisation", "requests", "schedule"]
ROUNDING = 1e-9  # 30 requests at 10 each are 3 replicas, whatever the last bit says


@dataclass(frozen=True)
class Rule:
    """When an autoscaler looks, what it wants, how long a start takes.

    `target` is the level of `kind` per replica; with kind "schedule" it says nothing, and `schedule` has the replicas
    of each hour of the day.
    """

    kind: Kind
    target: float
    least: int
    most: int
    interval_s: float
    delay_s: float
    tolerance: float
    startup_s: float
    schedule: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scaling:
    """A fleet that is watched for so many whole hours from time 0, and scaled where there is a `rule`."""

    hours: int
    rule: Rule | None = None


@dataclass(frozen=True)
class Wishes:
    """What an autoscaler wanted, and what came of its starts.

    `changes`: (s, replicas wanted) whenever it changed its mind; `held_back`: looks at which replicas were wanted that
    had no place beside those that still drained; `given_up`: starts stopped before they served; `unfinished`: starts
    under way when the last hour ended.
    """

    changes: tuple[tuple[float, int], ...] = ()
    held_back: int = 0
    given_up: int = 0
    unfinished: int = 0


def recommended(total: float, target: float, replicas: int, tolerance: float) -> int:
    """Replicas at which each has the target's share of `total`; as many as there are where that is nearly so."""
    if abs(total / (target * replicas) - 1.0) <= tolerance:
        return replicas
    return math.ceil(total / target - ROUNDING)


def scheduled(schedule: tuple[int, ...], t: float) -> int:
    """Replicas of the hour of the day that time t, in seconds from midnight, lies in."""
    return schedule[int(t / S_PER_HOUR) % HOURS_PER_DAY]


def stabilised(wish: int, replicas: int, recent: Iterable[int]) -> int:
    """`wish` where that is more than there are, at once; else the most of it and of what was `recent`ly recommended,
    but no more than there are.
    """
    return wish if wish >= replicas else min(max(wish, *recent, 0), replicas)
