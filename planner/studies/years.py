"""What a plan's money comes to in the years ahead: the fleet that was chosen, planned again with each year's load,
step time, GPU price and revenue.

Every year is the same model on the same GPU, cheaper and faster by a share a year. A new GPU is not a scaled old one:
its memory, bandwidth and FLOP grow in other proportions, and it is planned by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, NamedTuple

from planner.deployment import Deployment, Progress, default_queries
from planner.economics import Economics, Lost, Patience, Prices, RevenueModel, unit_economics
from planner.economics.amortisation import break_even_after_training
from planner.errors import InputError, ScenarioError
from planner.planning import plan
from planner.pricing import leaving, priced, revenue_model, training_of
from planner.provenance import with_origins
from planner.scenario import Scenario
from planner.simulation.outcome import Latencies
from planner.sizing import Sized, search
from planner.sizing.autoscaled import refuse_autoscaler
from planner.sizing.day import DayRuns
from planner.studies.chosen import pinned
from planner.studies.years_rates import YEARLY, YearlyChanges, decline, origins, settled
from planner.summary.years import years_text
from planner.units import MS_PER_S
from planner.workload import peak_and_day

FROM_PLAN = ("schema_version", "scenario", "seed", "feasible", "model", "fleet", "alternatives", "economics_notes")
MOST_YEARS = 50
MOST_FACTOR = 1e6  # that a rate may come to over all years, and 1 ÷ that at least
MOST_CHANGE = 10.0  # in a year
Row = dict[str, Any]


@dataclass(frozen=True)
class Years:
    """The answer of `years`: `document` has the plan's own fleet, and `years`, `rates`, `decline`, `provenance`."""

    document: dict[str, Any] = field(repr=False)

    @property
    def feasible(self) -> bool:
        """Whether any fleet holds the service levels in the year of the plan."""
        return bool(self.document["feasible"])

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return years_text(self.document)


