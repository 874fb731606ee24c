"""drift(): a running fleet against its plan, as one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.drift import mends
from planner.drift.actual import Actual, actual_of
from planner.drift.attribution import Attribution, attribution
from planner.drift.capacity import Room, room_of, savings_of
from planner.drift.model import FleetModel, Simulated
from planner.drift.model_name import served_of, wrong_model
from planner.drift.money import money_of
from planner.drift.quantities import quantities_of
from planner.drift.service_levels import levels_of, missed
from planner.drift.work import Factor, Work, work_of
from planner.errors import InputError
from planner.metrics.names import CAUSES
from planner.observed import Observed
from planner.planned import Planned
from planner.summary.drift import drift_text

SCHEMA_VERSION = 1
LEAST_LIMIT = 0.10
CONFIDENCE_OF = ("itl_ms.mean", "tpot_ms.mean")
OF_ALL = ("traffic", "utilisation")  # causes that nobody can judge who sees part of the fleet
FEW_EXPECTED = 3.0  # queries: where so many are expected, none at all is no departure (e⁻³ = 5 %)


@dataclass(frozen=True)
class Drift:
    """The answer of `drift`: `document` has the JSON names."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    @property
    def within(self) -> bool:
        """Whether cost per query and its parts are as planned to within the limit, every service level that is told is
        met, everybody who was asked answered, and no other model than the plan's did.
        """
        return bool(self.document["within"])

    def __str__(self) -> str:
        return drift_text(self.document)


def own_limit(planned: Planned) -> float:
    """The departure that the plan's own confidence covers, at least 10 %.

    It is the upper end of the 80 % band of the mean ITL over the mean ITL, less 1: how much slower than simulated the
    engine may well be. Narrow for a calibrated plan, wide where kernels are stood in for.
    """
    bands = planned.at_peak.get("band80")
    for name in CONFIDENCE_OF:
        band, point = (bands.get(name) if isinstance(bands, Mapping) else None), planned.figure(name)
        if isinstance(band, list) and len(band) == 2 and isinstance(band[1], int | float) and point:
            return max(LEAST_LIMIT, float(band[1]) / point - 1.0)
    return LEAST_LIMIT


def drift(planned: Planned, observed: Observed, model: FleetModel, *, limit: float | None = None) -> Drift:
    """Hold a fleet's window against its plan; `limit` (share of the planned cost per query) defaults to `own_limit`.

    Raises ValueError for a model of another plan, InputError for a limit that is not above 0.
    """
    simulated = model.simulated
    if simulated is not None and simulated.planned != planned:
        raise ValueError("the capacity model is of another plan")
    bound = own_limit(planned) if limit is None else limit
    if not 0 < bound < float("inf"):
        raise InputError("limit", bound, "must be above 0 and finite")
    actual = actual_of(planned, observed)
    work = work_of(simulated, model.why, observed, actual)
    whole = attribution(planned, actual, work)
    room = room_of(simulated, planned, observed, actual, work)
    served = served_of(planned, observed)
    troubles = [*observed.troubles, *wrong_model(planned, observed)]
    parts = [
        _part(cause, whole, bound, _line(cause, planned, actual, work, whole, room, simulated), observed.complete)
        for cause in CAUSES
    ]
    levels, level_notes = levels_of(planned, observed)
    money, money_assumed = money_of(planned, observed, actual, whole)
    assumed = [*actual.assumed, *work.assumed, *money_assumed]
    departure = whole.departure
    return Drift(
        {
            "schema_version": SCHEMA_VERSION,
            "scenario_name": planned.scenario.name,
            "ended_unix_s": observed.ended_unix_s,
            "window_s": observed.window_s,
            "hour": actual.hour,
            "limit": bound,
            "sources": {"asked": observed.asked, "answered": observed.answered},
            "model": served._asdict(),
            "within": (
                observed.complete
                and served.matches is not False
                and not missed(levels)
                and _within(parts, departure, bound, observed, actual)
            ),
            "slo": levels,
            **money,
            "parts": parts,
            "total": {
                "usd_per_query": (
                    whole.actual_per_query - whole.planned_per_query
                    if whole.actual_per_query is not None and whole.unit_usd
                    else None
                ),
                "fraction": departure,
            },
            "capacity": room.document,
            "savings": savings_of(simulated, actual, observed, work, whole),
            "quantities": quantities_of(planned, simulated, observed, actual),
            "assumed": [{"figure": figure, "from": source} for figure, source in assumed],
            "notes": [*actual.notes, *level_notes, *work.notes, *room.notes],
            "troubles": [{"source": one.source, "reason": one.reason, "text": one.text} for one in troubles],
        }
    )


