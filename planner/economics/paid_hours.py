"""A fleet that an autoscaler starts and stops: the replicas that are paid for by the hour -> its price and its bill.

Every formula of a bill stays that of a fleet of fixed size, `gpus` of them on all day. Here the *price* is made one of
the GPU-hours that are paid for: each part of it by as much of the day as it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum

from planner.economics.checks import not_negative, positive
from planner.economics.cost import Prices
from planner.economics.gpu_price import PricePart, parts_usd
from planner.economics.load_shape import Size, following_usd, paid_scales
from planner.errors import InputError
from planner.units import HOURS_PER_DAY

AS_RUN = "GPUs, as the autoscaler runs them"


@dataclass(frozen=True)
class PaidHours:
    """Replicas that are paid for, the mean of each hour: [days][24]; what is paid for all day is shares of `replicas`
    (see `committed_replicas`). Within an hour capacity beyond the reserved one is taken to be even (optimistic).

    Raises InputError on days that are not 24 hours, and on a day without any replica.
    """

    replicas: int
    gpus_per_replica: int
    by_day: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        positive("replicas", self.replicas)
        positive("gpus_per_replica", self.gpus_per_replica)
        if not self.by_day or any(len(day) != HOURS_PER_DAY for day in self.by_day):
            raise InputError("paid hours", f"{len(self.by_day)} days", f"must be days of {HOURS_PER_DAY} hours")
        for day in self.by_day:
            for hour, replicas in enumerate(day):
                not_negative(f"paid replicas of hour {hour}", replicas)
            positive("paid replicas of a day", fsum(day))

    @property
    def size(self) -> Size:
        """The fleet that is committed to: what is paid for all day is a share of it."""
        return Size(self.replicas, 0, self.gpus_per_replica)

    @property
    def gpus(self) -> int:
        """GPUs of that fleet."""
        return self.replicas * self.gpus_per_replica

    @property
    def mean_replicas(self) -> float:
        """Replicas paid for on average."""
        return fsum(map(fsum, self.by_day)) / (len(self.by_day) * HOURS_PER_DAY)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of a day that run, and are paid for."""
        return self.mean_replicas * HOURS_PER_DAY * self.gpus_per_replica

    @property
    def by_hour(self) -> tuple[float, ...]:
        """Of each hour of the day, the mean of the days."""
        return tuple(fsum(hours) / len(self.by_day) for hours in zip(*self.by_day, strict=True))

    @property
    def booked(self) -> list[tuple[float, float]]:
        """(replicas, hours): a day of 24 hours in all."""
        return [(replicas, 1.0 / len(self.by_day)) for day in self.by_day for replicas in day]


def committed_replicas(prices: Prices, planned: int, most: int) -> int:
    """The fleet that what is paid for all day is a share of: the planned one, of `planned` replicas.

    Where nothing can be had beyond it, as where all is reserved or owned, the `most` that ever ran, if they are more.
    """
    elastic = not prices.parts or any(part.paid == "beyond_reserved" for part in prices.parts)
    return planned if elastic else max(planned, most)


def paid_prices(prices: Prices, paid: PaidHours) -> Prices:
    """The prices with each part of a GPU-hour by as much of the day as it is paid for (see `load_shape.paid_scales`).

    A fleet of `paid.gpus`, on all day at these, costs what `paid` does at `prices`. Staff and what is bought beside the
    GPUs stay. Without a GPU price the same prices.
    """
    if prices.gpu_hour_usd is None:
        return prices
    scales = paid_scales(paid.size, prices, paid.booked)
    parts = prices.parts or (PricePart(AS_RUN, 1.0, "GPU-hour", prices.gpu_hour_usd, "running"),)
    scaled = tuple(replace(part, quantity=scales[part.paid] * part.quantity) for part in parts)
    kept = tuple(part for part in scaled if part.quantity > 0)
    return replace(prices, gpu_hour_usd=parts_usd(kept), parts=kept)


def paid_usd_by_hour(prices: Prices, paid: PaidHours) -> tuple[float, ...] | None:
    """The fleet's bill of each hour, the mean of the days; None without a GPU price. They add up to the day's."""
    if prices.gpu_hour_usd is None:
        return None
    days = []
    for day in paid.by_day:
        hours = [following_usd(paid.size, prices, [(replicas, float(HOURS_PER_DAY))]) or 0.0 for replicas in day]
        days.append([usd / HOURS_PER_DAY for usd in hours])
    return tuple(fsum(hours) / len(days) for hours in zip(*days, strict=True))


def billed_replicas(prices: Prices, paid: PaidHours) -> tuple[float, ...]:
    """Of each hour, the replicas that are paid for whether they run or not, and those that run beyond them."""
    held = min(fsum(part.quantity for part in prices.parts if part.paid == "always"), 1.0) * paid.replicas
    days = [[max(replicas, held) for replicas in day] for day in paid.by_day]
    return tuple(fsum(hours) / len(days) for hours in zip(*days, strict=True))
