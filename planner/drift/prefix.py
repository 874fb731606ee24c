"""A prefix-cache hit rate imposed on the plan's queries: the shared prefix that makes it."""

from __future__ import annotations

from typing import NamedTuple

from planner.drift.model import Simulated
from planner.drift.queries import Shape, prefix_at

AS_PLANNED = 0.01  # of the looked-up tokens: nearer, nothing is changed
CLOSE, ROUNDS = 0.002, 9


class Imposed(NamedTuple):
    """Two shapes around a hit rate and the `place` between them; `expected` is that of the plan's own prefix.

    Hits come in whole blocks, so that a rate may lie between what two lengths of the prefix make.
    """

    low: Shape
    high: Shape
    place: float
    expected: float | None
    unchanged: bool
    note: str = ""

    @property
    def nearest(self) -> Shape:
        """The end that is nearer."""
        return self.high if self.place > 0.5 else self.low

    @property
    def tokens(self) -> tuple[float, ...]:
        """Shared tokens of each stage at the place itself."""
        low, high = self.low.prefix or (), self.high.prefix or ()
        return tuple(one + self.place * (other - one) for one, other in zip(low, high, strict=True))


def imposed(simulated: Simulated, shape: Shape, hit_rate: float, model_qps: float, replicas: int) -> Imposed:
    """The shared prefix with which queries of `shape` hit the cache as told, under the load that the fleet has."""
    told = round(hit_rate, 3)
    return simulated.kept(
        ("prefix", shape, told, model_qps, replicas), lambda: _search(simulated, shape, told, model_qps, replicas)
    )


def _search(simulated: Simulated, shape: Shape, told: float, model_qps: float, replicas: int) -> Imposed:
    def hits(of: Shape) -> float:
        return float(simulated.figures(of, model_qps, replicas)["prefix_cache_hit_rate"] or 0.0)

    expected = hits(shape)
    if abs(told - expected) <= AS_PLANNED:
        return Imposed(shape, shape, 0.0, expected, True)
    prompts = tuple(shape.prompt * mean for mean in simulated.stage_prompts)

    def at(place: float) -> Shape:
        return shape._replace(prefix=prefix_at(simulated.base, prompts, place))

    low, high = 0.0, 1.0
    below, above = hits(at(low)), hits(at(high))
    if told <= below or told >= above:
        end, reached = (at(low), below) if told <= below else (at(high), above)
        far = abs(told - reached) > AS_PLANNED
        said = "no" if told <= below else "the longest"
        note = f"with {said} shared prefix the hit rate is {reached:.3f}: the rest is not attributed" if far else ""
        return Imposed(end, end, 0.0, expected, False, note)
    for _ in range(ROUNDS):
        if min(told - below, above - told) <= CLOSE or at(low) == at(high):
            break
        middle = (low + high) / 2
        found = hits(at(middle))
        if found <= told:
            low, below = middle, found
        else:
            high, above = middle, found
    place = (told - below) / (above - below) if above > below else 0.0
    return Imposed(at(low), at(high), min(max(place, 0.0), 1.0), expected, False)
