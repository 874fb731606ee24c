"""Hours with few queries are marked, in days and in a plan; what both verbs refuse they refuse in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import planner.deployment.days as runs
from planner import Scenario, plan
from planner.days import Days, simulate_days
from planner.deployment.autoscaled import beyond_max_gpus
from planner.deployment.day_rows import few_queries, least_queries
from planner.economics import Prices
from planner.economics.load_shape import static_usd_per_day
from planner.errors import InputError, ScenarioError
from planner.specs import Limit
from planner.summary import plan_text

QUIET, BUSY = 6, 18  # hours of 36 queries each, and of 3,600
SCALED = {"target": {"requests": 6}, "max_replicas": 4}


def scenario(**values: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "quiet nights",
        "model": "llama-3.1-8b",
        "hardware": "l4-24gb",
        "engine": {"quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
        "traffic": {"peak_qps": 1.0, "day": [0.01] * QUIET + [1.0] * BUSY},
        "query": {"stages": [{"name": "answer", "prompt_tokens": 200, "output_tokens": 40}]},
        "slo": {"p99_ttft_ms": "<=1000", "p90_tpot_ms": "<=80", "mean_e2e_ms": "<=9000"},
        "fleet": {"replicas": 1},
        "prices": {"gpu_hour_usd": 1.0},
    }
    return Scenario.from_dict(data).with_values(values)


@pytest.fixture(scope="module")
def days() -> Days:
    return simulate_days(scenario(), days=1)


@pytest.mark.parametrize(
    ("percentile", "least", "because"),
    [
        (50.0, 2, "the median of one query is that query"),
        (95.0, 20, "1 ÷ 0.05"),
        (99.0, 100, "1 ÷ 0.01"),
        (99.9, 1000, "1 ÷ 0.001, which is no round number in binary"),
        (99.99, 10_000, "1 ÷ 0.0001"),
        (97.3, 38, "1 ÷ 0.027 = 37.04, rounded up"),
        (None, 30, "a mean"),
    ],
)
def test_answered_queries_that_a_limit_needs(percentile: float | None, least: int, because: str) -> None:
    assert least == least_queries(Limit("ttft", "any", percentile, 1.0)), because


@pytest.mark.parametrize(
    ("queries", "answered", "marked", "because"),
    [
        (100, 100, [], "as many as the percentile needs"),
        (99, 99, ["p99_ttft_ms"], "one fewer"),
        (150, 60, ["p99_ttft_ms"], "what failed has no latency to be judged by"),
        (5, 0, ["p99_ttft_ms", "p90_tpot_ms"], "all failed"),
        (0, 0, [], "nobody came: nothing rests on chance"),
    ],
)
def test_which_limits_of_an_hour_rest_on_few(queries: int, answered: int, marked: list[str], because: str) -> None:
    checks = [{"key": "p99_ttft_ms", "least_queries": 100}, {"key": "p90_tpot_ms", "least_queries": 10}]
    assert marked == few_queries(checks, queries, answered), because


def test_quiet_hours_are_marked_where_the_percentile_needs_more(days: Days) -> None:
    """36 queries are enough for a p90 and a mean, not for a p99; busy hours have enough for all."""
    document = days.as_dict()
    for row in document["days"]:
        needs = {check["key"]: check["least_queries"] for check in row["slo"]}
        assert {"p99_ttft_ms": 100, "p90_tpot_ms": 10, "mean_e2e_ms": 30} == needs
        assert [key for key, least in needs.items() if row["answered"] < least] == row["few_queries"]
        assert ("p99_ttft_ms" in row["few_queries"]) == (row["hour"] < QUIET)
        assert row["slo_met"], "judged all the same"
    assert QUIET == document["totals"]["few_queries_hours"]
    (note,) = [note for note in document["notes"] if note.endswith("(few_queries)")]
    assert f"in {QUIET} of 24 hours fewer" in note
    assert "p99_ttft_ms: 100" in note


def test_the_answer_says_how_many_hours_rest_on_few(days: Days) -> None:
    said = " ".join(str(days).split())
    assert "HOLDS in every hour; 6 of 24 hours had fewer queries than a limit needs to be judged by." in said
    assert "?: judged by fewer answered queries than the limit needs" in said
    marked = [line for line in str(days).splitlines() if ":00 " in line and " ?" in line]
    assert QUIET == len(marked)


def test_hours_that_hold_on_enough_queries_say_nothing_of_few() -> None:
    answer = simulate_days(scenario(**{"traffic.day": [1.0] * 24}), days=1)
    assert 0 == answer.as_dict()["totals"]["few_queries_hours"]
    assert not [note for note in answer.as_dict()["notes"] if "few_queries" in note]
    assert "fewer" not in str(answer).partition("Where the numbers come from")[0].replace("fewest", "")


def test_a_limit_missed_by_few_queries_says_of_how_many() -> None:
    answer = simulate_days(scenario(slo={"p99_ttft_ms": "<=1"}), days=2)
    first = answer.as_dict()["days"][0]
    assert f"day 1, 00:00: p99 TTFT {first['slo'][0]['value_ms']:.3g} ms ({first['answered']} queries)" in str(answer)


def test_a_sampled_hour_rests_on_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MOST_WHOLE", 4000)
    document = simulate_days(
        scenario(**{"slo": {"p99_ttft_ms": "<=1000", "p99.99_ttft_ms": "<=5000"}}), days=1
    ).as_dict()
    assert "samples" == document["way"]
    first = document["days"][0]
    assert first["queries"] < 100 <= first["simulated"] < 10_000
    assert ["p99.99_ttft_ms"] == first["few_queries"]


def test_an_hour_without_queries_holds_and_is_not_marked(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("seconds,qps\n0,0\n14400,1\n")
    given = scenario().as_dict() | {"traffic": {"rates": {"file": "rates.csv"}}}
    rows = simulate_days(Scenario.from_dict(given, tmp_path), days=1).as_dict()["days"]
    assert [(0, True, [])] * 4 == [(row["queries"], row["slo_met"], row["few_queries"]) for row in rows[:4]]


def test_an_hour_without_queries_is_no_run_among_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a limit to the requests of a replica and an emerging cache: the keys of all hours are the same."""
    monkeypatch.setattr(runs, "MOST_WHOLE", 4000)
    (tmp_path / "rates.csv").write_text("seconds,qps\n0,0\n14400,1\n")
    changes = {
        "traffic": {"rates": {"file": "rates.csv"}},
        "fleet": {"replicas": 1, "admission": {"max_requests_per_replica": 50}},
    }
    cache = {"response_cache": {"popularity": "web_search", "ttl_s": 600, "hit_ms": 5}}
    given = scenario().as_dict() | changes
    asked = Scenario.from_dict(given | {"query": {**given["query"], **cache}}, tmp_path)
    answer = simulate_days(asked, days=1)
    document = answer.as_dict()
    assert "samples" == document["way"]
    empty, *_, busy = document["days"]
    assert [*busy] == [*empty]
    assert (0, 0, 0, 0) == tuple(empty[key] for key in ("queries", "answered", "simulated", "rejected"))
    assert (True, [], None, 1.0) == tuple(empty[key] for key in ("slo_met", "few_queries", "ttft_ms", "paid_replicas"))
    assert pytest.approx(20 * 3600) == document["totals"]["user_queries"]
    assert 24.0 == document["totals"]["gpu_hours"], "a static fleet is paid for all night"
    assert "00:00" in str(answer)


