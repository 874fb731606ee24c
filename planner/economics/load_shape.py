"""What a fleet that followed the day would cost, beside the one that is on all day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, fsum

from planner.economics.checks import not_negative, positive
from planner.economics.cost import Prices, usd_per_hour
from planner.economics.demand import FLAT_DAY, Demand
from planner.economics.gpu_price import Paid
from planner.units import HOURS_PER_DAY, HOURS_PER_YEAR, S_PER_HOUR

ROUNDING = 1e-9  # 4 replicas at 0.75 of the load are 3, whatever the last bit says


@dataclass(frozen=True)
class Size:
    """A planned fleet: `serving` replicas hold the peak, `spare` ones may be lost, never fewer than `min_replicas`."""

    serving: int
    spare: int
    gpus_per_replica: int
    min_replicas: int = 1
    startup_s: float = 0.0

    def __post_init__(self) -> None:
        positive("serving", self.serving)
        positive("gpus_per_replica", self.gpus_per_replica)
        not_negative("fleet.spare_replicas", self.spare)
        not_negative("fleet.min_replicas", self.min_replicas)
        not_negative("fleet.startup_s", self.startup_s)

    @property
    def replicas(self) -> int:
        """Serving and spare."""
        return self.serving + self.spare


@dataclass(frozen=True)
class Static:
    """On all day. `usd_per_day` is of the fleet, without retrieval; None without a GPU price."""

    gpu_hours: float
    usd_per_day: float | None


@dataclass(frozen=True)
class Following:
    """As many replicas as each hour needs; `startup_gpu_hours` of the GPU-hours are paid before a replica serves."""

    gpu_hours: float
    usd_per_day: float | None
    startup_gpu_hours: float
    replicas: tuple[int, ...]


@dataclass(frozen=True)
class LoadShape:
    """Both fleets; `basis` says what the second rests on."""

    static: Static
    following: Following
    peak_replicas: int
    mean_replicas: float
    basis: str


def load_shape(size: Size, prices: Prices, demand: Demand) -> LoadShape:
    """The day of a static fleet and of one that follows the load.

        needed(h) = max(⌈serving · share of hour h⌉ + spare, min_replicas)
        booked(t) = most of needed in [t, t + startup_s], the day repeating itself

    so that a replica is started `startup_s` before it is needed, and not stopped for a dip shorter than that. Within
    an hour the load is taken to be even. What is not used is paid for as the parts of the price say.
    """
    needed = tuple(
        max(max(ceil(size.serving * of_peak - ROUNDING), 1) + size.spare, size.min_replicas)
        for of_peak in (FLAT_DAY if demand.model_day is None else demand.model_day)
    )
    booked = _booked(needed, size.startup_s / S_PER_HOUR)
    hours = fsum(replicas * share for replicas, share in booked)
    gpus = size.gpus_per_replica * size.replicas
    static_hours = float(gpus * HOURS_PER_DAY)
    following_hours = hours * size.gpus_per_replica
    return LoadShape(
        static=Static(static_hours, static_usd_per_day(gpus, prices)),
        following=Following(
            gpu_hours=following_hours,
            usd_per_day=following_usd(size, prices, booked),
            startup_gpu_hours=following_hours - sum(needed) * size.gpus_per_replica,
            replicas=needed,
        ),
        peak_replicas=max(needed),
        mean_replicas=fsum(needed) / HOURS_PER_DAY,
        basis=_basis(size, prices, demand),
    )


def _booked(needed: Sequence[int], startup_h: float) -> list[tuple[int, float]]:
    """(replicas, hours) that are paid for over the day.

    From a moment u into an hour, the next `startup_h` reach whole + 1 hours on, or one more where u is late enough.
    """
    whole = min(floor(startup_h), HOURS_PER_DAY)
    late = startup_h - floor(startup_h)
    pieces = []
    for hour in range(HOURS_PER_DAY):
        early = max(needed[(hour + ahead) % HOURS_PER_DAY] for ahead in range(whole + 1))
        pieces.append((early, 1 - late))
        pieces.append((max(early, needed[(hour + whole + 1) % HOURS_PER_DAY]), late))
    return pieces


def static_usd_per_day(gpus: int, prices: Prices) -> float | None:
    """What so many GPUs, on all day, cost without retrieval; None without a GPU price."""
    if prices.gpu_hour_usd is None:
        return None
    return HOURS_PER_DAY * usd_per_hour(gpus, prices.gpu_hour_usd, prices.compute_share, prices.staff_usd_per_year)


def following_usd(size: Size, prices: Prices, booked: Sequence[tuple[float, float]]) -> float | None:
    """The price's parts: paid all day, by the GPU-hours that run, or by those beyond what is reserved.

    Of a mix, a part that is paid all day has its share of the GPUs as its quantity: together they are reserved.
    """
    if prices.gpu_hour_usd is None:
        return None
    static_hours = float(size.replicas * size.gpus_per_replica * HOURS_PER_DAY)
    if not prices.parts:
        running = fsum(replicas * hours for replicas, hours in booked) * size.gpus_per_replica
        return running * prices.gpu_hour_usd / prices.compute_share
    scales = paid_scales(size, prices, booked)
    parts = fsum(scales[part.paid] * part.usd_per_gpu_hour for part in prices.parts) * static_hours
    return (parts + prices.staff_usd_per_year * HOURS_PER_DAY / HOURS_PER_YEAR) / prices.compute_share


def paid_scales(size: Size, prices: Prices, booked: Sequence[tuple[float, float]]) -> dict[Paid, float]:
    """How much of each kind of part is paid for, over what a fleet of `size` on all day would: `booked` is its day.

    always           1
    running          Σ replicas · hours ÷ (24 · size)
    beyond_reserved  Σ max(replicas − reserved, 0) · hours ÷ (24 · (size − reserved)), reserved the shares paid always
    """
    reserved = fsum(part.quantity for part in prices.parts if part.paid == "always") * size.replicas
    running = fsum(replicas * hours for replicas, hours in booked) / (size.replicas * HOURS_PER_DAY)
    beyond = fsum(max(replicas - reserved, 0.0) * hours for replicas, hours in booked)
    flexible = (size.replicas - reserved) * HOURS_PER_DAY
    return {"always": 1.0, "running": running, "beyond_reserved": beyond / flexible if flexible > 0 else 0.0}


def _basis(size: Size, prices: Prices, demand: Demand) -> str:
    carried = demand.peak_qps / size.serving
    paid = {
        "commitments": "; reserved capacity is paid for all day, the rest by the hours beyond it",
        "own": "; only energy is saved by hardware that is owned",
    }.get(prices.kind, "")
    if not paid and prices.parts:
        paid = "; the price is one of capacity that is paid for all day"
    return (
        f"assumed: a replica carries {carried:.3g} queries/s in a smaller fleet too, which shares its load less evenly "
        f"(optimistic); replicas are booked {size.startup_s:g} s ahead; spares included{paid}"
    )