def years(
    scenario: Scenario,
    count: int,
    changes: YearlyChanges,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> Years:
    """Plan the scenario, then what it chose again for each of the years 0 to `count`, all with the same seed.

    In year y a rate r has come to (1 + r)^y: of `traffic.peak_qps`, of the GPU's price (of owned hardware the capex:
    energy, hosting and staff stay), of what a query earns; all durations of the step cost are divided by that of the
    speed. A training bill stays and is spread over each year's own queries. Service levels, model and engine stay.

    A row of `years` is {year, factors, peak_qps, feasible, reason, gpus, replicas, gpu_hour_usd, usd_per_hour,
    usd_per_query, revenue_usd_per_query, margin_usd_per_query, margin_fraction, margin_after_training_usd_per_query,
    break_even_rpm_usd, break_even_rpm_after_training_usd, usd_per_query_at_stated_decline}; None: does not apply.
    Raises InputErrors: without a GPU price, a peak rate or an SLO, and for counts and rates out of range.
    """
    refuse_autoscaler(scenario, "the years are those of fleets of one size: its day is planner plan's")
    given, scenario = scenario, peak_and_day(scenario)
    _check(scenario, count, changes)
    rates = settled(changes)
    per_year = {key: getattr(rates, key) for key in YEARLY}
    for key, rate in per_year.items():
        if not 1 / MOST_FACTOR <= (1 + rate) ** count <= MOST_FACTOR:
            rule = f"comes to a factor of {(1 + rate) ** count:.3g} in {count} years; must stay within a million"
            raise InputError(key, rate, rule)
    document = plan(given, seed=seed, requests=requests, progress=progress, worlds=0).as_dict()
    answer: dict[str, Any] = {key: document[key] for key in FROM_PLAN}
    answer["rates"] = {key: {"per_year": per_year[key], "given": getattr(changes, key) is not None} for key in YEARLY}
    answer |= {"years": [], "decline": None, "provenance": document["provenance"]}
    if not document["feasible"]:
        return Years(answer)
    chosen = pinned(scenario, document)
    fleets = _Fleets(seed, requests)
    for year in range(count + 1):
        if progress is not None:
            progress("planning the years", year, count + 1)
        factors = {key: (1.0 + rate) ** year for key, rate in per_year.items()}
        answer["years"].append(_row(chosen, year, factors, fleets))
    told = decline(answer["years"])
    stated = told["stated"]["factor_per_year"]
    now = answer["years"][0]["usd_per_query"]
    for row in answer["years"]:
        row["usd_per_query_at_stated_decline"] = None if now is None else now * stated ** -row["year"]
    answer["decline"] = told
    answer["provenance"] = with_origins(document["provenance"], origins(changes, rates))
    return Years(answer)


def _check(scenario: Scenario, count: int, changes: YearlyChanges) -> None:
    prices = scenario.prices
    if prices.gpu_hour_usd is None and prices.commitments is None and prices.own is None:
        raise ScenarioError("prices.gpu_hour_usd", None, "is required: the years change what a GPU costs")
    if scenario.traffic.peak_qps is None:
        raise ScenarioError("traffic.peak_qps", None, "is required: a load that is given whole has no rate to change")
    if not 1 <= count <= MOST_YEARS:
        raise InputError("years", count, f"must be 1 to {MOST_YEARS}")
    for key in YEARLY:
        rate = getattr(changes, key)
        if rate is not None and not (isfinite(rate) and -1 < rate <= MOST_CHANGE):
            rule = f"must be above -1 and at most {MOST_CHANGE:g}: a share a year, -0.2 for a fifth less"
            raise InputError(key, rate, rule)


# --- one year ---


class _Fleet(NamedTuple):
    """The smallest fleet, or the reason why there is none; and who leaves it."""

    sized: Sized | None
    reason: str | None = None
    leaving: tuple[Patience, Lost] | None = None


@dataclass(frozen=True)
class _Fleets:
    """What was sized already: years that differ in money alone have one fleet."""

    seed: int
    requests: int | None
    known: dict[tuple[float, float], _Fleet] = field(default_factory=dict)

    def of(self, scenario: Scenario, speed: float) -> _Fleet:
        """The fleet of a scenario without lists, every step that many times as fast."""
        key = (scenario.traffic.peak_qps or 0.0, speed)
        if key not in self.known:
            self.known[key] = _sized(scenario, speed, self.seed, self.requests)
        return self.known[key]


def _sized(scenario: Scenario, speed: float, seed: int, requests: int | None) -> _Fleet:
    def faster(deployment: Deployment) -> Deployment:
        return replace(deployment, cost=deployment.cost.slower(1.0 / speed))

    found = search(scenario, seed, requests or default_queries(scenario), lambda what, done, total: None, faster)
    if found.chosen is None:
        return _Fleet(None, found.sized[0].size.reason if found.sized else found.rejected[0].reason)
    return _Fleet(found.chosen, None, _leaving(scenario, found.chosen, seed))


def _leaving(scenario: Scenario, sized: Sized, seed: int) -> tuple[Patience, Lost] | None:
    """Who leaves in a day, each hour with its own latencies, as in a plan."""
    serving = sized.replicas - sized.spare
    at_peak = sized.size.probe(serving).outcome
    e2e_s = float(at_peak.figures["e2e_ms"]["mean"]) / MS_PER_S
    day = DayRuns(sized.option.deployment, scenario, seed, e2e_s)

    def latencies_at(of_peak: float) -> Latencies:
        return at_peak.latencies if of_peak == 1 else day.at(of_peak, serving).latencies

    return leaving(scenario, sized.demand, latencies_at)


def _row(chosen: Scenario, year: int, factors: Mapping[str, float], fleets: _Fleets) -> Row:
    peak_qps = (chosen.traffic.peak_qps or 0.0) * factors["traffic_change"]
    scenario = chosen.with_values({"traffic.peak_qps": peak_qps})
    sized, reason, lost = fleets.of(scenario, factors["speed_change"])
    row: Row = {"year": year, "factors": dict(factors), "peak_qps": peak_qps, "feasible": sized is not None}
    row |= {"reason": reason, **dict.fromkeys(_FIGURES)}
    if sized is None:
        return row
    prices = _prices(scenario, sized, factors["gpu_price_change"])
    earns, training = revenue_model(scenario), training_of(scenario)
    if earns is not None:
        earns = _earning(earns, factors["revenue_change"])
    money = unit_economics(sized.gpus, prices, sized.demand, earns, leaving=lost, training=training)
    row |= _figures(money, prices) | {"gpus": sized.gpus, "replicas": sized.replicas}
    if training is not None:
        after = break_even_after_training(training, sized.gpus, prices, sized.demand, money.cost, money.revenue)
        row["break_even_rpm_after_training_usd"] = after.rpm_usd
    return row


_FIGURES = (
    *("gpus", "replicas", "gpu_hour_usd", "usd_per_hour", "usd_per_query", "revenue_usd_per_query"),
    *("margin_usd_per_query", "margin_fraction", "margin_after_training_usd_per_query"),
    *("break_even_rpm_usd", "break_even_rpm_after_training_usd", "usd_per_query_at_stated_decline"),
)


def _figures(money: Economics, prices: Prices) -> Row:
    cost, margin = money.cost, money.margin
    return {
        "gpu_hour_usd": prices.gpu_hour_usd,
        "usd_per_hour": None if cost is None else cost.usd_per_hour,
        "usd_per_query": None if cost is None else cost.usd_per_query,
        "revenue_usd_per_query": None if money.revenue is None else money.revenue.usd_per_query,
        "margin_usd_per_query": None if margin is None else margin.usd_per_query,
        "margin_fraction": None if margin is None else margin.fraction,
        "margin_after_training_usd_per_query": None if margin is None else margin.after_training_usd_per_query,
        "break_even_rpm_usd": money.break_even.rpm_usd,
    }


def _prices(scenario: Scenario, sized: Sized, factor: float) -> Prices:
    """The prices of a year: a rented GPU-hour times the factor, whatever it is made of; of an owned GPU its capex."""
    given, now = scenario.prices, sized.option.prices
    if given.own is not None:
        capex_usd = float(given.own.capex_usd_per_gpu) * factor
        changed = scenario.with_values({"prices.own.capex_usd_per_gpu": capex_usd})
        return priced(sized.option.deployment.candidate.gpu, changed).prices
    parts = tuple(replace(part, unit_price_usd=part.unit_price_usd * factor) for part in now.parts)
    return replace(now, gpu_hour_usd=(now.gpu_hour_usd or 0.0) * factor, parts=parts)


def _earning(earns: RevenueModel, factor: float) -> RevenueModel:
    """The same way to earn with every amount in USD times the factor."""
    amounts = {item.name: getattr(earns, item.name) for item in fields(earns) if "usd" in item.name}
    return replace(earns, **{name: value * factor for name, value in amounts.items() if value is not None})
