"""The economic page of a plan: cost, revenue, margin, break-even values and the day, from one fleet and one demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from planner.economics.abandonment import Lost, Patience, assumed_patience, net_of
from planner.economics.allocation import Allocation, allocation, following_allocation
from planner.economics.amortisation import (
    AfterTraining,
    Training,
    break_even_after_training,
    training_usd_per_query,
)
from planner.economics.checks import positive
from planner.economics.cost import (
    Cost,
    CostLine,
    Prices,
    all_in_gpu_hour_usd,
    bought_per_query,
    cost_lines,
    fleet_cost,
)
from planner.economics.demand import Demand, queries_by_hour
from planner.economics.earnings import RevenueModel, assumed_of, revenue_of
from planner.economics.margins import BreakEven, Margin, break_even, margin
from planner.economics.paid_hours import PaidHours, paid_prices, paid_usd_by_hour
from planner.economics.revenue import Revenue
from planner.economics.sales import Api
from planner.economics.subscription import Subscribers, Subscription, cost_to_serve
from planner.errors import InputError
from planner.provenance import Provenance
from planner.units import HOURS_PER_DAY


@dataclass(frozen=True)
class HourOfDay:
    """One hour: user queries (cached included), cost in $, busy ÷ elapsed time of the fleet. None = not known."""

    hour: int
    queries: float
    cost: float | None
    utilisation: float | None


@dataclass(frozen=True)
class Economics:
    """Everything the plan says about money. `cost` is None without a GPU price, `revenue` without a way to earn,
    `margin` without either; `notes` says each such absence in words, `lines` is a day's bill. `allocation` needs the
    utilisation; `training_usd_per_query` and `after_training` are there where there is a training bill, `subscribers`
    where there is a subscription.
    """

    cost: Cost | None
    revenue: Revenue | None
    margin: Margin | None
    break_even: BreakEven
    day: tuple[HourOfDay, ...]
    lines: tuple[CostLine, ...]
    notes: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    allocation: Allocation | None = None
    training_usd_per_query: float | None = None
    subscribers: Subscribers | None = None
    after_training: AfterTraining | None = None


def unit_economics(
    gpus: int,
    prices: Prices,
    demand: Demand,
    earns: RevenueModel | None = None,
    utilisation: Sequence[float] | None = None,
    *,
    leaving: tuple[Patience, Lost] | None = None,
    training: Training | None = None,
    paid: PaidHours | None = None,
) -> Economics:
    """The economics of `gpus` GPUs (spares included), on all day, under `demand`.

    `utilisation` gives the 24 hours' (see `utilisation_by_hour`); `leaving` how users wait and what they then leave
    (see `lost_queries`): revenue is net of it. Raises InputError on no GPUs and on a `utilisation` of another length.

    With `paid` the fleet is not on all day, and everything is of the replicas that are paid for:

        usd_per_hour = Σ over the hours of what their replicas cost (see `load_shape.following_usd`) ÷ 24

    and from it `usd_per_query`, margin and break-even values as ever. `lines` have the GPU-hours that are paid for;
    `break_even.gpu_hour_usd` is a price of a GPU-hour as `prices` has it, all its parts in proportion.
    """
    positive("gpus", gpus)
    if utilisation is not None and len(utilisation) != HOURS_PER_DAY:
        raise InputError("utilisation", f"{len(utilisation)} values", f"must hold {HOURS_PER_DAY}")
    served = _Served(demand, earns, utilisation, leaving, training)
    if paid is not None:
        return _following(gpus, prices, served, paid)
    return _economics(gpus, prices, served)


class _Served(NamedTuple):
    """What a fleet serves and earns, whatever its size and its price: see `unit_economics`."""

    demand: Demand
    earns: RevenueModel | None
    utilisation: Sequence[float] | None
    leaving: tuple[Patience, Lost] | None
    training: Training | None


def _following(gpus: int, prices: Prices, served: _Served, paid: PaidHours) -> Economics:
    """Of a fleet that comes and goes: that of one on all day at the prices of what is paid for, hour by hour."""
    demand, utilisation, running = served.demand, served.utilisation, paid_prices(prices, paid)
    found = _economics(paid.gpus, running, served, paid.gpu_hours)
    listed, now = all_in_gpu_hour_usd(gpus, prices), all_in_gpu_hour_usd(paid.gpus, running)
    scale = HOURS_PER_DAY * paid.gpus / paid.gpu_hours if listed is None or now is None else listed / now
    usd = paid_usd_by_hour(prices, paid)
    beside = found.day if usd is None else _hours(running, demand, found.cost, utilisation, usd)
    even, after = found.break_even, found.after_training
    notes = [*found.notes]
    if found.cost is not None:
        notes.append("break-even values: the replicas of each hour stay as they are, whatever the load")
    return replace(
        found,
        day=beside,
        break_even=replace(even, gpu_hour_usd=_times(even.gpu_hour_usd, scale)),
        after_training=None if after is None else replace(after, gpu_hour_usd=_times(after.gpu_hour_usd, scale)),
        notes=tuple(notes),
        allocation=(
            None
            if found.cost is None or utilisation is None or usd is None
            else following_allocation(prices, demand, found.cost, utilisation, paid, usd)
        ),
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _economics(gpus: int, prices: Prices, served: _Served, paid_gpu_hours: float | None = None) -> Economics:
    """Of a fleet of `gpus` at `prices`; `paid_gpu_hours` of a day are said to be paid for, all of them if None."""
    demand, earns, utilisation, leaving, training = served
    cost = fleet_cost(gpus, prices, demand)
    revenue = None if earns is None else revenue_of(earns, demand)
    if revenue is not None and leaving is not None:
        revenue = net_of(revenue, *leaving, demand.day_queries)
    trained = None if training is None else training_usd_per_query(training, demand)
    values, absences = break_even(gpus, prices, demand, cost, revenue)
    return Economics(
        cost=cost,
        revenue=revenue,
        margin=None if cost is None or revenue is None else margin(cost, revenue, trained),
        break_even=values,
        day=_hours(prices, demand, cost, utilisation),
        lines=cost_lines(gpus, prices, demand, paid_gpu_hours),
        notes=(
            *_notes(demand, cost, revenue, values),
            *absences,
            *_price_notes(prices),
            *_sales_notes(earns),
            *_training_note(training),
        ),
        provenance=(
            *(() if earns is None else assumed_of(earns, demand)),
            *(() if leaving is None else assumed_patience(leaving[0])),
            *(() if training is None else training.provenance),
        ),
        allocation=None if cost is None or utilisation is None else allocation(gpus, prices, demand, cost, utilisation),
        training_usd_per_query=trained,
        after_training=(
            None if training is None else break_even_after_training(training, gpus, prices, demand, cost, revenue)
        ),
        subscribers=(
            cost_to_serve(earns, demand, cost.usd_per_query)
            if isinstance(earns, Subscription) and cost is not None
            else None
        ),
    )


def _price_notes(prices: Prices) -> tuple[str, ...]:
    """What a bill may count twice."""
    if prices.staff_usd_per_year == 0 or prices.compute_share == 1:
        return ()
    return (
        "staff may be counted twice: as prices.own.staff_usd_per_year, and in what prices.compute_share "
        f"({prices.compute_share:g}) adds for network, storage and staff",
    )


def _sales_notes(earns: RevenueModel | None) -> tuple[str, ...]:
    reread = earns.usd_per_million_cached_input if isinstance(earns, Api) else None
    if not isinstance(earns, Api) or reread is None or reread <= earns.usd_per_million_input:
        return ()
    return (
        f"cached input is sold dearer (${reread:g} per million tokens) than other input "
        f"(${earns.usd_per_million_input:g}): are the two the wrong way round?",
    )


def _training_note(training: Training | None) -> tuple[str, ...]:
    if training is None:
        return ()
    return ("cost per query and the break-even values leave the training bill out; it stands beside them",)


def _hours(
    prices: Prices,
    demand: Demand,
    cost: Cost | None,
    utilisation: Sequence[float] | None,
    fleet_usd: Sequence[float] | None = None,
) -> tuple[HourOfDay, ...]:
    """A static fleet and a cache cost the same every hour, one that comes and goes `fleet_usd` of each; what is bought
    by the query follows the queries.
    """
    if fleet_usd is None and cost is not None:
        fleet_usd = (cost.usd_per_hour,) * HOURS_PER_DAY
    shares = (demand.uncached_share,) * HOURS_PER_DAY if demand.uncached_by_hour is None else demand.uncached_by_hour
    bought = [bought_per_query(prices, uncached) for uncached in shares]
    return tuple(
        HourOfDay(
            hour=hour,
            queries=queries,
            cost=None if fleet_usd is None else fleet_usd[hour] + prices.cache_usd_per_hour + bought[hour] * queries,
            utilisation=None if utilisation is None else float(utilisation[hour]),
        )
        for hour, queries in enumerate(queries_by_hour(demand.peak_qps, demand.day))
    )


def _notes(demand: Demand, cost: Cost | None, revenue: Revenue | None, values: BreakEven) -> tuple[str, ...]:
    notes = []
    if cost is None:
        notes.append("cost left out: no GPU price was given (prices.gpu_hour_usd)")
    else:
        notes.append(f"cost per query is stated at {demand.stated_at}, cached queries included")
        if cost.usd_per_million_tokens is None:
            notes.append("cost per million tokens left out: no tokens known, or no query reaches the model")
    if revenue is None:
        notes.append("margin left out: no revenue was given (revenue.ads, .subscription, .api or .per_word)")
    if values.qps is not None and values.qps > demand.peak_qps:
        notes.append("break-even qps lies above the load this fleet was sized for: it may not hold its latencies there")
    return tuple(notes)
