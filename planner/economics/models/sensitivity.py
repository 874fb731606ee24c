"""How much an answer moves with one input, and the value of that input at which it meets a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import NamedTuple

from scipy.optimize import brentq

STEP = 1e-6  # relative: central differences lose 1e-10 to rounding and 1e-12 to curvature
WIDE_STEP = 0.01  # relative: what a reader tries; over a step of whole servers it differs from the narrow one
DISAGREE = 0.5  # of the larger of the two; what only bends stays below it
MEETS = 1e-9  # relative: how near to the target a root must come
DOUBLINGS = 60  # of the reach on either side, where a range has no end
FIRST_REACH = 1 / 64  # of the given value

Answer = Callable[[float], float | None]


def elasticity(answer: Answer, at: float) -> float | None:
    """d ln answer ÷ d ln x at x = `at`, by a central difference.

    `answer` gives None where it does not exist. None where x or the answer is 0, or x cannot move both ways; and where
    a step of 1 % tells something else than one of a millionth: the answer jumps there, as whole servers do.
    """
    here = answer(at)
    if at == 0 or not here:
        return None
    narrow, wide = (_slope(answer, at, here, step) for step in (STEP, WIDE_STEP))
    if narrow is None or wide is None:  # the wide step may leave the range where the narrow one does not
        return narrow
    return None if abs(narrow - wide) > DISAGREE * max(abs(narrow), abs(wide), STEP) else narrow


def _slope(answer: Answer, at: float, here: float, step: float) -> float | None:
    above, below = answer(at * (1 + step)), answer(at * (1 - step))
    return None if above is None or below is None else (above - below) / (2 * step * here)


class Solution(NamedTuple):
    """Where an answer meets a target. `at` is None where it does not; `jumps_over`: it goes past without meeting it."""

    at: float | None
    jumps_over: bool = False


def solve(answer: Answer, target: float, at: float, least: float, most: float) -> Solution:
    """The x nearest to `at`, in steps of doubling, at which `answer(x)` = `target` to 1e-9.

    `least` and `most` are x's range, which may be open to infinity; the search goes outwards from `at`, so of several
    solutions the nearest bracket's is told. An answer in steps, or one that does not exist in between, may pass the
    target without meeting it.
    """

    def gap(x: float) -> float | None:
        value = answer(x)
        return None if value is None or not isfinite(value) else value - target

    start = gap(at)
    if start is None:
        return Solution(None)
    if start == 0:
        return Solution(at)
    jumped = False
    for low, high in _brackets(at, least, most):
        left, right = gap(low), gap(high)
        if left is not None and right is not None and left * right <= 0:
            root = float(brentq(lambda x: gap(x) or 0.0, low, high, xtol=abs(high) * 1e-15 + 1e-300, rtol=1e-14))
            missed = gap(root)
            if missed is not None and abs(missed) <= MEETS * (abs(target) or abs(start)):
                return Solution(root)
            jumped = True
    return Solution(None, jumped)


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
