"""Service levels of some queries of a run: those before, during and after something that was done to its fleet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.scenario import Scenario
from planner.simulation.fleet_record import LOST, FleetRun
from planner.simulation.limits import good_queries, held_among, stretches
from planner.simulation.outcome import Latencies, Outcome
from planner.simulation.quantiles import quantile
from planner.simulation.service import only
from planner.specs import Limit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
PERCENTILES = (50.0, 99.0)
BEYOND = 10  # queries of a stretch that are above its percentile: fewer, and the percentile is chance
LEAST_STRETCH = 200  # queries
CHANCE = 3.0  # standard deviations


def around(
    scenario: Scenario, run: FleetRun, outcome: Outcome, spans: tuple[float, float, float, float]
) -> dict[str, Any]:
    """Service levels before, during and after an event: (from, it begins, it ends, up to) in seconds of the run.

    One that does not end (inf) lasts to the run's last query; up to is then where its worst `stretch` is looked for.

    A query belongs to the time at which it arrived; one that the event lost, or sent again, to the event: those are
    also told by themselves as `in_hand`, their waits being what they are however large the fleet is. A fleet may break
    a limit for a minute and hold it over an hour: hence the worst stretch of those who came meanwhile.
    """
    counted = slice(run.load.warmup, None)
    arrived_s, begins_s, ends_s = run.arrival_s[counted], spans[1], spans[2]
    met = hit_by(run, begins_s)
    among = {
        "before": (arrived_s >= spans[0]) & (arrived_s < begins_s) & ~met,
        "during": ((arrived_s >= begins_s) & (arrived_s < ends_s)) | met,
        "after": (arrived_s >= ends_s) & (arrived_s < spans[3]),
        "in_hand": met,
    }
    rows = {name: window(scenario.slo, outcome.latencies, run.retried[counted], of) for name, of in among.items()}
    came = (arrived_s >= begins_s) & (run.ended_s[counted] < spans[3])  # who stayed longer, the next event met
    return rows | worst_stretch(scenario.slo, outcome.latencies, arrived_s, (among["before"], came), begins_s)


def hit_by(run: FleetRun, at_s: float) -> NDArray[np.bool_]:
    """Which counted queries were in hand when a replica stopped at `at_s`, and were sent again or lost for it."""
    counted = slice(run.load.warmup, None)
    ended_s = run.ended_s[counted]
    lost = run.why_failed[counted] == LOST  # at the very instant of the event
    again = (run.retried[counted] > 0) & (ended_s > at_s)
    hit: NDArray[np.bool_] = (run.arrival_s[counted] < at_s) & (again | (lost & (ended_s >= at_s)))
    return hit


def window(
    limits: tuple[Limit, ...], latencies: Latencies, retried: I64, among: NDArray[np.bool_]
) -> dict[str, Any] | None:
    """Service levels of the counted queries `among` [Q], each limit by their own statistic; None of nobody."""
    count = int(among.sum())
    if count == 0:
        return None
    those = only(latencies, np.flatnonzero(among))
    return {
        "queries": count,
        "failed": int((~np.isfinite(those.e2e_ms)).sum()),
        "retried": int(retried[among].sum()),
        "ttft_ms": _percentiles(those.ttft_ms),
        "tpot_ms": _percentiles(those.tpot_ms),
        "e2e_ms": _percentiles(those.e2e_ms),
        "good_share": float(good_queries(those, limits).mean()) if limits else None,
        "limits": [held_among(limit, those, steady=False).as_dict() for limit in limits],
    }


def worst_stretch(
    limits: tuple[Limit, ...],
    latencies: Latencies,
    arrived_s: F64,
    among: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    begins_s: float,
) -> dict[str, Any]:
    """The successive queries, from an event on, that come nearest to their limits or furthest beyond them.

    `among` are those before the event, and those from it on, [Q] each.

    - `worst`: {from_s, to_s, queries, limits, beyond_chance}: when the first and the last of them arrived, in seconds
      after `begins_s`; each limit by their own statistic; whether one is broken by more than `CHANCE` times the spread
      that the stretches before the event have, since in a long run one of many is bad by chance. None without limits,
      or where nobody arrived.
    - `recovered_s`: when, after the worst one, the first stretch begins that holds every limit, in seconds after
      `begins_s`; None where the worst holds them too, and where none does up to the next event.
    - `held_before`: whether every stretch before the event held them; None where nobody arrived then.

    A stretch has as many queries as leave `BEYOND` of them above the strictest percentile.
    """
    before, order = (_in_order(which, arrived_s) for which in among)
    if not limits or len(order) == 0:
        return {"worst": None, "recovered_s": None, "held_before": None}
    held_before, spread = None, 0.0
    if len(before):
        earlier = _of_limit(limits, only(latencies, before), _count(limits, before))
        held_before, spread = bool((earlier <= 1.0).all()), _spread(earlier)
    count = _count(limits, order)
    reached = _of_limit(limits, only(latencies, order), count)
    edges = np.ceil(np.linspace(0, len(order), count + 1)).astype(np.int64)  # as `stretches` cuts them
    k = int(reached.argmax())
    those = order[edges[k] : edges[k + 1]]
    holds = np.flatnonzero(reached[k:] <= 1.0)
    recovered_s = None
    if reached[k] > 1.0 and len(holds):
        recovered_s = float(arrived_s[order[edges[k + holds[0]]]]) - begins_s
    worst = {
        "from_s": float(arrived_s[those[0]]) - begins_s,
        "to_s": float(arrived_s[those[-1]]) - begins_s,
        "queries": len(those),
        "limits": [held_among(limit, only(latencies, those), steady=False).as_dict() for limit in limits],
        "beyond_chance": bool(reached[k] > 1.0 + CHANCE * spread),
    }
    return {"worst": worst, "recovered_s": recovered_s, "held_before": held_before}


def _in_order(among: NDArray[np.bool_], arrived_s: F64) -> I64:
    which = np.flatnonzero(among)
    return which[np.argsort(arrived_s[which], kind="stable")]


def _count(limits: tuple[Limit, ...], queries: I64) -> int:
    """How many stretches so many queries make."""
    strictest = max(limit.percentile or 0.0 for limit in limits)
    size = max(BEYOND / (1.0 - strictest / 100.0), LEAST_STRETCH)
    return max(round(len(queries) / size), 1)


def _of_limit(limits: tuple[Limit, ...], latencies: Latencies, count: int) -> F64:
    """How much of its limit the worst statistic of each stretch is: above 1 it breaks it."""
    rows = [[value or 0.0 for value in stretches(limit, latencies, count)] for limit in limits]
    bounds = np.array([[limit.limit_ms] for limit in limits])
    most: F64 = (np.array(rows) / bounds).max(axis=0)
    return most


def _spread(of_limit: F64) -> float:
    """Standard deviation of the stretches' statistics, as a share of their mean; 0 where it cannot be told."""
    known = of_limit[np.isfinite(of_limit)]
    return float(known.std(ddof=1) / known.mean()) if len(known) > 1 and known.mean() > 0 else 0.0


def _percentiles(values: F64) -> dict[str, float] | None:
    answered = values[np.isfinite(values)]
    return {f"p{p:g}": quantile(answered, p) for p in PERCENTILES} if len(answered) else None
