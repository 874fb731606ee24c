"""The chosen fleet's day with its autoscaler: the replicas of each hour, what they cost, whether the limits held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from planner.deployment import Deployment, Progress
from planner.deployment.autoscaled import refuse_scaled_sessions
from planner.deployment.day_rows import few_queries_note
from planner.deployment.days import first_replicas, run_days
from planner.economics import PaidHours, Prices, committed_replicas, paid_usd_by_hour
from planner.economics.load_shape import static_usd_per_day
from planner.errors import UnsupportedError
from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.summary.words import percent, plural
from planner.units import HOURS_PER_DAY
from planner.workload import Rates

JUDGED = "each hour is judged by its own figures, the planned fleet by the upper end of its interval at the peak"
RANKED = "the planned fleet and the other candidates are compared as fleets that are on all day"
OFF = "--set fleet.autoscaler=null"
ELASTIC = "as many pods as wanted start and stop at once, and a node with free GPUs is always there"


@dataclass(frozen=True)
class ScaledDay:
    """Hours of a fleet that an autoscaler starts and stops, `rows` as `run_days` has them, one or several days.

    `paid` is the part of it that money rests on, `planned` the replicas that hold the peak, `first` those at midnight.
    """

    rows: Sequence[dict[str, Any]] = field(repr=False)
    rates: Rates = field(repr=False)
    paid: PaidHours
    planned: int
    first: int
    whole: bool  # all days of the rates; else their mean day stands for them

    @property
    def utilisation(self) -> tuple[float, ...]:
        """Of each hour of the day, busy ÷ paid seconds over all its days."""
        shares = []
        for hour in range(HOURS_PER_DAY):
            rows = self.rows[hour::HOURS_PER_DAY]
            paid = fsum(row["paid_replicas"] for row in rows)
            busy = fsum((row["utilisation"] or 0.0) * row["paid_replicas"] for row in rows)
            shares.append(busy / paid if paid else 0.0)
        return tuple(shares)

    @property
    def peak_replicas(self) -> int:
        """The most that served at one time."""
        return max(int(row["replicas"]["max"]) for row in self.rows)

    @property
    def missed(self) -> list[dict[str, Any]]:
        """Hours in which a limit was broken."""
        return [row for row in self.rows if row["slo_met"] is False]


def refuse_autoscaler(scenario: Scenario, rule: str) -> None:
    """Raise UnsupportedError with this rule where the scenario has an autoscaler."""
    if scenario.fleet.autoscaler is not None:
        raise UnsupportedError("fleet.autoscaler", None, rule, OFF)


def refuse_beside_autoscaler(scenario: Scenario) -> None:
    """Raise UnsupportedError for what a plan's day with an autoscaler does not carry; nothing without one."""
    if scenario.fleet.autoscaler is None:
        return
    if scenario.demand != "open":
        rule = "has no hours that fleet.autoscaler could follow: it needs open arrivals (poisson, constant, gamma)"
        raise UnsupportedError("traffic.arrivals", scenario.demand, rule, OFF)
    refuse_scaled_sessions(scenario)
    if scenario.revenue is not None and scenario.revenue.abandonment is not None:
        metric = scenario.revenue.abandonment.metric
        rule = "users leave by the latencies of a fleet of one size: beside fleet.autoscaler it is not supported yet"
        raise UnsupportedError("revenue.abandonment", metric, rule, OFF)


def scaled_day(
    deployment: Deployment,
    scenario: Scenario,
    prices: Prices,
    planned: int,
    ways: Sequence[Rates],
    seed: int,
    progress: Progress,
) -> ScaledDay:
    """Run the day of `scenario`, whose autoscaler begins at midnight with `fleet.replicas`, else its schedule's own
    number, else the `planned` ones. `ways` are rates to run it under, the first that is not too long.

    Raises UnsupportedError where even the last is.
    """
    scaler = scenario.fleet.autoscaler
    if scaler is not None and scaler.schedule is None and scenario.fleet.replicas is None:
        scenario = scenario.with_values({"fleet.replicas": planned})
    for number, rates in enumerate(ways):
        try:
            run = run_days(deployment, scenario, rates, seed, progress)
        except UnsupportedError as error:
            if error.key != "days":
                raise
            if number + 1 == len(ways):
                raise UnsupportedError("fleet.autoscaler", "one day of it", error.rule, error.nearest) from None
            continue
        break
    hours = [float(row["paid_replicas"]) for row in run.rows]
    by_day = tuple(tuple(hours[at : at + HOURS_PER_DAY]) for at in range(0, len(hours), HOURS_PER_DAY))
    most = max(math.ceil(max(hours) - 1e-9), *(int(row["replicas"]["max"]) for row in run.rows))
    paid = PaidHours(committed_replicas(prices, planned, most), deployment.gpus_per_replica, by_day)
    return ScaledDay(run.rows, rates, paid, planned, first_replicas(scenario), number == 0)


