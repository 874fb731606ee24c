"""A file of rates in `plan`: its peak and its mean day by hand, and what reads the plan afterwards."""

from __future__ import annotations

import json
from math import fsum
from pathlib import Path
from typing import Any

import pytest

from planner import Scenario, plan
from planner.drift.model import fleet_model
from planner.economics import Demand
from planner.errors import DataFileError, ScenarioError, UnsupportedError
from planner.manifests.facts import read_facts
from planner.manifests.loadtest import master_files
from planner.planned import planned
from planner.report.page.document import checked
from planner.studies.sweep import sweep
from planner.workload import days_of_rates, peak_and_day, whole_and_mean_day

DAY_S = 86_400
BASE: dict[str, Any] = {
    "version": 1,
    "name": "rates",
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 8192, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
    "traffic": {"rates": {"file": "rates.csv"}},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 100}]},
    "slo": {"p95_ttft_ms": "<=1000", "p95_tpot_ms": "<=50"},
    "prices": {"gpu_hour_usd": 0.9},
}
# Two days: 6 queries/s, in the first one's noon hour half an hour of 12; in the second from six in the evening 2.
TWO_DAYS = [(0, 6), (43_200, 12), (45_000, 6), (DAY_S + 64_800, 2)]


def written(folder: Path, rows: list[tuple[float, float]]) -> Scenario:
    (folder / "rates.csv").write_text("seconds,qps\n" + "".join(f"{s},{qps}\n" for s, qps in rows))
    return Scenario.from_dict(BASE, folder)


def answer(asked: Scenario) -> dict[str, Any]:
    return plan(asked, requests=2000, worlds=0).as_dict()


def test_the_peak_is_the_highest_step_and_the_day_the_mean_of_the_days(tmp_path: Path) -> None:
    found = peak_and_day(written(tmp_path, TWO_DAYS)).traffic
    assert 12 == found.peak_qps
    by_hour = [6.0] * 12 + [(9 + 6) / 2] + [6.0] * 5 + [(6 + 2) / 2] * 6
    assert [pytest.approx(qps / 12) for qps in by_hour] == list(found.day)


@pytest.mark.parametrize(
    ("rows", "days", "because"),
    [
        ([(0, 5)], 1, "one row holds all day"),
        (TWO_DAYS, 2, "the second begins in the middle of a step"),
        ([(0, 5), (6 * DAY_S, 1)], 7, "six days at one rate, and a seventh"),
        ([(0, 5), (DAY_S, 1), (2 * DAY_S, 5)], 3, "a third day like the first makes no period of two"),
    ],
)
def test_days_of_a_file(tmp_path: Path, rows: list[tuple[float, float]], days: int, because: str) -> None:
    asked = written(tmp_path, rows)
    assert days == days_of_rates(asked), because
    whole, mean = whole_and_mean_day(asked)
    assert days * DAY_S == whole.end_s
    assert pytest.approx(whole.by_hour().sum() / days) == mean.by_hour().sum(), "the same queries a day"


def test_a_plan_sizes_the_peak_and_bills_the_mean_day(tmp_path: Path) -> None:
    found = answer(written(tmp_path, TWO_DAYS))
    same = {"peak_qps": 12.0, "day": [1.0] * 24}
    at_peak = answer(Scenario.from_dict(BASE | {"traffic": same}))
    assert at_peak["fleet"] == found["fleet"]
    queries = fsum(hour["queries"] for hour in found["day"])
    assert pytest.approx(3600 * (12 * 6 + 7.5 + 5 * 6 + 6 * 4)) == queries
    assert pytest.approx(24 * found["cost"]["usd_per_hour"] / queries) == found["cost"]["usd_per_query"]
    assert {"file": "rates.csv"} == found["scenario"]["traffic"]["rates"], "as it was given"
    (said,) = [row for row in found["provenance"] if row["what"] == "traffic.rates"]
    assert "the peak is its highest step" in said["source"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(0, 0), (3600, 4)], "has 0 queries/s at 00:00, the mean of its days: every hour"),
        (
            [(0, 4), (21_600, 0), (43_200, 2)],
            "has 0 queries/s at 06:00, the mean of its days, and as few in 5 more hours",
        ),
        ([(0, 2000), (82_800, 0.001)], "has 0.001 queries/s at 23:00"),
    ],
)
def test_an_hour_that_nobody_asks_in_is_refused_by_the_file(
    tmp_path: Path, rows: list[tuple[float, float]], says: str
) -> None:
    with pytest.raises(DataFileError) as caught:
        plan(written(tmp_path, rows), requests=2000, worlds=0)
    assert ("traffic.rates.file", str(tmp_path / "rates.csv")[-59:]) == (
        caught.value.key,
        str(caught.value.value)[-59:],
    )
    assert says in str(caught.value)
    nearest = str(caught.value.nearest)
    assert nearest.endswith("simulate --days runs the file as it is")
    least_qps = float(nearest.split(maxsplit=1)[0])
    mended = peak_and_day(written(tmp_path, [(at, max(qps, least_qps)) for at, qps in rows])).traffic
    assert pytest.approx(least_qps) == min(mended.day) * (mended.peak_qps or 0.0), "the choice it names is taken"


