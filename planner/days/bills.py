"""What the hours of a fleet cost, and one way to run it beside another, all on the same basis.

Three fleets are billed: the one that was run, a perfect scaler's, and a static one as large as the perfect scaler's
largest. What hangs on the users' queries (retrieval, answers from the response cache, that cache itself) is the same
in all three. Reserved shares and hardware that is owned are shares of one fleet in all three: the most replicas that
the scenario allows, since a contract is made once, whoever scales beneath it. Only where perfect and static need more
than that are theirs as large as they need. What a fleet runs beyond what is reserved is reckoned from the mean of an
hour for the fleet that was run, step by step for the perfect one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from planner.days.perfect import Perfect
from planner.economics import Prices, bought_per_query, cache_usd_per_day, following_usd
from planner.economics import Size as Fleet
from planner.units import HOURS_PER_DAY


@dataclass(frozen=True)
class Basis:
    """What every fleet is billed by. `bought_usd` [H] is what hangs on each hour's queries."""

    prices: Prices
    gpus_per_replica: int
    most: int  # replicas that reserved shares are shares of
    bought_usd: tuple[float, ...]


def bought_usd(prices: Prices, users: float, cached_share: float) -> float:
    """Of an hour of so many users' queries: what is bought by the query, and the response cache's own bill."""
    return bought_per_query(prices, 1.0 - cached_share) * users + cache_usd_per_day(prices) / HOURS_PER_DAY


def hour_usd(basis: Basis, hour: int, booked: Sequence[tuple[float, float]], most: int | None = None) -> float | None:
    """One hour of `booked` (replicas, share of the hour), whose reserved shares are of `most`; None without a price."""
    fleet = Fleet(serving=most or basis.most, spare=0, gpus_per_replica=basis.gpus_per_replica)
    usd = following_usd(fleet, basis.prices, [(replicas, share * HOURS_PER_DAY) for replicas, share in booked])
    return None if usd is None else usd / HOURS_PER_DAY + basis.bought_usd[hour]


def total(values: Sequence[float | None]) -> float | None:
    """The sum; None where one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def perfect_document(perfect: Perfect, basis: Basis) -> dict[str, Any]:
    """What the perfect scaler comes to, whose replicas by the hour are in the rows; and `static`, a fleet that is
    always as large as its largest: what an autoscaler is held against.
    """
    nothing = dict.fromkeys(("peak_replicas", "mean_replicas", "gpu_hours", "usd", "static"))
    if perfect.reason is not None:
        return {"levels": [], **nothing, "reason": perfect.reason}
    peak, hours = perfect.peak, range(len(perfect.hours))
    most = max(basis.most, peak)
    wanted = [perfect.mean(hour) for hour in hours]
    return {
        "levels": [
            {"rate_qps": level.users_qps, "reaching_qps": level.reaching_qps, "replicas": level.replicas}
            for level in perfect.levels
        ],
        "peak_replicas": peak,
        "mean_replicas": sum(wanted) / len(wanted),
        "gpu_hours": sum(wanted) * basis.gpus_per_replica,
        "usd": total([hour_usd(basis, hour, perfect.hours[hour], most) for hour in hours]),
        "static": {
            "replicas": peak,
            "gpu_hours": float(peak * len(wanted) * basis.gpus_per_replica),
            "usd": total([hour_usd(basis, hour, [(peak, 1.0)], most) for hour in hours]),
        },
        "reason": None,
    }


def beside_static(totals: dict[str, Any], perfect: dict[str, Any]) -> dict[str, Any] | None:
    """An autoscaled fleet beside the static one: `more_share` = its bill ÷ the static one's − 1, and
    `of_perfect_saving_share` = what it saves ÷ what the perfect scaler saves (below 0: it costs more), None where that
    saves nothing. By `basis`: usd, without a price gpu_hours. None where there is no static fleet to compare with.
    """
    static = perfect["static"]
    if static is None:
        return None
    basis = "gpu_hours" if None in (totals["usd"], static["usd"], perfect["usd"]) else "usd"
    ours, theirs, best = totals[basis], static[basis], perfect[basis]
    return {
        "basis": basis,
        "more_share": ours / theirs - 1.0 if theirs else None,
        "of_perfect_saving_share": (theirs - ours) / (theirs - best) if theirs - best > 1e-9 * theirs else None,
    }
