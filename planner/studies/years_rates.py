"""What changes each year where nobody says it, and which part of "a tenth of the cost every year" that is.

The rates are those of the source documents, read off the shipped cases that work them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from planner.economics.cases import shipped
from planner.provenance import Provenance
from planner.studies.simulated_cases import answer_case

HARDWARE_CASE, DECLINE_CASE = "hardware-trajectory", "cost-decline"
YEARLY = ("gpu_price_change", "speed_change", "traffic_change", "revenue_change")
Row = dict[str, Any]


@dataclass(frozen=True)
class YearlyChanges:
    """What changes in a year, as a share: −0.2 is a fifth less than the year before. None = not given.

    `gpu_price_change` of a GPU-hour, `speed_change` of the steps' speed, `traffic_change` of the peak rate,
    `revenue_change` of what a query earns.
    """

    gpu_price_change: float | None = None
    speed_change: float | None = None
    traffic_change: float | None = None
    revenue_change: float | None = None


class Settled(NamedTuple):
    """The same with a rate for each."""

    gpu_price_change: float
    speed_change: float
    traffic_change: float
    revenue_change: float


@cache
def hardware_gain_per_year() -> float:
    """What FLOP per USD gain in a year, as a share: the case hardware-trajectory's."""
    return float(answer_case(shipped(HARDWARE_CASE), {}).value("flop_per_usd.per_year"))


@cache
def stated_factor_per_year() -> float:
    """By how much a cost is stated to fall in a year: the case cost-decline's, one year ÷ the next."""
    found = answer_case(shipped(DECLINE_CASE), {})
    return float(found.value("year_1.cost") / found.value("year_2.cost"))


def settled(changes: YearlyChanges) -> Settled:
    """Every rate. The GPU's price falls as FLOP per USD grow, 1 ÷ (1 + gain) − 1, where neither price nor speed is
    given: a speed that is given may be that very gain. Whatever else is not given does not change.
    """
    price = changes.gpu_price_change
    if price is None:
        price = 0.0 if changes.speed_change is not None else 1.0 / (1.0 + hardware_gain_per_year()) - 1.0
    return Settled(price, changes.speed_change or 0.0, changes.traffic_change or 0.0, changes.revenue_change or 0.0)


def origins(changes: YearlyChanges, rates: Settled) -> list[Provenance]:
    """The rates that were not given, and what is taken to be so of every year."""
    gain = f"FLOP per USD grow {hardware_gain_per_year():.1%} a year ({_source(HARDWARE_CASE)})"
    why = {
        "gpu_price_change": f"{gain}, taken whole as a lower price of the same GPU",
        "speed_change": "not given: the engine's steps take as long as now, no gain of software is guessed",
        "traffic_change": "not given: the load stays",
        "revenue_change": "not given: a query earns what it earns now",
    }
    if changes.speed_change is not None:
        why["gpu_price_change"] = "not given beside a change of speed, which may be the same gain: the price stays"
    errs = {"speed_change": "pessimistic"}
    rows = [
        Provenance(
            f"years: {key}", "assumed", why[key], f"{getattr(rates, key):+.1%} a year", errs=errs.get(key, "unknown")
        )
        for key in YEARLY
        if getattr(changes, key) is None
    ]
    same = "each year is the same GPU, cheaper or faster: a new one has memory, bandwidth and FLOP in other proportions"
    paid = "the whole fleet is paid at its year's price: nothing is bound to an earlier, dearer one"
    kept = "model, engine, queries and service levels stay: no gain of smaller models is in it"
    return [
        *rows,
        Provenance("years: the GPU", "assumed", same, errs="unknown"),
        Provenance("years: the price paid", "assumed", paid, errs="optimistic"),
        Provenance("years: all else", "assumed", kept, errs="unknown"),
    ]


def decline(rows: Sequence[Row]) -> Row:
    """How the cost of a query falls in a year, and what is left of the stated fall.

    {years, stated {factor_per_year, source}, hardware {flop_per_usd_gain_per_year, source}, cost_per_year,
    gpu_price_per_year, gpus_per_query_per_year, beside_gpus_per_year, left_per_year}, each `_per_year` a factor, from
    year 0 to the last feasible one, `years` later; None where there are not two of them. The product of the three parts
    is cost_per_year: $/query = $ per GPU-hour, all in · GPU-hours per query + retrieval. `left_per_year` is what
    everything else must come to for the stated fall: cost_per_year · left_per_year = 1 ÷ factor_per_year.
    """
    stated = stated_factor_per_year()
    told: Row = {
        "stated": {"factor_per_year": stated, "source": _source(DECLINE_CASE)},
        "hardware": {"flop_per_usd_gain_per_year": hardware_gain_per_year(), "source": _source(HARDWARE_CASE)},
    }
    parts = ("cost_per_year", "gpu_price_per_year", "gpus_per_query_per_year", "beside_gpus_per_year", "left_per_year")
    held = [row for row in rows if row["feasible"] and row["usd_per_query"] is not None]
    if len(held) < 2 or held[0]["year"] != 0:
        return told | {"years": None, **dict.fromkeys(parts)}
    first, last = held[0], held[-1]
    count = last["year"]

    def per_year(before: float, after: float) -> float:
        return float((after / before) ** (1.0 / count))

    cost = per_year(first["usd_per_query"], last["usd_per_query"])
    price = per_year(*(row["usd_per_hour"] / row["gpus"] for row in (first, last)))
    gpus = per_year(*(row["gpus"] / row["peak_qps"] for row in (first, last)))
    return told | {
        "years": count,
        **dict(zip(parts, (cost, price, gpus, cost / price / gpus, 1 / stated / cost), strict=True)),
    }


def _source(case: str) -> str:
    return f"case {case}, {shipped(case).source.document.split(':')[0].split(',')[0]}"
