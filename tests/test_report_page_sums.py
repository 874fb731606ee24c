"""The page refuses a plan whose numbers are impossible, contradict each other or lack what their neighbours need."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from planner.errors import DataFileError
from planner.report.page.document import checked
from planner.report.page.money import _decimals
from planner.report.page.values import RANGES
from tests.report_documents import full, infeasible, losing, unproved

Place = tuple[Any, ...]


def put(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with another value at a dotted path, `...` takes it away; numbers are places in lists."""
    changed = copy.deepcopy(document)
    *outer, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    place: Any = changed
    for step in outer:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(DataFileError) as error:
        checked(document)
    told = str(error.value)
    assert "\n" not in told
    assert told.endswith("; plan again")
    return told


IMPOSSIBLE = [
    ("cost.usd_per_query", math.nan, "must be a finite number above 0", "NaN"),
    ("cost.usd_per_query", math.inf, "must be a finite number above 0", "1e999 in a file"),
    ("cost.usd_per_query", 1e308, "cost.usd_per_query (=1e+308): is damaged: must be a finite", "beyond all plans"),
    ("cost.usd_per_query", -1.0, "cost.usd_per_query (=-1.0)", "nobody is paid to serve"),
    ("cost.usd_per_hour", 0, "cost.usd_per_hour (=0)", "a price of 0 is a missing price"),
    ("cost.currency.per_usd", -7, "cost.currency.per_usd (=-7): is damaged: must be a finite number above 0", "a rate"),
    ("cost.currency.per_usd", 0, "cost.currency.per_usd (=0)", "a rate"),
    ("fleet.gpus", -5, "fleet.gpus (=-5): is damaged: must be a finite number of at least 1", "GPUs"),
    ("fleet.gpus", 10**400, "fleet.gpus", "no float holds it"),
    ("break_even.qps", -7, "break_even.qps (=-7)", "no traffic is negative"),
    ("break_even.gpu_hour_usd", math.nan, "break_even.gpu_hour_usd (=nan)", "NaN"),
    ("margin.usd_per_query", -math.inf, "margin.usd_per_query (=-inf)", "not finite"),
    ("revenue.usd_per_query", -0.01, "revenue.usd_per_query", "nobody pays to be asked"),
    (
        "revenue.abandonment.lost_share",
        1.2,
        "lost_share (=1.2): is damaged: must be a finite number of at least 0 and",
        "a share",
    ),
    ("day.3.queries", -1, "day[3].queries (=-1)", "a place in a list"),
    ("day.3.utilisation", 7.0, "day[3].utilisation (=7.0)", "a share"),
    ("cost_lines.1.product_usd", -3.0, "cost_lines[1].product_usd (=-3.0)", "a bill"),
    ("at_peak.slo.0.value_ms", -1.0, "at_peak.slo[0].value_ms (=-1.0)", "a latency"),
    ("at_peak.ttft_ms.p99", math.nan, "at_peak.ttft_ms.p99 (=nan)", "a latency may be endless, not undefined"),
    ("scenario.traffic.peak_qps", -120, "scenario.traffic.peak_qps (=-120)", "the load"),
    ("alternatives.1.usd_per_query", -1, "alternatives[1].usd_per_query (=-1)", "another candidate"),
    ("uncertainty.p_slo_held", 1.5, "uncertainty.p_slo_held (=1.5)", "a chance"),
    ("capacity_curve.0.serving", 0, "capacity_curve[0].serving (=0)", "a size"),
    ("spare_proof.stopped", 0, "spare_proof.stopped (=0): is damaged", "a proof stops a replica"),
    ("spare_proof.in_hand.failed", -1, "spare_proof.in_hand.failed (=-1)", "a count"),
    ("spare_proof.after.limits.0.value_ms", math.nan, "spare_proof.after.limits[0].value_ms (=nan)", "a latency"),
]


@pytest.mark.parametrize(("path", "value", "words", "because"), IMPOSSIBLE)
def test_an_impossible_number_is_refused_with_its_key_and_rule(path, value, words, because):
    assert words in refusal(put(full(), path, value)), because


