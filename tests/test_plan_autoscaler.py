"""`plan` with an autoscaler: its day is run, its money that of the replicas paid for; what cannot be is refused."""

from __future__ import annotations

import json
from math import fsum
from typing import Any

import pytest

from planner import Scenario, plan
from planner.errors import DataFileError, InputError, UnsupportedError
from planner.manifests.facts import read_facts
from planner.manifests.loadtest import chosen_scenario
from planner.planned import planned
from planner.report.page import report_page
from planner.report.page.sums import check_sums
from planner.studies.scenario_economics import economics
from planner.studies.uncertainty import uncertainty
from planner.studies.waterfall import with_waterfall
from planner.summary import plan_text

SHARES = [1 / 3] * 8 + [1.0] * 8 + [2 / 3] * 8
SCHEDULE = [2] * 8 + [5] * 8 + [3] * 8
DAY: dict[str, Any] = {
    "version": 1,
    "name": "a day, scheduled",
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 8192, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
    "traffic": {"peak_qps": 12.0, "day": SHARES},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 100}]},
    "slo": {"p95_ttft_ms": "<=1000", "p95_tpot_ms": "<=50"},
    "fleet": {"startup_s": 0, "min_replicas": 1, "autoscaler": {"schedule": SCHEDULE, "scale_down_delay_s": 0}},
    "prices": {"gpu_hour_usd": 0.9},
    "revenue": {"ads": {"usd_per_query": 0.002}},
}
REPLICA_HOURS = 8 * (2 + 5 + 3)


def scenario(**changes: Any) -> Scenario:
    found = Scenario.from_dict(DAY)
    return found.with_values({key.replace("__", "."): value for key, value in changes.items()})


def answer(asked: Scenario, **more: Any) -> dict[str, Any]:
    return plan(asked, requests=2000, worlds=0, **more).as_dict()


@pytest.fixture(scope="module")
def scheduled() -> dict[str, Any]:
    return answer(scenario())


@pytest.fixture(scope="module")
def static() -> dict[str, Any]:
    return answer(scenario(fleet__autoscaler=None))


def test_a_schedule_is_paid_for_hour_by_hour(scheduled: dict[str, Any]) -> None:
    scaled = scheduled["autoscaler"]
    paid = [hour["paid_replicas"] for hour in scaled["hours"]]
    # What is stopped finishes what it has, some ten seconds of each replica that goes.
    assert [pytest.approx(wanted, abs=0.02) for wanted in SCHEDULE] == paid
    assert pytest.approx(fsum(paid)) == 24 * scaled["mean_paid_replicas"] == scaled["gpu_hours_per_day"]
    assert pytest.approx(REPLICA_HOURS, rel=2e-3) == scaled["gpu_hours_per_day"]
    assert pytest.approx(0.9 * scaled["gpu_hours_per_day"]) == scaled["usd_per_day"]
    assert (1, 5) == (scaled["days"], scaled["peak_replicas"])


def test_cost_lines_hours_and_queries_are_one_bill(scheduled: dict[str, Any]) -> None:
    cost, usd = scheduled["cost"], scheduled["autoscaler"]["usd_per_day"]
    assert pytest.approx(usd) == 24 * cost["usd_per_hour"]
    assert pytest.approx(usd) == fsum(line["product_usd"] for line in scheduled["cost_lines"])
    assert pytest.approx(usd) == fsum(hour["cost"] for hour in scheduled["day"])
    assert pytest.approx(usd / (12.0 * 3600 * 16)) == cost["usd_per_query"]
    assert pytest.approx(0.002 - cost["usd_per_query"]) == scheduled["margin"]["usd_per_query"]
    check_sums(scheduled, "plan")  # raises for what does not add up


def test_the_fleet_and_its_static_bill_are_those_without_the_autoscaler(
    scheduled: dict[str, Any], static: dict[str, Any]
) -> None:
    assert static["fleet"] == scheduled["fleet"]
    assert static["at_peak"]["slo"] == scheduled["at_peak"]["slo"]
    assert static["load_shape"] == scheduled["load_shape"]
    assert static["fleet"]["replicas"] == scheduled["autoscaler"]["static"]["replicas"]
    assert pytest.approx(24 * static["cost"]["usd_per_hour"]) == scheduled["autoscaler"]["static"]["usd_per_day"]
    assert static["autoscaler"] is None


def test_hours_without_the_service_level_are_said() -> None:
    few = answer(scenario(fleet__autoscaler={"schedule": [1] * 23 + [9]}))
    missed = [hour["hour"] for hour in few["autoscaler"]["hours"] if hour["slo_met"] is False]
    assert set(range(8, 16)) <= set(missed)
    assert pytest.approx(1 - len(missed) / 24) == few["autoscaler"]["slo_hours_share"]
    (said,) = few["warnings"]
    assert f"limits break in {len(missed)} of 24 hours (p95_tpot_ms, p95_ttft_ms)" in said
    assert f"the limits BREAK in {len(missed)} of 24 hours" in " ".join(plan_text(few).split())


def test_an_autoscaler_that_costs_more_than_the_fleet_on_all_day_is_said() -> None:
    found = answer(scenario(fleet__autoscaler={"schedule": [9] * 24}))
    assert any("% more than" in warning for warning in found["warnings"])
    assert "the autoscaler COSTS" in plan_text(found)


def test_a_peak_that_needs_more_than_the_autoscaler_may_have_fits_no_fleet() -> None:
    found = answer(scenario(fleet__autoscaler={"schedule": [1] * 24}, traffic__peak_qps=60.0))
    assert not found["feasible"]
    assert found["autoscaler"] is None
    assert "fleet.autoscaler.max_replicas (=1): even 1 serving" in found["alternatives"][0]["reason"]