def test_a_plan_marks_the_hours_of_its_autoscaler_alike() -> None:
    asked = scenario(**{"fleet.autoscaler": SCALED, "fleet.startup_s": 60, "fleet.replicas": None})
    document = plan(asked, requests=2000, worlds=0).as_dict()
    scaled = document["autoscaler"]
    assert [hour < QUIET for hour in range(24)] == ["p99_ttft_ms" in hour["few_queries"] for hour in scaled["hours"]]
    assert QUIET == scaled["few_queries_hours"]
    assert any(f"in {QUIET} of 24 hours fewer queries were answered" in note for note in scaled["notes"])
    assert "6 of 24 hours had fewer queries than a limit needs" in " ".join(plan_text(document).split())


def test_a_plan_that_breaks_limits_by_few_queries_says_so() -> None:
    """The schedule leaves the nights alone; there the p99 of 36 queries is over a limit that the peak holds."""
    asked = scenario(
        **{
            "fleet": {"autoscaler": {"schedule": [1] * 24}, "startup_s": 0},
            "query.stages[0].prompt_tokens": {"lognormal": {"mean": 200, "cv": 1.5}},
            "traffic.day": [0.002] * 23 + [1.0],
            "slo": {"p90_ttft_ms": "<=180"},
        }
    )
    document = plan(asked, requests=2000, worlds=0).as_dict()
    hours = document["autoscaler"]["hours"]
    thin = [hour for hour in hours if hour["missed"] and hour["few_queries"]]
    assert thin, "the seed has such an hour"
    (said,) = [warning for warning in document["warnings"] if "limits break" in warning]
    assert f"; {len(thin)} of these hours broke them by fewer queries than they need" in said