def test_a_quiet_hour_of_one_day_is_no_empty_hour_of_the_mean_day(tmp_path: Path) -> None:
    found = peak_and_day(written(tmp_path, [(0, 4), (3600, 0), (7200, 4), (DAY_S, 2), (DAY_S + 60, 2)])).traffic
    assert pytest.approx((0 + 2) / 2 / 4) == found.day[1]


def test_a_row_that_closes_the_record_changes_no_query(tmp_path: Path) -> None:
    rows = [(0, 2), (43_200, 4)]
    without = peak_and_day(written(tmp_path, rows)).traffic
    for qps in (4, 0, 9):
        closed = peak_and_day(written(tmp_path, [*rows, (DAY_S, qps)])).traffic
        assert (without.peak_qps, without.day) == (closed.peak_qps, closed.day)


def test_readers_of_the_plan_need_no_file(tmp_path: Path) -> None:
    document = json.loads(json.dumps(answer(written(tmp_path, TWO_DAYS))))
    (tmp_path / "rates.csv").unlink()
    read = planned(document)
    assert 12 == read.scenario.traffic.peak_qps
    model = fleet_model(read)
    assert model.simulated is not None, model.why
    assert checked(document)["feasible"]
    facts = read_facts(document, base=tmp_path)
    assert (12.0, 24) == (facts.peak_qps, len(facts.day))


def test_the_load_test_is_of_the_peak_and_takes_no_file_with_it(tmp_path: Path) -> None:
    document = answer(written(tmp_path, TWO_DAYS))
    facts = read_facts(document, base=tmp_path)
    assert ["scenario.yaml"] == list(master_files(facts))
    sent = json.loads(master_files(facts)["scenario.yaml"])["traffic"]
    assert (document["scenario"]["traffic"]["peak_qps"], False) == (sent["peak_qps"], "rates" in sent)


def test_an_autoscaler_runs_all_days_of_the_file(tmp_path: Path) -> None:
    scaler = {"fleet.autoscaler": {"schedule": [6] * 24}, "fleet.startup_s": 0}
    found = answer(written(tmp_path, TWO_DAYS).with_values(scaler))
    scaled = found["autoscaler"]
    assert (2, 48) == (scaled["days"], len(scaled["hours"]))
    assert pytest.approx(6 * 24 * 0.9) == scaled["usd_per_day"]
    assert pytest.approx([6.0, 2.0]) == [scaled["hours"][18]["rate_qps"], scaled["hours"][24 + 18]["rate_qps"]]


def test_peak_and_day_beside_rates_stand_and_one_of_them_alone_is_refused(tmp_path: Path) -> None:
    both = {"traffic.peak_qps": 9.0, "traffic.day": [0.5] * 24}
    found = answer(written(tmp_path, TWO_DAYS).with_values(both))
    assert pytest.approx(9.0 * 0.5 * 3600) == found["day"][0]["queries"]
    (said,) = [row for row in found["provenance"] if row["what"] == "traffic.rates"]
    assert "not read" in said["source"]
    for key, value in both.items():
        with pytest.raises(ScenarioError, match="beside rates"):
            written(tmp_path, TWO_DAYS).with_values({key: [1.0] + [0.5] * 23 if "day" in key else value})


def test_a_mean_day_below_its_peak_keeps_the_hits_of_an_emerging_cache(tmp_path: Path) -> None:
    """Without a lifetime the hit rate is the same at every rate: then at the peak too, and so is every hour's share."""
    cache = {"popularity": {"zipf": 0.9, "queries": 100_000, "new_share": 0.3}, "capacity_queries": 5000}
    hits = answer(written(tmp_path, TWO_DAYS).with_values({"query.response_cache": cache}))["response_cache"]
    assert pytest.approx(hits["hit_rate"]) == hits["at_peak"]
    demand = Demand(12.0, (0.25,) * 12 + (0.5,) * 12, uncached_by_hour=(1.0,) * 12 + (0.5,) * 12)
    assert (0.5,) * 24 == demand.model_day, "half of the peak, not all of it"


def test_a_sweep_reads_the_file_at_every_point(tmp_path: Path) -> None:
    points = sweep(written(tmp_path, TWO_DAYS), {"prices.gpu_hour_usd": [1, 2]}, requests=2000).as_dict()["points"]
    assert [True, True] == [point["feasible"] for point in points]
    assert pytest.approx(2 * points[0]["usd_per_query"]) == points[1]["usd_per_query"]
    with pytest.raises(ScenarioError, match="beside rates"):
        sweep(written(tmp_path, TWO_DAYS), {"peak_qps": [1, 2]}, requests=2000)


def test_what_has_one_moment_alone_refuses_rates(tmp_path: Path) -> None:
    from planner import simulate

    with pytest.raises(UnsupportedError, match=r"traffic\.rates.*plan and simulate --days N read it"):
        simulate(written(tmp_path, TWO_DAYS), requests=1000)
