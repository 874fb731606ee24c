"""The logarithmic-mean Divisia index: what each factor of a product adds to its change, without a rest.

A cost F = Π xᵢ goes from Fₚ to Fₐ. Cause i makes L(Fₐ, Fₚ) · ln(xᵢₐ / xᵢₚ) of it, with the logarithmic mean
L(a, b) = (a − b) / ln(a / b), L(a, a) = a. The parts add up to Fₐ − Fₚ whatever the factors are, no part depends on
their order, and exchanging plan and truth turns every sign.
B. W. Ang, "The LMDI approach to decomposition analysis: a practical guide", Energy Policy 33 (2005), 867-871.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def log_mean(one: float, other: float) -> float:
    """L(one, other) of two positive numbers, exact also where they are nearly equal."""
    ratio = math.log(one / other)
    return other if ratio == 0.0 else other * math.expm1(ratio) / ratio


def parts_of(before: float, factors: Mapping[str, float]) -> dict[str, float]:
    """What each of the positive `factors` adds where `before` becomes before · Π factors; they add up to the change."""
    logs = {name: math.log(factor) for name, factor in factors.items()}
    mean = log_mean(before * math.exp(math.fsum(logs.values())), before)
    return {name: mean * log for name, log in logs.items()}
