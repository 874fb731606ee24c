"""What a running fleet did, in the plan's terms: users' queries, their bill, what had to be taken from the plan."""

from __future__ import annotations

from dataclasses import dataclass

from planner.observed import Observed
from planner.planned import Planned
from planner.summary.words import percent
from planner.units import HOURS_PER_DAY, S_PER_HOUR

S_PER_DAY = HOURS_PER_DAY * S_PER_HOUR
MORE_CALLS = 1.02  # times the model calls that the users' queries make: beyond, something else asks too
FEW_QUERIES = 400  # in a window: a rate is then known to some 10 % (two standard deviations)


@dataclass(frozen=True)
class Actual:
    """One window in the plan's terms; None = not known.

    `planned_qps` is what the plan expects of the users in this window, `hour` the hour of `traffic.day` that holds its
    middle (None for a day or more). `uncached_share`: of the users' queries, those that reach the model; `hit_told`
    whether it was measured. `load_qps` is what the engines are asked for, in users' queries: those that call the model
    and end badly and those that join the queue are in it, and make work. `usd_per_hour` and `gpu_hour_usd` are all-in:
    with compute_share and staff.
    """

    hour: int | None
    planned_qps: float
    queries_per_s: float | None
    uncached_share: float
    hit_told: bool
    model_qps: float | None
    load_qps: float | None
    replicas: float | None
    gpus: float | None
    usd_per_hour: float | None
    price_told: bool
    assumed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @property
    def gpu_hour_usd(self) -> float | None:
        """The bill of one GPU-hour."""
        return None if self.usd_per_hour is None or not self.gpus else self.usd_per_hour / self.gpus

    @property
    def hit_rate(self) -> float:
        """Share of the users' queries that the response cache answers."""
        return 1.0 - self.uncached_share


def planned_rate(planned: Planned, ended_unix_s: float, window_s: float) -> tuple[float, int | None]:
    """The users' queries/s that the plan expects in a window, the hours weighted by their time in it; its hour.

    A window of a day or more is held against the mean of the day, whose hour is None.
    """
    if window_s >= S_PER_DAY:
        return sum(planned.queries_per_s) / HOURS_PER_DAY, None
    monitor = planned.scenario.monitor
    end_s = ended_unix_s + (0.0 if monitor is None else monitor.utc_offset_h) * S_PER_HOUR
    at_s, queries = end_s - window_s, 0.0
    hour = int((at_s + window_s / 2) // S_PER_HOUR) % HOURS_PER_DAY
    while at_s < end_s:
        this = int(at_s // S_PER_HOUR)
        until_s = min((this + 1) * S_PER_HOUR, end_s)
        queries += (until_s - at_s) * planned.queries_per_s[this % HOURS_PER_DAY]
        at_s = until_s
    return queries / window_s, hour


def actual_of(planned: Planned, observed: Observed) -> Actual:
    """A window in the plan's terms."""
    planned_qps, hour = planned_rate(planned, observed.ended_unix_s, observed.window_s)
    assumed: list[tuple[str, str]] = []
    notes: list[str] = []
    calls_qps = None if observed.requests_per_s is None else observed.requests_per_s / planned.requests_per_query
    users_qps = observed.queries_per_s
    uncached, told = planned.uncached_share, False
    if users_qps is None:
        users_qps = None if calls_qps is None else calls_qps / uncached
        assumed.append(("queries_per_s", "model calls ÷ the planned calls of a query and their uncached share"))
        assumed.append(("response_cache.hit_rate", "the plan: nobody tells the users' queries"))
    elif users_qps > 0 and calls_qps:
        told, uncached = True, min(calls_qps / users_qps, 1.0)
        if calls_qps / users_qps > MORE_CALLS:
            notes.append(
                f"the model is called {calls_qps / users_qps:.3g} times as often as the users' queries call it by the "
                "plan: retries, another application, or more calls a query; it counts as utilisation"
            )
    else:
        assumed.append(("response_cache.hit_rate", "the plan: no query, or no model call, ended in this window"))
    if users_qps is not None and 0 < users_qps * observed.window_s < FEW_QUERIES:
        count = users_qps * observed.window_s
        chance = 200 / count**0.5
        notes.append(
            f"only {count:.0f} queries in {observed.window_s:.3g} s: their number and their tokens vary by chance, the "
            f"number by ± {chance:.0f} % (two standard deviations)"
        )
    replicas = observed.replicas
    gpus = None if replicas is None else replicas * planned.gpus_per_replica
    bill, price_told = observed.cost_usd_per_hour, observed.cost_usd_per_hour is not None
    if bill is None and gpus and planned.usd_per_hour is not None:
        one_usd = (planned.usd_per_hour - planned.staff_usd_per_hour) / planned.gpus
        bill = gpus * one_usd + planned.staff_usd_per_hour
        assumed.append(("gpu_hour_usd", "the plan's price of a GPU-hour"))
    notes += _state_notes(observed)
    return Actual(
        hour,
        planned_qps,
        users_qps,
        uncached,
        told,
        calls_qps,
        _load_qps(planned, observed, users_qps, calls_qps, uncached),
        replicas,
        gpus,
        bill,
        price_told,
        tuple(assumed),
        tuple(notes),
    )


def _load_qps(
    planned: Planned, observed: Observed, users_qps: float | None, calls_qps: float | None, uncached: float
) -> float | None:
    """Users' queries/s whose model calls are all that the engines were asked for: ended well or badly, or still queued.

    `calls_qps` is in queries that reach the model. Calls beyond those that the users' queries make are load too.
    """
    if users_qps is None:
        return None
    unserved_per_s = (observed.failed_per_s or 0.0) + (observed.waiting_growth_per_s or 0.0)
    answered_qps = max(users_qps, (calls_qps or 0.0) / uncached)
    return max(answered_qps + unserved_per_s / planned.requests_per_query / uncached, 0.0)


def _state_notes(observed: Observed) -> list[str]:
    """What a reader must know of the window before its figures are believed."""
    notes = []
    if not observed.complete:
        notes.append(
            f"{observed.answered or 0} of {observed.asked} addresses answered: load, bill and latencies are of those "
            "alone; traffic, utilisation, capacity and the replicas wanted cannot be told from them"
        )
    if observed.queue_stands and observed.running is not None and observed.waiting is not None:
        growth = observed.waiting_growth_per_s
        told = (
            "by how much the queue grows is not told" if growth is None else f"the queue grows by {growth:.3g} a second"
        )
        notes.append(
            f"saturated: {observed.waiting:.0f} requests wait while {observed.running:.0f} run ({told}): there is no "
            "headroom, and the replicas wanted are the fewest that may do"
        )
    if observed.failed_per_s:
        ended_per_s = observed.failed_per_s + (observed.requests_per_s or 0.0)
        notes.append(
            f"{observed.failed_per_s:.3g} model calls a second were aborted or failed, "
            f"{percent(observed.failed_per_s / ended_per_s)} of those that ended: they count as load, not as queries"
        )
    if observed.restarts:
        notes.append(f"{observed.restarts} counters began anew in the window: what they had counted before is lost")
    return notes
