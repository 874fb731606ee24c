"""What a scenario leaves unsaid and every cost of a query rests on: the day, the arrivals, what is paid beside GPUs;
and that queries which fail are reckoned with like those which are answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from planner.pricing.earnings import patience_of
from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.summary.words import percent
from planner.workload import closing_row


def assumed_demand(scenario: Scenario) -> Iterator[Provenance]:
    """The load of the day, how queries arrive, and the spare replicas, where the scenario does not say."""
    traffic = scenario.traffic
    if traffic.rates is not None:
        file, told = PurePath(traffic.rates.file).name, traffic.peak_qps is None
        why = f"{file}: the peak is its highest step, the day the mean of its days, hour by hour"
        why += f"; {unused}" if told and (unused := closing_row(scenario)) else ""
        beside = f"{file}: not read, the peak and the day beside it stand"
        yield Provenance("traffic.rates", "assumed", why if told else beside, errs="unknown")
    elif traffic.peak_qps is None:
        yield _optimistic("traffic: load of the day", "the run's own rate, kept up for 24 hours")
    elif "day" not in traffic.model_fields_set:
        why = "not given: the peak for 24 hours; quiet hours would make a query dearer"
        yield _optimistic("traffic.day", why, "flat")
    if scenario.demand == "open" and "arrivals" not in traffic.model_fields_set:
        why = "not given: users who come independently of each other; bursts would wait longer"
        yield _optimistic("traffic.arrivals", why, str(traffic.arrivals))
    if "spare_replicas" not in scenario.fleet.model_fields_set:
        why = "not given: no replica in reserve for one that fails or restarts"
        yield _optimistic("fleet.spare_replicas", why, str(scenario.fleet.spare_replicas))


def assumed_prices(scenario: Scenario) -> Iterator[Provenance]:
    """What is paid beside the GPUs, where the scenario does not say, and the exchange rates that it states."""
    prices = scenario.prices
    priced = _priced(scenario)
    if priced and "retrieval_usd_per_query" not in prices.model_fields_set:
        why = "not given: no search or grounding is paid for"
        yield _optimistic("prices.retrieval_usd_per_query", why, f"{prices.retrieval_usd_per_query:g} USD")
    if priced and "compute_share" not in prices.model_fields_set:
        why = "not given: nothing is paid beside the GPUs, such as network, storage, staff on call"
        yield _optimistic("prices.compute_share", why, f"{prices.compute_share:g}")
    for code, rate in (prices.exchange_rates or {}).items():
        why = "the scenario's own rate, for every amount in that currency; it has no date"
        value = f"{rate:g} {code} per USD"
        yield Provenance(f"prices.exchange_rates.{code}", "assumed", why, value, errs="unknown")


def failing_leave(scenario: Scenario) -> bool:
    """Whether a query that fails at the peak earns nothing: its latency is endless, and `revenue.abandonment` has
    users leave who wait.
    """
    patience = patience_of(scenario)
    return patience is not None and patience.per_100ms > 0


def assumed_answered(scenario: Scenario, failed_share: float, leave: bool) -> Iterator[Provenance]:
    """Queries that fail, and that a plan's money takes for answered ones; nothing where none fails, or without money.

    `failed_share` is of the queries that reach the model; `leave`: revenue is without them.
    """
    if failed_share <= 0 or (scenario.revenue is None and not _priced(scenario)):
        return
    why = "counted among the queries that the bill is divided by"
    if scenario.revenue is not None and not leave:
        why = "counted as earning, and among the queries that the bill is divided by"
    yield _optimistic("queries that fail", why, percent(failed_share))


def _priced(scenario: Scenario) -> bool:
    prices = scenario.prices
    return prices.gpu_hour_usd is not None or prices.commitments is not None or prices.own is not None


def _optimistic(what: str, why: str, value: str = "") -> Provenance:
    return Provenance(what, "assumed", why, value, errs="optimistic")
