"""A mix of reserved, on-demand and spot capacity -> the price of a GPU-hour, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

from planner.economics.checks import positive, share
from planner.economics.gpu_price import PricePart
from planner.errors import InputError
from planner.provenance import Provenance
from planner.scenario.money import SHARES_OFF

_NAMES = {"reserved": "reserved", "on_demand": "on demand", "spot": "spot"}


@dataclass(frozen=True)
class Commitment:
    """`share` of a fleet's GPUs at a price of their own.

    `interruption_share`: of spot, the share of its paid hours that serve nothing, because the capacity was taken away
    or is starting again. To have one hour that serves, 1 ÷ (1 − interruption_share) are bought. None = not given.
    Raises InputError on values out of range, and on an interruption of what is not taken away.
    """

    kind: Literal["reserved", "on_demand", "spot"]
    share: float
    gpu_hour_usd: float
    interruption_share: float | None = None

    def __post_init__(self) -> None:
        share("prices.commitments.share", self.share)
        positive("prices.commitments.gpu_hour_usd", self.gpu_hour_usd)
        if self.interruption_share is None:
            return
        if self.kind != "spot":
            raise InputError("prices.commitments.interruption_share", self.interruption_share, "is of spot only")
        if not 0 <= self.interruption_share < 1:
            rule = "must be a share of at least 0 and below 1"
            raise InputError("prices.commitments.interruption_share", self.interruption_share, rule)


def mixed(commitments: Sequence[Commitment]) -> tuple[PricePart, ...]:
    """Σ share · gpu_hour_usd ÷ (1 − interruption_share), term by term; shares that do not add up raise InputError.

    Reserved capacity is paid for whether it is used or not. On-demand and spot capacity of a fleet that is on all day
    is paid for all day too; a fleet that follows the load first uses what it has reserved.
    """
    total = fsum(row.share for row in commitments)
    if abs(total - 1) > SHARES_OFF:
        raise InputError("prices.commitments", f"{total:g} in all", "the shares must add up to 1")
    return tuple(
        PricePart(
            what=f"{_NAMES[row.kind]}, {_percent(row.share)} of the GPUs{_bought(row)}",
            quantity=row.share / (1 - (row.interruption_share or 0.0)),
            unit="GPU-hour",
            unit_price_usd=row.gpu_hour_usd,
            paid="always" if row.kind == "reserved" else "beyond_reserved",
        )
        for row in commitments
    )


def assumed_mix(commitments: Sequence[Commitment]) -> tuple[Provenance, ...]:
    """What was not said of spot capacity, and what is never modelled of it."""
    rows = []
    for index, row in enumerate(commitments):
        key = f"prices.commitments[{index}]"
        if row.kind == "spot" and row.interruption_share is None:
            why = "not given: every paid hour of spot counted as serving"
            rows.append(Provenance(f"{key}.interruption_share", "assumed", why, "0", errs="optimistic"))
        if row.kind == "spot":
            why = "what is taken away is back at once: the latencies meanwhile are those of the whole fleet"
            rows.append(Provenance(f"{key}: service while spot is interrupted", "assumed", why, errs="optimistic"))
    return tuple(rows)


def _bought(row: Commitment) -> str:
    if not row.interruption_share:
        return ""
    return f", {_percent(row.interruption_share)} interrupted"


def _percent(value: float) -> str:
    text = f"{100 * value:.3g}"
    return f"{100 * value:.10g} %" if text == "100" and value < 1 else f"{text} %"
