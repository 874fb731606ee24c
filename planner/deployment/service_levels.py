"""Service levels of some queries of a run: those before, during and after something that was done to its fleet."""

from __future__ import annotations

from typing import Any, NamedTuple

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
Mask = NDArray[np.bool_]
PERCENTILES = (50.0, 99.0)
BEYOND = 10  # queries of a stretch that are above its percentile: fewer, and the percentile is chance
LEAST_STRETCH = 200  # queries
CHANCE = 3.0  # standard deviations
LEAST_BEFORE = 3  # stretches before an event that tell what chance does


class Span(NamedTuple):
    """When an event begins and ends (inf: it does not), from when on those before it are looked at, up to when it is.

    Seconds of the run. `upto_s` is where the next event begins, or inf.
    """

    from_s: float
    begins_s: float
    ends_s: float
    upto_s: float


class Groups(NamedTuple):
    """The counted queries [Q] by when they arrived and ended, and of what these groups fall short: see `groups_of`."""

    before: Mask
    during: Mask
    in_hand: Mask
    under_way: Mask
    after: Mask
    shared: Mask
    censored: bool


def around(scenario: Scenario, run: FleetRun, outcome: Outcome, span: Span, met: I64) -> dict[str, Any]:
    """Service levels before, during and after an event, which met so many calls of each counted query [Q].

    A row of `window` for each of `groups_of`, and what `worst_stretch` says of those who came from the event on: a
    fleet may break a limit for a minute and hold it over an hour.
    """
    counted = slice(run.load.warmup, None)
    arrived_s, groups = run.arrival_s[counted], groups_of(run, span, met)
    rows = windows_of(scenario.slo, outcome.latencies, run, groups, met)
    came = groups.during & (arrived_s >= span.begins_s) | groups.after
    told = worst_stretch(scenario.slo, outcome.latencies, arrived_s, groups.before, came, span.begins_s, groups.shared)
    return rows | told


def groups_of(run: FleetRun, span: Span, met: I64) -> Groups:
    """Who arrived when, and who was under way as the event began.

    - before: arrived from `from_s` on, and before the oldest query of that time that the event met: see below.
    - in_hand: of these the event lost or sent again a call. Their waits are what they are however large the fleet is.
    - under_way: the others that were not over yet. They met the event in part, and long answers are many among them.
    - during: arrived from its begin to its end, and those in hand. An event without end lasts to the last query.
    - after: arrived later.
    - shared: all who came before `upto_s` and were not over at it, or lost at it: they met the next event too.

    Who belongs to an event hangs on the arrival alone: up to `upto_s`, however late the end. To ask for the end as well
    would drop the slowest, which are what the event did, and would keep short answers rather than long ones. Hence
    `before`, too, is not whoever was over: of the last who came before an event those are the quick ones. It stops at
    the first arrival from `from_s` on that was not over, so nobody who came up to there is missing. Where that leaves
    fewer than `LEAST_STRETCH` it has whoever was over by then, and is `censored` if somebody was not. Of events at one
    instant only the last has more than its `in_hand`.
    """
    counted = slice(run.load.warmup, None)
    arrived_s, ended_s = run.arrival_s[counted], run.ended_s[counted]
    hit, lost, alone = met > 0, run.why_failed[counted] == LOST, span.upto_s > span.begins_s
    earlier, over = arrived_s < span.begins_s, ended_s <= span.begins_s
    there, own = earlier & (arrived_s >= span.from_s), (arrived_s < span.upto_s) & alone
    missing = there & (~over | hit)
    before = there & (arrived_s < arrived_s[missing].min(initial=np.inf))
    censored = bool(missing.any()) and int(before.sum()) < LEAST_STRETCH
    return Groups(
        before=there & ~missing if censored else before,
        during=((arrived_s >= span.begins_s) & (arrived_s < span.ends_s) | hit) & own,
        in_hand=hit,
        under_way=earlier & ~hit & ~over & own,
        after=(arrived_s >= span.ends_s) & own,
        shared=(arrived_s < span.upto_s) & ((ended_s > span.upto_s) | lost & (ended_s == span.upto_s)),
        censored=censored,
    )


def met_by(run: FleetRun, first: int, last: int) -> I64:
    """How many calls of each counted query [Q] were in hand of a replica that one of these changes stopped."""
    among = (run.met[:, 1] >= first) & (run.met[:, 1] <= last)
    met: I64 = np.bincount(run.met[among, 0], minlength=run.load.queries)[run.load.warmup :]
    return met


def windows_of(
    limits: tuple[Limit, ...], latencies: Latencies, run: FleetRun, groups: Groups, met: I64
) -> dict[str, Any]:
    """A row of `window` for each group; of those in hand `retried` is what this event alone sent again.

    `before` says whether it is `censored`, the others how many of them are `shared` with the next event.
    """
    retried = run.retried[run.load.warmup :]
    own = met if run.control.retry else np.zeros_like(met)
    rows: dict[str, Any] = {"before": window(limits, latencies, retried, groups.before)}
    if rows["before"] is not None:
        rows["before"]["censored"] = groups.censored
    for name in ("during", "in_hand", "under_way", "after"):
        among = getattr(groups, name)
        rows[name] = window(limits, latencies, own if name == "in_hand" else retried, among)
        if rows[name] is not None:
            rows[name]["shared"] = int((among & groups.shared).sum())
    return rows