def _within(
    parts: list[dict[str, Any]], departure: float | None, limit: float, observed: Observed, actual: Actual
) -> bool:
    """Compensating parts matter: longer answers beside a fleet worked harder cost the same, and use up the headroom."""
    if departure is None:
        quiet = actual.queries_per_s == 0 and actual.planned_qps * observed.window_s < FEW_EXPECTED
        return quiet and bool(actual.gpus)
    return abs(departure) <= limit and all(part["holds"] is not False for part in parts)


@dataclass(frozen=True)
class _Line:
    """A cause's line of the scenario: its key, what stands there and what is, and what would mend it."""

    key: str
    planned: float | None
    actual: float | None
    mend: str | None
    note: str = ""


def _part(cause: str, whole: Attribution, limit: float, line: _Line, complete: bool) -> dict[str, Any]:
    factor = whole.factors.get(cause)
    known = whole.parts is not None and (whole.told[cause] or factor != 1.0)
    part = whole.parts[cause] if whole.parts is not None and known else None
    share = None if part is None else part / whole.planned_per_query
    holds = None if share is None or (cause in OF_ALL and not complete) else abs(share) <= limit
    ratio = line.actual / line.planned if line.actual is not None and line.planned else None
    return {
        "cause": cause,
        "key": line.key,
        "planned": line.planned,
        "actual": line.actual,
        "ratio": ratio,
        "factor": factor if whole.told[cause] or factor != 1.0 else None,
        "usd_per_query": part if whole.unit_usd else None,
        "share": share,
        "holds": holds,
        "mend": line.mend if holds is False else None,
        "note": line.note,
    }


def _line(
    cause: str,
    planned: Planned,
    actual: Actual,
    work: Work,
    whole: Attribution,
    room: Room,
    simulated: Simulated | None,
) -> _Line:
    stages = "query.stages"
    match cause:
        case "traffic":
            note = "" if actual.hour is None else f"hour {actual.hour} of traffic.day"
            if planned.scenario.traffic.peak_qps is None:
                note = f"{planned.scenario.demand} demand names no peak: traffic.arrivals sets the rate"
            mend = mends.setting(mends.traffic(planned, actual))
            return _Line("traffic.peak_qps", actual.planned_qps, actual.queries_per_s, mend, note)
        case "token_lengths":
            found = mends.token_lengths(simulated, work.exact) if simulated is not None else {}
            return _of(work.token_lengths, f"{stages}[].prompt_tokens, output_tokens", mends.setting(found))
        case "prefix_hit_rate":
            hits = work.imposed
            found = (
                {} if simulated is None or hits is None or hits.unchanged else mends.prefix_hit_rate(simulated, hits)
            )
            return _of(work.prefix_hit_rate, f"{stages}[].shared_prefix.tokens", mends.setting(found))
        case "response_hit_rate":
            told = actual.hit_rate if actual.hit_told else None
            mend = mends.setting(mends.response_hit_rate(planned, actual))
            return _Line("query.response_cache.hit_rate", 1.0 - planned.uncached_share, told, mend)
        case "step_speed":
            return _of(work.step_speed, "calibration", mends.STEP_SPEED)
        case "utilisation":
            running = actual.replicas
            mend = None if running is None else mends.utilisation(running, room.wanted, at_least=room.bound)
            note = "replicas for the plan's traffic, with queries and steps as they are, against those that run"
            return _Line("fleet.replicas", planned.replicas * whole.work, running, mend, note)
    usd = None if planned.usd_per_hour is None else planned.usd_per_hour / planned.gpus
    paid = actual.gpu_hour_usd if actual.price_told else None
    mend = mends.setting(mends.price(planned, actual))
    note = "" if mend or paid is None else "several keys make this price: see prices"
    return _Line("prices", usd, paid, mend, note)


def _of(factor: Factor, key: str, mend: str | None) -> _Line:
    return _Line(key, factor.planned, factor.actual, mend, factor.note)