CONTRADICTING = [
    ("cost_lines.0.product_usd", 99_999.0, "cost_lines[0].product_usd (=99999.0): does not add up", "edited"),
    ("cost.usd_per_query", 0.01, "alternatives[0].usd_per_query", "the chosen candidate is this plan"),
    ("cost.usd_per_hour", 5.0, "cost.usd_per_hour", "the candidate's row and the day say otherwise"),
    ("margin.usd_per_query", 0.9, "margin.usd_per_query (=0.9", "margin = revenue − cost"),
    ("margin.fraction", 0.1, "margin.fraction (=0.1): does not add up: margin ÷ revenue", "of revenue"),
    ("margin.cost_share_of_revenue", 0.9, "margin.cost_share_of_revenue", "of revenue"),
    ("revenue.query_rpm_usd", 1.0, "revenue.query_rpm_usd (=1.0): does not add up: 1,000 × usd_per_query", "a mille"),
    ("break_even.rpm_usd", 1.0, "break_even.rpm_usd (=1.0): does not add up", "1,000 costs"),
    ("break_even.qps", 7.0, "break_even.qps (=7.0): does not add up", "where the margin is 0"),
    ("break_even.gpu_hour_usd", 7.0, "break_even.gpu_hour_usd (=7.0): does not add up", "where the margin is 0"),
    ("fleet.gpus", 42, "fleet.gpus (=42): does not add up: replicas × gpus_per_replica = 14", "7 of 2"),
    ("fleet.spare_replicas", 7, "fleet.spare_replicas: is damaged: must be less than fleet.replicas", "none"),
    ("alternatives.0.gpus", 99, "alternatives[0].gpus (=99): does not add up: fleet.gpus = 14", "the chosen row"),
    ("alternatives.0.chosen", False, "alternatives: is damaged: 0 of them are chosen, must be one", "none"),
    ("alternatives.1.chosen", True, "alternatives: is damaged: 2 of them are chosen", "two"),
    ("day", full()["day"][:3], "day: is damaged: must have the hours 0 to 23, has 3", "a day has 24"),
    ("day.5.hour", 6, "day: is damaged: must have the hours 0 to 23", "one twice"),
    ("day.5.queries", 1.0, "day[5].queries (=1.0): does not add up: peak_qps", "the peak's share"),
    ("scenario.traffic.peak_qps", 240.0, "day[0].queries", "the load that was planned for"),
    ("day.5.cost", 900.0, "day[", "a fleet costs the same every hour"),
    ("revenue.lines.0.product_usd", 1.0, "revenue.lines[0].product_usd (=1.0): does not add up", "quantity × price"),
    ("cost.idle_usd_per_query", 0.2, "cost.usd_per_query", "used and idle make the whole"),
    ("cost.price.gpu_hour_usd", 4.25, "cost.price.gpu_hour_usd (=4.25): does not add up: its parts = 3", "the mix"),
    ("load_shape.static.usd_per_day", 1.0, "load_shape.static.usd_per_day (=1.0): does not add up", "24 hours"),
    ("load_shape.static.gpu_hours", 1.0, "load_shape.static.gpu_hours", "24 hours of every GPU"),
    ("at_peak.slo.0.met", False, "at_peak.slo[0].met: is damaged: is false in a plan that is feasible", "a verdict"),
    ("at_peak.slo.1.upper_ms", 60.0, "at_peak.slo[1].met: is damaged: is true, but 60 ms are above", "a verdict"),
    ("one_fewer.slo.0.upper_ms", 900.0, "one_fewer.slo[0].met: is damaged: is false, but 900 ms", "verdict"),
    ("margin", None, "margin: is damaged: is missing: there is a cost and a revenue", "not: no revenue is given"),
    ("margin", ..., "margin: is damaged: is missing", "likewise"),
    ("revenue", None, "margin: is damaged: stands without a cost and a revenue", "nothing to be left of"),
    ("cost.usd_per_query", ..., "cost.usd_per_query: is damaged: is missing", "not: no GPU price is given"),
    ("cost.usd_per_hour", None, "cost.usd_per_hour: is damaged: is missing", "likewise"),
    ("revenue.usd_per_query", None, "revenue.usd_per_query: is damaged: is missing", "likewise"),
    ("spare_proof.replicas", 8, "spare_proof.replicas (=8): does not add up: fleet.replicas = 7", "another fleet's"),
    ("spare_proof.stopped", 2, "spare_proof.stopped (=2): does not add up: fleet.spare_replicas = 1", "likewise"),
    ("spare_proof.slo_met_after", False, "slo_met_after: is damaged: is false, but the verdict is holds", "a verdict"),
    ("spare_proof.verdict", "fails", "slo_met_after: is damaged: is true, but the verdict is fails", "a verdict"),
    ("spare_proof.saturated_after", True, "is damaged: is holds, but the backlog grows", "a verdict"),
    ("spare_proof.after.limits.1.met", False, "is holds, but after.limits[1] does not", "a verdict"),
    ("spare_proof.after.limits.0.verdict", "fails", "is holds, but after.limits[0] does not", "a verdict"),
    ("day.5.queries", ..., "day: is damaged: hour 5 lacks its queries", "likewise"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words", "because"), CONTRADICTING)
def test_a_figure_that_contradicts_the_others_is_refused_and_what_it_should_be_is_said(path, value, words, because):
    assert words in refusal(put(full(), path, value)), because


def test_without_a_cost_there_is_no_bill_and_no_break_even():
    bare = full() | {"cost": None, "margin": None}
    assert "cost_lines: is damaged: stand without a cost" in refusal(bare)
    assert "break_even.rpm_usd: is damaged: stands without a cost" in refusal(bare | {"cost_lines": []})


@pytest.mark.parametrize("made", [full, losing, unproved, infeasible])
def test_a_whole_plan_is_accepted_and_so_is_one_that_went_through_another_programs_rounding(made):
    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rounded(item) for item in value]
        return float(f"{value:.9g}") if isinstance(value, float) else value

    checked(made())
    checked(rounded(made()))


def test_an_endless_latency_is_left_out_and_not_refused():
    found = checked(put(full(), "one_fewer.slo.0.upper_ms", math.inf))
    assert "upper_ms" not in found["one_fewer"]["slo"][0]


def test_every_range_is_of_a_place_that_the_document_has():
    """A pattern that meets nothing would check nothing: names change."""

    def meets(value: Any, steps: list[str]) -> bool:
        if not steps:
            return True
        first, rest = steps[0], steps[1:]
        if isinstance(value, list):
            return first == "*" and any(meets(item, rest) for item in value)
        if not isinstance(value, dict):
            return False
        return any(meets(value[name], rest) for name in (value if first == "*" else [first]) if name in value)

    unmet = {pattern for pattern in RANGES if not meets(full(), pattern.split("."))}
    assert unmet <= NOT_IN_THE_SPECIMEN


ROUNDED = [
    ([49.033, 98.064], 3, "$49.03 + $98.06 are not $147.10: a digit more, $49.033 + $98.064 = $147.097"),
    ([49.03, 98.06], None, "cents add up as they are"),
    ([0.004, 98.061], None, "below a dollar digits are significant ones"),
    ([12_345.678, 98.061], None, "whole dollars"),
]


@pytest.mark.parametrize(("products", "decimals", "because"), ROUNDED)
def test_lines_of_a_bill_add_up_as_they_are_shown(products, decimals, because):
    assert decimals == _decimals(products, math.fsum(products)), because


NOT_IN_THE_SPECIMEN = {  # which has one kind of demand and no training; a run one smaller has no bands in it
    *(name for name in RANGES if name.startswith(("one_fewer.", "scenario.traffic.arrivals."))),
    *(name for name in RANGES if name.startswith("break_even_after_training.")),
    *("at_peak.confidence.batches", "at_peak.wall_s", "scenario.fleet.max_gpus"),
    *("cost.price.parts.*.usd_per_gpu_hour", "cost.usd_per_query_with_training", "margin.after_training_usd_per_query"),
    *(f"revenue.abandonment.at_risk_usd_per_{of}_per_100ms" for of in ("query", "day")),
    *(f"revenue.abandonment.{name}" for name in ("lost_impressions", "lost_share_at_peak")),
    *("uncertainty.p_both", "uncertainty.p_no_fleet"),
    *(name for name in RANGES if name.startswith("response_cache.")),  # in test_response_cache_plan
    *(name for name in RANGES if name.startswith("autoscaler.")),  # in test_plan_autoscaler
}
