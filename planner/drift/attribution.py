"""The departure of the cost per query from the plan, cause by cause; the parts add up to the whole.

A user's query costs c = r·u + B / (3600·q): retrieval at r for the share u of queries that reach the model, and the
fleet's bill of B = P·G an hour, at P for each of its G GPUs, over the users' q queries/s. With p for plan and a for
actual, and W = w(token lengths) · w(prefix hits) · uₐ/uₚ · w(step time), the work of a user's query beside the plan's:

    Fₐ/Fₚ = qₚ/qₐ · w(token lengths) · w(prefix hits) · uₐ/uₚ · w(step time) · Gₐ/(Gₚ·W) · Pₐ/Pₚ

Each factor's part is that of `logmean`; retrieval's, r·(uₐ − uₚ), is the response cache's. Where nobody tells the bill
it is taken at the plan's prices: price is then 1, exactly, and utilisation Bₐ/(Bₚ·W), which is Gₐ/(Gₚ·W) but for staff.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.drift.actual import Actual
from planner.drift.logmean import parts_of
from planner.drift.work import Work
from planner.planned import Planned
from planner.units import S_PER_HOUR


@dataclass(frozen=True)
class Attribution:
    """USD a query by cause, and of the whole; None = not known.

    `work` is W, the work of a user's query over the plan's. `unit_usd` is false where the plan has no price: figures
    are then GPU-hours a query, and only their shares told.
    """

    factors: dict[str, float]
    told: dict[str, bool]
    work: float
    parts: dict[str, float] | None
    planned_per_query: float
    actual_per_query: float | None
    unit_usd: bool

    @property
    def departure(self) -> float | None:
        """Actual less planned, over planned."""
        if self.actual_per_query is None:
            return None
        return self.actual_per_query / self.planned_per_query - 1.0


def attribution(planned: Planned, actual: Actual, work: Work) -> Attribution:
    """Every cause's part. Nothing is told of the whole where no query came or no replica answered."""
    unit_usd = planned.usd_per_hour is not None and planned.usd_per_hour > 0
    bill_planned = planned.usd_per_hour if unit_usd and planned.usd_per_hour else float(planned.gpus)
    bill = actual.usd_per_hour if unit_usd else actual.gpus
    retrieval = planned.retrieval_usd_per_query if unit_usd else 0.0
    rate = actual.queries_per_s
    response = actual.uncached_share / planned.uncached_share
    change = work.token_lengths.factor * work.prefix_hit_rate.factor * response * work.step_speed.factor
    factors = {
        "token_lengths": work.token_lengths.factor,
        "prefix_hit_rate": work.prefix_hit_rate.factor,
        "response_hit_rate": response,
        "step_speed": work.step_speed.factor,
    }
    told = {
        "traffic": rate is not None,
        "token_lengths": work.token_lengths.told,
        "prefix_hit_rate": work.prefix_hit_rate.told,
        "response_hit_rate": actual.hit_told,
        "step_speed": work.step_speed.told,
        "utilisation": bool(actual.gpus),
        "price": actual.price_told and unit_usd,
    }
    fleet = bill_planned / (S_PER_HOUR * actual.planned_qps)
    per_query = fleet + retrieval * planned.uncached_share
    if rate:
        factors = {"traffic": actual.planned_qps / rate} | factors
    if actual.gpus:
        size = actual.gpus / planned.gpus
        if bill:
            factors["price"] = bill / bill_planned / size if told["price"] else 1.0
            size = size if told["price"] else bill / bill_planned
        factors["utilisation"] = size / change
    if not rate or not actual.gpus or not bill:
        return Attribution(factors, told, change, None, per_query, None, unit_usd)
    parts = parts_of(fleet, factors)
    parts["response_hit_rate"] += retrieval * (actual.uncached_share - planned.uncached_share)
    now = bill / (S_PER_HOUR * rate) + retrieval * actual.uncached_share
    return Attribution(factors, told, change, parts, per_query, now, unit_usd)