def window(limits: tuple[Limit, ...], latencies: Latencies, retried: I64, among: Mask) -> dict[str, Any] | None:
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
        "limits": [held_among(limit, those).as_dict() for limit in limits],
    }


def worst_stretch(
    limits: tuple[Limit, ...],
    latencies: Latencies,
    arrived_s: F64,
    earlier: Mask,
    came: Mask,
    begins_s: float,
    shared: Mask | None = None,
) -> dict[str, Any]:
    """The successive queries, from an event on, that come nearest to their limits or furthest beyond them.

    `earlier` [Q] are those before the event, `came` those from it on, `shared` those who met the next event as well.

    - `worst`: {from_s, to_s, queries, shared, limits, beyond_chance}: when the first and the last of them arrived, in
      seconds after `begins_s`; whether some of them are shared; each limit by their own statistic; whether one is
      exceeded by more than `CHANCE` standard deviations of that statistic over the stretches before the event, since in
      a long run one of many is bad by chance. That is None where one is exceeded and fewer than `LEAST_BEFORE`
      stretches came before. No `worst` without limits, or where nobody arrived.
    - `recovered_s`: when, after the worst one, the first stretch begins that holds every limit, in seconds after
      `begins_s`; None where the worst holds them too, and where none does up to the next event.
    - `held_before`: whether every stretch before the event held them; None where nobody arrived then.

    A stretch has as many queries as leave `BEYOND` of them above the strictest percentile.
    """
    before, order = (in_order(which, arrived_s) for which in (earlier, came))
    if not limits or len(order) == 0:
        return {"worst": None, "recovered_s": None, "held_before": None}
    limits_ms = np.array([[limit.limit_ms] for limit in limits])
    earlier_ms = _statistics(limits, latencies, before)
    reached_ms = _statistics(limits, latencies, order)
    edges = np.ceil(np.linspace(0, len(order), reached_ms.shape[1] + 1)).astype(np.int64)  # as `stretches` cuts them
    of_limit = (reached_ms / limits_ms).max(axis=0)
    k = int(of_limit.argmax())
    those = order[edges[k] : edges[k + 1]]
    holds = np.flatnonzero(of_limit[k:] <= 1.0)
    recovered_s = None
    if of_limit[k] > 1.0 and len(holds):
        recovered_s = float(arrived_s[order[edges[k + holds[0]]]]) - begins_s
    worst = {
        "from_s": float(arrived_s[those[0]]) - begins_s,
        "to_s": float(arrived_s[those[-1]]) - begins_s,
        "queries": len(those),
        "shared": shared is not None and bool(shared[those].any()),
        "limits": [held_among(limit, only(latencies, those)).as_dict() for limit in limits],
        "beyond_chance": _beyond_chance(reached_ms[:, k] - limits_ms[:, 0], earlier_ms),
    }
    held_before = bool((earlier_ms <= limits_ms).all()) if len(before) else None
    return {"worst": worst, "recovered_s": recovered_s, "held_before": held_before}


def in_order(among: Mask, arrived_s: F64) -> I64:
    """The counted queries `among` [Q] in the order of their arrival."""
    which = np.flatnonzero(among)
    return which[np.argsort(arrived_s[which], kind="stable")]


def _statistics(limits: tuple[Limit, ...], latencies: Latencies, queries: I64) -> F64:
    """Each limit's statistic in ms over each successive stretch of these queries, [limits, stretches]; 0 of no figure.

    There is at least one stretch.
    """
    strictest = max(limit.percentile or 0.0 for limit in limits)
    size = max(BEYOND / (1.0 - strictest / 100.0), LEAST_STRETCH)
    count, those = max(round(len(queries) / size), 1), only(latencies, queries)
    return np.array([[value or 0.0 for value in stretches(limit, those, count)] for limit in limits])


def _beyond_chance(excess_ms: F64, earlier_ms: F64) -> bool | None:
    """Whether any limit's excess [limits] is more than chance made of it before [limits, stretches]; None: not known.

    A stretch in which too many failed tells no spread.
    """
    broken = excess_ms > 0.0
    known = np.isfinite(earlier_ms).all(axis=1) & (earlier_ms.shape[1] >= LEAST_BEFORE)
    spread_ms = np.full(len(excess_ms), np.inf)
    if known.any():
        spread_ms[known] = earlier_ms[known].std(axis=1, ddof=1)
    if (broken & known & (excess_ms > CHANCE * spread_ms)).any():
        return True
    return None if (broken & ~known).any() else False


def _percentiles(values: F64) -> dict[str, float] | None:
    answered = values[np.isfinite(values)]
    return {f"p{p:g}": quantile(answered, p) for p in PERCENTILES} if len(answered) else None