# --- one rule for both verbs ---


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"query.stages[0].turns": 3}, "query.stages[0].turns"), ({"engine.data_parallel_size": 2}, "data_parallel_size")],
)
def test_plan_and_days_refuse_the_same_in_the_same_words(changes: dict[str, Any], key: str) -> None:
    asked = scenario(**{"fleet.autoscaler": SCALED, **changes})
    said = []
    for answer in (lambda: plan(asked, requests=2000, worlds=0), lambda: simulate_days(asked, days=1)):
        with pytest.raises(InputError, match=r"beside fleet\.autoscaler are not supported yet") as caught:
            answer()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert key in said[0]


@pytest.mark.parametrize(
    ("max_gpus", "each", "most", "says", "because"),
    [
        (None, 2, 100, "", "no bound"),
        (8, 2, 4, "", "just enough"),
        (7, 2, 4, "does not hold the 4 replicas of 2 GPUs that the autoscaler may have", "one GPU short"),
    ],
)
def test_what_max_gpus_holds(max_gpus: int | None, each: int, most: int, says: str, because: str) -> None:
    assert says == beyond_max_gpus(max_gpus, each, most), because


def test_max_gpus_bounds_the_autoscaler_of_days_as_of_a_plan() -> None:
    asked = scenario(**{"fleet.autoscaler": SCALED, "fleet.max_gpus": 3})
    with pytest.raises(ScenarioError) as caught:
        simulate_days(asked, days=1)
    rule = "fleet.max_gpus (=3): does not hold the 4 replicas of 1 GPU that the autoscaler may have"
    assert f"{rule}; nearest: 4" == str(caught.value)
    assert rule == plan(asked, requests=2000, worlds=0).as_dict()["alternatives"][0]["reason"]


def test_a_static_fleet_is_paid_by_the_gpu_hour_staff_beside_it() -> None:
    """2 GPUs · 24 h · $3 ÷ 0.5, and a day of $36,500 a year ÷ 0.5."""
    assert pytest.approx(288.0) == static_usd_per_day(2, Prices(gpu_hour_usd=3.0, compute_share=0.5))
    staffed = Prices(gpu_hour_usd=3.0, compute_share=0.5, staff_usd_per_year=36_500.0)
    assert pytest.approx(288.0 + 200.0) == static_usd_per_day(2, staffed)
    assert static_usd_per_day(2, Prices(gpu_hour_usd=None)) is None
