"""How much an answer moves with one input, and the value of that input at which it meets a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite

from scipy.optimize import brentq

STEP = 1e-6  # relative: central differences lose 1e-10 to rounding and 1e-12 to curvature
DOUBLINGS = 60  # of the reach on either side, where a range has no end
FIRST_REACH = 1 / 64  # of the given value

Answer = Callable[[float], float | None]


def elasticity(answer: Answer, at: float) -> float | None:
    """d ln answer ÷ d ln x at x = `at`, by a central difference.

    `answer` gives None where it does not exist. None where x or the answer is 0, or x cannot move both ways.
    """
    here, above, below = answer(at), answer(at * (1 + STEP)), answer(at * (1 - STEP))
    if at == 0 or not here or above is None or below is None:
        return None
    return (above - below) / (2 * STEP * here)


def solve(answer: Answer, target: float, at: float, least: float, most: float) -> float | None:
    """The x nearest to `at`, in steps of doubling, at which `answer(x)` = `target`; None if there is none.

    `least` and `most` are x's range, which may be open to infinity; the search goes outwards from `at`, so of several
    solutions the nearest bracket's is told.
    """

    def gap(x: float) -> float | None:
        value = answer(x)
        return None if value is None or not isfinite(value) else value - target

    start = gap(at)
    if start is None:
        return None
    if start == 0:
        return at
    for low, high in _brackets(at, least, most):
        left, right = gap(low), gap(high)
        if left is not None and right is not None and left * right <= 0:
            return float(brentq(lambda x: gap(x) or 0.0, low, high, xtol=abs(high) * 1e-15 + 1e-300, rtol=1e-14))
    return None


def _brackets(at: float, least: float, most: float) -> Iterator[tuple[float, float]]:
    """Intervals that lie ever further from `at`, by turns below and above it, up to the ends of the range."""
    low = high = at
    reach = (abs(at) or 1.0) * FIRST_REACH
    for _ in range(DOUBLINGS):
        below, above = max(least, low - reach), min(most, high + reach)
        if below <= least == 0:  # 0 itself may be excluded, and is never reached by halving
            below = low / 2
        if below < low:
            yield below, low
        if above > high:
            yield high, above
        low, high, reach = below, above, 2 * reach
    if least == 0 < low:
        yield 0.0, low
