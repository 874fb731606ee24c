"""What an hour of a GPU is made of, and which of it is paid for while the GPU is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

Paid = Literal["always", "running", "beyond_reserved"]
PriceKind = Literal["given", "rate_card", "commitments", "own"]


@dataclass(frozen=True)
class PricePart:
    """One part of the price: `quantity` [unit] for each GPU-hour of a fleet that is on all day.

    `paid`: "always", whether the GPU is on or not (reserved, bought); "running", by the hours that it is on;
    "beyond_reserved", by the hours for which the fleet is larger than its reserved part.
    """

    what: str
    quantity: float
    unit: str
    unit_price_usd: float
    paid: Paid

    @property
    def usd_per_gpu_hour(self) -> float:
        """What it adds to the price of a GPU-hour."""
        return self.quantity * self.unit_price_usd


def parts_usd(parts: Sequence[PricePart]) -> float:
    """The price of a GPU-hour: the sum of its parts."""
    return fsum(part.usd_per_gpu_hour for part in parts)
