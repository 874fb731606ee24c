"""What to know of a plan before its figures are used: the `warnings` of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.deployment import Deployment, warnings_document
from planner.deployment.autoscaled import blinded
from planner.deployment.collapse import session_pause, size_warnings
from planner.deployment.no_effect import no_effect
from planner.pricing import assumed_answered, failing_leave
from planner.provenance import Provenance
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.outcome import Outcome
from planner.sizing.autoscaled import ScaledDay, scaled_warnings
from planner.sizing.search import Search, Sized
from planner.summary.words import limit_name, number, percent, plural, usd

Document = Mapping[str, Any]
_WHY = (("rejected", "rejected by fleet.admission"), ("timed_out", "timed out by traffic.timeout_s"))


def plan_warnings(
    given: Scenario, still: Scenario, seed: int, found: Search, scaled: ScaledDay | None, answer: Document
) -> list[str]:
    """A line each, what denies the answer first; `still` is the `given` scenario as it is at one moment, `scaled` its
    day under an autoscaler, `answer` what the plan's document says of the chosen fleet.
    """
    judged = _judged(found)
    lines = [*spare_warnings(still, answer), *failing_warnings(still, answer, scaled)]
    lines += [*warnings_document(judged), *no_effect(given, judged, "plan")]
    if found.chosen is not None:
        lines += _collapse(still, seed, found.chosen)
        if scaled is not None:
            lines += blinded(given, found.chosen.option.deployment.config.max_num_seqs)
            lines += scaled_warnings(scaled, found.chosen.option.prices)
    return lines


def taken_for_answered(scenario: Scenario, at_peak: Outcome, scaled: ScaledDay | None) -> Iterator[Provenance]:
    """Of the queries that fail, at the peak or, with an autoscaler, in its day: abandonment knows the peak's."""
    if scaled is not None:
        return assumed_answered(scenario, _failed_share(scaled), leave=False)
    share = at_peak.figures["failed"] / max(at_peak.figures["queries"], 1)
    return assumed_answered(scenario, share, failing_leave(scenario))


def _failed_share(scaled: ScaledDay) -> float:
    """Share of the day's queries that fail, of those that reach the model, as the autoscaler runs the fleet."""
    queries = sum(row["queries"] for row in scaled.rows)
    return 1.0 - sum(row["answered"] for row in scaled.rows) / queries if queries else 0.0


def spare_warnings(still: Scenario, answer: Document) -> list[str]:
    """That the proof of the spare replicas fails, or does not tell."""
    proof = answer.get("spare_proof")
    if proof is None or proof["verdict"] == "holds":
        return []
    stopped, replicas = proof["stopped"], proof["replicas"]
    limits = (proof.get("after") or {}).get("limits") or []
    names = [limit_name(row["key"]) for row in limits if row.get("verdict") == proof["verdict"]]
    named = f" ({', '.join(names)})" if names else ""
    loss = f"{stopped} of {plural(replicas, 'replica')} {'is' if stopped == 1 else 'are'} lost at the peak"
    if proof["verdict"] == "undecided":
        said = f"whether the limits hold{named} when {loss} is undecided; a longer run (--requests) may tell"
        return [f"fleet.spare_replicas: {said}"]
    said = f"when {loss}, the limits do NOT hold{named}"
    if proof.get("saturated_after"):
        said += ", and the backlog grows"
    said += f": see the proof of the spare; fleet.min_replicas={replicas + 1} tries one replica more"
    gone = (proof.get("in_hand") or {}).get("failed") or 0
    if gone and not still.fleet.retry:
        said += f", fleet.retry=true sends the {plural(gone, 'query')} again that {'is' if gone == 1 else 'are'} lost"
    return [f"fleet.spare_replicas: {said}"]


def failing_warnings(still: Scenario, answer: Document, scaled: ScaledDay | None) -> Iterator[str]:
    """That queries fail, at the peak or in the autoscaler's day, and what the plan's money makes of them."""
    at_peak = answer.get("at_peak") or {}
    failed, queries = at_peak.get("failed") or 0, at_peak.get("queries") or 0
    reach = " that reach the model" if still.query.response_cache is not None else ""
    if failed and queries:
        why = [f"{number(at_peak[key])} {name}" for key, name in _WHY if at_peak.get(key)]
        said = (
            f"{percent(failed / queries)} of the queries{reach} at the peak fail ({', '.join(why) or number(failed)})"
        )
        yield said + ("" if scaled is not None else _unearned(still, answer, failed / queries, at_peak=True))
    if scaled is not None and (share := _failed_share(scaled)) > 0:
        said = f"fleet.autoscaler: {percent(share)} of the day's queries{reach} fail"
        yield said + _unearned(still, answer, share, at_peak=False)


def _unearned(still: Scenario, answer: Document, share: float, at_peak: bool) -> str:
    """What the plan's money makes of a share of failing queries: revenue counts them, unless they leave as who waits
    too long does; the bill is divided by them.
    """
    revenue = answer.get("revenue")
    if revenue is None:
        return ": the cost of a query is spread over them too" if answer.get("cost") is not None else ""
    if at_peak and failing_leave(still):
        return (
            ": they are counted as lost revenue (revenue.abandonment), and the cost of a query is spread over them too"
        )
    hits = answer["at_peak"]["cached_share"] if still.traffic.peak_qps is None else response_hit_rate(still)
    of_all = share * (1.0 - hits)
    earned = revenue["usd_per_query"]
    most = f"at most {usd(of_all * earned)} of the {usd(earned)} that a query earns is lost"
    if at_peak:
        most += ", if every hour were like the peak"
    return f": they are counted as earning, and the cost of a query is spread over them too; {most}"


def _judged(found: Search) -> list[Deployment]:
    """What the answer rests on: the chosen deployment. Where no fleet holds: the first one tried, unless the
    calibration belongs to another of them (a line for each of many candidates would hide the answer).
    """
    if found.chosen is not None:
        return [found.chosen.option.deployment]
    tried = [sized.option.deployment for sized in found.sized]
    return [] if any(deployment.calibrated for deployment in tried) else tried[:1]


def _collapse(scenario: Scenario, seed: int, chosen: Sized) -> list[str]:
    """What to know of a size that is near the collapse of its sessions' cache, or just above one that is."""
    if scenario.session is None:
        return []
    serving, size = chosen.replicas - chosen.spare, chosen.size
    peak, fewer = size.probe(serving), size.one_fewer
    pause = session_pause(size.deployment, scenario, peak.load, peak.outcome, serving, seed)
    seeds = [seed, *(probe.other_seed for probe in size.elsewhere(serving) if probe.other_seed is not None)]
    return size_warnings(pause, serving, seeds, None if fewer is None else fewer.other_seed)
