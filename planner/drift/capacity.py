"""What the fleet that runs carries with queries as they are, how many replicas are wanted, what caches save."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from planner.drift.actual import Actual
from planner.drift.attribution import Attribution
from planner.drift.model import Simulated
from planner.drift.work import Work
from planner.observed import Observed
from planner.planned import Planned


@dataclass(frozen=True)
class Room:
    """`capacity` of the document, the replicas wanted (`bound`: those at least), and notes."""

    document: dict[str, Any] = field(repr=False)
    wanted: int | None
    bound: bool
    notes: tuple[str, ...]


def serving_of(planned: Planned, running: float) -> int:
    """Replicas that may be counted on. Spare ones are there to be lost: without them the others serve all the same."""
    return min(round(running), planned.serving) + max(round(running) - planned.replicas, 0)


def room_of(simulated: Simulated | None, planned: Planned, observed: Observed, actual: Actual, work: Work) -> Room:
    """The most load within the SLO of the replicas that run, less the spare ones, and the fewest for the load there is.

    Users' queries/s: what reaches the model is what the response cache leaves of them. Of part of a fleet nothing is
    told: its load is not the load, and replicas wanted for it are too few. While a queue stands before the fleet
    (`bound`), whatever the capacity model says, and also where it says nothing, there is no headroom, and at least one
    replica more is wanted than runs.
    """
    bound = observed.queue_stands
    replicas: dict[str, Any] = {"planned": planned.replicas, "running": actual.replicas, "wanted": None}
    if not observed.complete:
        nothing = {"qps": None, "load_qps": None, "headroom_fraction": None, "bound": bound, "replicas": replicas}
        return Room(nothing, None, bound, ())
    most = wanted = headroom = None
    notes = []
    rate = actual.load_qps
    away = "" if simulated is None else simulated.beyond(rate or max(planned.queries_per_s), actual.replicas or 0.0)
    if away:
        notes.append(away)
        simulated = None
    if simulated is not None and actual.replicas is not None:
        most = _capacity_qps(simulated, planned, actual, work, serving_of(planned, actual.replicas))
    if simulated is not None and rate:
        wanted = simulated.wanted(work.shape, work.step_time, rate, actual.hit_rate)
    if most is not None and rate:
        headroom = most / rate - 1.0
    if simulated is not None and rate and wanted is None:
        notes.append("no number of replicas would hold the service levels with queries and steps as they are")
    if bound:
        headroom = min(headroom, 0.0) if headroom is not None else 0.0
        if actual.replicas is not None:
            wanted = max(wanted or 0, round(actual.replicas) + 1)
    cap = planned.pinned.fleet.max_gpus
    if wanted is not None and cap is not None and wanted * planned.gpus_per_replica > cap:
        notes.append(f"the replicas wanted take more GPUs than fleet.max_gpus (={cap})")
    document = {
        "qps": most,
        "load_qps": rate,
        "headroom_fraction": headroom,
        "bound": bound,
        "replicas": {**replicas, "wanted": wanted},
    }
    return Room(document, wanted, bound, tuple(notes))


def _capacity_qps(simulated: Simulated, planned: Planned, actual: Actual, work: Work, serving: int) -> float:
    """0 where none are left to serve, or no load holds."""
    if serving < 1:
        return 0.0
    most = simulated.capacity_qps(work.shape, work.step_time, serving)
    return (most or 0.0) * planned.uncached_share / actual.uncached_share


def savings_of(
    simulated: Simulated | None, actual: Actual, observed: Observed, work: Work, whole: Attribution
) -> list[dict[str, Any]]:
    """What each cache saves of the fleet's bill: (cost without − with) / without, the rest as it is.

    Without the response cache its share of the queries would reach the model too: fraction = hit rate. Without the
    prefix cache the same serving replicas carry less: fraction = 1 − capacity without / with. A bill B with a cache
    would be B / (1 − fraction) without it. Retrieval that the response cache spares is not counted.
    """
    rows = []
    hit = observed.prefix_hit_rate
    if simulated is not None and hit is not None and simulated.deployment.candidate.options.enable_prefix_caching:
        rows.append(_saving("prefix", _prefix_fraction(simulated, work, hit), actual, whole))
    if actual.hit_told or actual.hit_rate > 0:
        rows.append(_saving("response", actual.hit_rate, actual, whole))
    return rows


def _prefix_fraction(simulated: Simulated, work: Work, hit_rate: float) -> float | None:
    if hit_rate == 0.0:
        return 0.0
    serving = simulated.planned.serving
    on = simulated.capacity_qps(work.shape, work.step_time, serving)
    off = simulated.capacity_qps(work.shape, work.step_time, serving, caching=False)
    return None if on is None else max(0.0, 1.0 - (off or 0.0) / on)


def _saving(cache: str, fraction: float | None, actual: Actual, whole: Attribution) -> dict[str, Any]:
    bill = actual.usd_per_hour if whole.unit_usd else None
    known = fraction is not None and bill is not None and fraction < 1.0
    usd = bill * fraction / (1.0 - fraction) if known and bill is not None and fraction is not None else None
    return {"cache": cache, "fraction": fraction, "usd_per_hour": usd}
