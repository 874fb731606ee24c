"""Rules of an autoscaler that hold for a plan and for days alike: what it stands beside, what it may have."""

from __future__ import annotations

from planner.errors import UnsupportedError
from planner.scenario import Scenario
from planner.summary.words import plural


def refuse_scaled_sessions(scenario: Scenario) -> None:
    """Raise UnsupportedError where an autoscaler stands beside sessions of several turns."""
    if scenario.fleet.autoscaler is not None and scenario.session is not None:
        rule = "sessions of several turns beside fleet.autoscaler are not supported yet"
        raise UnsupportedError("query.stages[0].turns", scenario.session.turns, rule, "1")


def refuse_scaled_ranks(ranks: int) -> None:
    """Raise UnsupportedError for a replica of several data-parallel ranks, which an autoscaler would start and stop."""
    if ranks > 1:
        rule = "several ranks beside fleet.autoscaler are not supported yet"
        raise UnsupportedError("engine.data_parallel_size", ranks, rule, "1")


def beyond_max_gpus(max_gpus: int | None, gpus_per_replica: int, most: int) -> str:
    """What `fleet.max_gpus` does not hold, in words: the `most` replicas that an autoscaler may have; else empty."""
    if max_gpus is None or most * gpus_per_replica <= max_gpus:
        return ""
    return (
        f"does not hold the {plural(most, 'replica')} of {plural(gpus_per_replica, 'GPU')} that the autoscaler may have"
    )


def blinded(scenario: Scenario, seats: int) -> list[str]:
    """A warning where `fleet.admission` keeps from an autoscaler what it would start a replica for.

    A replica has at most so many requests in hand as are let in, and at most so many less its `seats` (max_num_seqs)
    wait: below target · (1 + tolerance) nothing is ever started.
    """
    limit, scaler = scenario.fleet.admission, scenario.fleet.autoscaler
    if limit is None or scaler is None or scaler.target is None:
        return []
    room, target = limit.max_requests_per_replica, scaler.target
    seen: dict[str, tuple[float | None, int]] = {
        "requests": (target.requests, room),
        "queue": (target.queue, max(room - seats, 0)),
    }
    for name, (level, most) in seen.items():
        if level is not None and most <= level * (1.0 + scaler.tolerance):
            key = f"fleet.autoscaler.target.{name}"
            what = "in hand" if name == "requests" else "waiting"
            return [
                f"{key} (={level:g}): fleet.admission never lets a replica have more than {most} {what}, and with a "
                f"tolerance of {scaler.tolerance:g} that starts none: who finds no room is turned away instead; let "
                f"more in, or take a target below {most / (1.0 + scaler.tolerance):.3g}"
            ]
    return []