def scaled_origins(scenario: Scenario) -> list[Provenance]:
    """What is taken for granted of the scenario's autoscaler; nothing without one."""
    if scenario.fleet.autoscaler is None:
        return []
    rows = [Provenance("fleet.autoscaler", "assumed", ELASTIC, errs="optimistic")]
    if "startup_s" not in scenario.fleet.model_fields_set:
        value = f"{scenario.fleet.startup_s:g} s"
        rows.append(Provenance("fleet.startup_s", "assumed", "not given", value, errs="unknown"))
    return rows


def scaled_document(day: ScaledDay, prices: Prices) -> dict[str, Any]:
    """`autoscaler` of a plan. USD are the fleet's alone, without retrieval; None without a GPU price.

    {days, peak_replicas, mean_paid_replicas, gpu_hours_per_day, usd_per_day, static {replicas, gpu_hours_per_day,
    usd_per_day}, slo_hours_share, few_queries_hours, goodput_share, hours [{hour, rate_qps, queries, paid_replicas,
    utilisation, slo_met, missed [limits], few_queries [limits]}], notes}. `static` is the planned fleet on all day,
    `hours` count on through all days, `few_queries` as in a row of `simulate --days`.
    """
    rows, rates = day.rows, day.rates.by_hour()
    judged = [row["slo_met"] for row in rows if row["slo_met"] is not None]
    queries = sum(row["queries"] for row in rows)
    good = fsum(row["queries"] * (row["goodput_share"] or 0.0) for row in rows)
    usd = paid_usd_by_hour(prices, day.paid)
    gpus = day.planned * day.paid.gpus_per_replica
    return {
        "days": len(rows) // HOURS_PER_DAY,
        "peak_replicas": day.peak_replicas,
        "mean_paid_replicas": day.paid.mean_replicas,
        "gpu_hours_per_day": day.paid.gpu_hours,
        "usd_per_day": None if usd is None else fsum(usd),
        "static": {
            "replicas": day.planned,
            "gpu_hours_per_day": float(gpus * HOURS_PER_DAY),
            "usd_per_day": static_usd_per_day(gpus, prices),
        },
        "slo_hours_share": sum(judged) / len(judged) if judged else None,
        "few_queries_hours": sum(bool(row["few_queries"]) for row in rows),
        "goodput_share": good / queries if queries else None,
        "hours": [
            {
                "hour": row["hour"],
                "rate_qps": float(qps),
                "queries": row["queries"],
                "paid_replicas": row["paid_replicas"],
                "utilisation": row["utilisation"],
                "slo_met": row["slo_met"],
                "missed": [check["key"] for check in row["slo"] if not check["met"]],
                "few_queries": row["few_queries"],
            }
            for row, qps in zip(rows, rates, strict=True)
        ],
        "notes": _notes(day),
    }


def scaled_warnings(day: ScaledDay, prices: Prices) -> list[str]:
    """What must be known before the fleet's money is believed: hours without the service level, and a dearer fleet."""
    lines, usd = [], paid_usd_by_hour(prices, day.paid)
    if day.missed:
        worst = sorted({check["key"] for row in day.missed for check in row["slo"] if not check["met"]})
        few = sum(all(check["met"] or check["key"] in row["few_queries"] for check in row["slo"]) for row in day.missed)
        thin = f"; {few} of these hours broke them by fewer queries than they need" if few else ""
        lines.append(
            f"fleet.autoscaler: limits break in {len(day.missed)} of {len(day.rows)} hours ({', '.join(worst)}): "
            f"the plan's {plural(day.planned, 'replica')} hold the peak, and the autoscaler does not always run so "
            f"many{thin}"
        )
    static = static_usd_per_day(day.planned * day.paid.gpus_per_replica, prices)
    if usd is not None and static is not None and fsum(usd) > static:
        lines.append(
            f"fleet.autoscaler: costs {percent(fsum(usd) / static - 1)} more than the plan's "
            f"{plural(day.planned, 'replica')} on all day: {day.paid.mean_replicas:.1f} are paid for on average"
        )
    return lines


def _notes(day: ScaledDay) -> list[str]:
    lines = [f"begins at midnight with {plural(day.first, 'replica')}", JUDGED, *few_queries_note(day.rows), RANKED]
    turned_away = sum(row.get("rejected", 0) for row in day.rows)
    if turned_away:
        lines.append(f"{plural(turned_away, 'query')} found no room (fleet.admission), and failed")
    if not day.whole:
        lines.append("the file of traffic.rates makes too many model calls to be simulated whole: its mean day was run")
    if day.paid.replicas > day.planned:
        lines.append(
            f"all capacity is paid for all day, so it is that of the {day.paid.replicas} replicas that ran at most, "
            f"not of the {day.planned} planned ones"
        )
    return lines