def test_an_autoscaler_that_max_gpus_does_not_hold_fits_no_fleet() -> None:
    found = answer(scenario(fleet__max_gpus=4))
    assert "fleet.max_gpus (=4): does not hold the 5 replicas" in found["alternatives"][0]["reason"]


def test_a_target_begins_with_the_planned_fleet_and_repeats_with_its_seed() -> None:
    asked = scenario(fleet__autoscaler={"target": {"requests": 10}, "max_replicas": 8})
    one, other = (answer(asked, seed=3) for _ in range(2))
    assert one["autoscaler"] == other["autoscaler"]
    assert f"begins at midnight with {one['fleet']['replicas']} replicas" in one["autoscaler"]["notes"]


def test_an_admission_limit_stands_beside_an_autoscaler() -> None:
    """A target far above the limit starts nothing: whoever finds no room has failed, and is counted."""
    asked = scenario(
        fleet__admission={"max_requests_per_replica": 20},
        fleet__replicas=1,
        fleet__autoscaler={"target": {"requests": 1000}, "max_replicas": 8},
    )
    document = answer(asked)
    (note,) = (line for line in document["autoscaler"]["notes"] if "found no room (fleet.admission)" in line)
    asked_for = sum(hour["queries"] for hour in document["autoscaler"]["hours"])
    assert 0 < int(note.split()[0].replace(",", "")) < asked_for
    assert document["autoscaler"]["goodput_share"] < 1.0


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"traffic": {"arrivals": {"offline": {"requests": 5000}}}}, "traffic.arrivals (=offline)", "no hours"),
    ({"query__stages[0].turns": 3}, "query.stages[0].turns (=3)", "sessions"),
    ({"revenue__abandonment": {"metric": "e2e", "after_ms": 500, "per_100ms": 0.02}}, "revenue.abandonment", "users"),
    ({"engine__data_parallel_size": 2}, "engine.data_parallel_size (=2)", "ranks"),
    ({"traffic__peak_qps": 900.0}, "fleet.autoscaler (=one day of it)", "more model calls than are run whole"),
]


@pytest.mark.parametrize(("changes", "key", "because"), REFUSED)
def test_what_an_autoscaled_day_does_not_carry_is_refused(changes: dict[str, Any], key: str, because: str) -> None:
    if "traffic__peak_qps" in changes:
        changes = changes | {"fleet__autoscaler": {"schedule": [900] * 24}}
    with pytest.raises(UnsupportedError) as caught:
        answer(scenario(**changes))
    assert str(caught.value).startswith(key), because
    assert caught.value.nearest, because


def test_what_holds_fleets_of_one_size_refuses_an_autoscaler(scheduled: dict[str, Any]) -> None:
    asked = scenario(uncertainty={"peak_qps_cv": 0.1})
    for refused in (lambda: economics(asked), lambda: uncertainty(scheduled, asked)):
        with pytest.raises(UnsupportedError, match=r"fleet\.autoscaler: .*nearest: --set fleet\.autoscaler=null"):
            refused()


def test_the_waterfall_ends_with_the_autoscaler() -> None:
    found = plan(scenario(), requests=2000, worlds=0)
    rows = with_waterfall(found, scenario(), requests=2000).as_dict()["waterfall"]
    first, last = next(row for row in rows if row["feasible"]), rows[-1]
    assert "autoscaler" == last["step"]
    assert "replicas paid for on average" in last["what"]
    cost = found.as_dict()["cost"]
    assert cost["usd_per_query"] == last["usd_per_query"]
    removed = fsum(row["removed"]["usd_per_query"] for row in rows if row["removed"])
    assert pytest.approx(first["usd_per_query"] - last["usd_per_query"]) == removed
    assert 0 == last["removed"]["gpus"], "the fleet is as large at its peak"
    static = found.as_dict()["autoscaler"]["static"]["usd_per_day"]
    saved = (static - found.as_dict()["autoscaler"]["usd_per_day"]) / (12.0 * 3600 * 16)
    assert pytest.approx(saved) == last["removed"]["usd_per_query"]


def test_readers_of_the_plan_take_it(scheduled: dict[str, Any]) -> None:
    document = json.loads(json.dumps(scheduled))
    read = planned(document)
    assert read.pinned.fleet.autoscaler is None, "what simulates the fleet at one moment has none"
    assert pytest.approx(scheduled["autoscaler"]["static"]["usd_per_day"] / 24) == read.usd_per_hour
    facts = read_facts(document)
    tested = Scenario.from_dict(chosen_scenario(facts))
    assert (None, 12.0) == (tested.fleet.autoscaler, tested.traffic.peak_qps)


def test_the_report_has_the_autoscaler_and_finds_sums_that_do_not_hold(scheduled: dict[str, Any]) -> None:
    page = report_page(json.loads(json.dumps(scheduled)))
    assert "as the autoscaler runs it" in page
    assert "Replicas are started and stopped by the autoscaler" in page
    for path, value in ((("usd_per_day",), 1.0), (("static", "usd_per_day"), 1.0), (("hours", 3, "rate_qps"), -1.0)):
        broken = json.loads(json.dumps(scheduled))
        place = broken["autoscaler"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(DataFileError, match=r"autoscaler"):
            report_page(broken)


def test_unknown_input_is_still_an_input_error() -> None:
    with pytest.raises(InputError, match=r"spare_replicas"):
        scenario(fleet__spare_replicas=1)
