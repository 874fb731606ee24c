"""Two runs side by side: intervals that cover the truth, runs that may not be compared, settings, predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from simulated_records import scenario_with, write_records

from planner.cli.app import cli
from planner.errors import DataFileError
from planner.records import RunEnd
from planner.studies.compare import compare
from planner.studies.paired import at_percentile, mean, paired_ratio, unpaired_ratio


def row(document: dict, name: str) -> dict:
    return next(row for row in document["ratios"] if row["name"] == name)


# --- the interval ---


def test_a_ratio_that_every_query_has_is_told_exactly():
    a = np.random.default_rng(0).lognormal(3.0, 1.0, 500)
    found = paired_ratio(a, 1.3 * a, at_percentile(50.0), 0)
    assert found is not None
    assert (found.ratio, found.low, found.high) == pytest.approx((1.3, 1.3, 1.3))
    assert found.differs


def test_pairing_tells_a_difference_that_is_lost_in_the_spread_of_queries():
    rng = np.random.default_rng(1)
    a = rng.lognormal(3.0, 1.0, 600)
    b = 1.05 * a * rng.lognormal(0.0, 0.02, 600)
    paired, unpaired = paired_ratio(a, b, mean, 0), unpaired_ratio(a, b, mean, 0)
    assert paired is not None
    assert unpaired is not None
    assert paired.differs
    assert not unpaired.differs


def test_the_interval_covers_the_truth_where_neighbours_are_alike():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # noise that is shared by ten neighbours, as by queries of one batch
        shared = np.repeat(rng.normal(0.0, 0.1, 100), 10)
        a = rng.lognormal(3.0, 0.5, 1000)
        found = paired_ratio(a, 1.2 * a * np.exp(shared), mean, seed)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.2 * np.exp(0.1**2 / 2) <= found.high
    # 95 % of 200 is 190; 20 blocks make the interval a little narrow, as a t quantile against a normal one does
    assert 178 <= covered <= 199


def test_queries_that_failed_in_either_run_are_left_out_of_both():
    a, b = np.full(100, 10.0), np.full(100, 20.0)
    a[3], b[4] = np.inf, np.nan
    found = paired_ratio(a, b, mean, 0)
    assert found is not None
    assert found.ratio == 2.0


def test_too_few_queries_make_no_interval():
    found = paired_ratio(np.full(39, 1.0), np.full(39, 2.0), mean, 0)
    assert found is not None
    assert (found.ratio, found.low, found.differs) == (2.0, None, None)
    assert paired_ratio(np.full(9, np.nan), np.full(9, 2.0), mean, 0) is None


# --- whole runs ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    on, off = scenario_with(), scenario_with(engine__enable_prefix_caching=False)
    return {
        "on": write_records(folder / "on.jsonl", on, noise=0.01),
        "again": write_records(folder / "again.jsonl", on, noise=0.01, seed=0, slower=1.0),
        "off": write_records(folder / "off.jsonl", off, noise=0.01),
        "slow": write_records(folder / "slow.jsonl", on, slower=2.0, noise=0.05),
        "seeded": write_records(folder / "seeded.jsonl", on, seed=9),
        "shorter": write_records(folder / "shorter.jsonl", on, queries=300),
        "faster": write_records(folder / "faster.jsonl", scenario_with(traffic__peak_qps=50)),
    }


def test_the_same_run_again_is_told_from_nothing(runs: dict[str, Path]):
    document = compare(runs["on"], runs["again"]).document
    assert document["paired"]
    assert document["settings"] == []
    assert not row(document, "ttft_ms.p50")["differs"]
    assert row(document, "ttft_ms.p50")["predicted"] == 1.0


def test_a_server_twice_as_slow_is_twice_as_slow(runs: dict[str, Path]):
    comparison = compare(runs["on"], runs["slow"])
    found = row(comparison.document, "ttft_ms.p50")
    assert found["interval95"][0] < 2.0 < found["interval95"][1]
    assert found["interval95"][0] > 1.9
    assert found["differs"]
    assert "TTFT p50 +" in str(comparison)


def test_what_differs_is_named_and_the_predicted_change_stands_beside_the_measured(runs: dict[str, Path]):
    comparison = compare(runs["on"], runs["off"])
    assert comparison.document["settings"] == [{"key": "engine.enable_prefix_caching", "a": None, "b": False}]
    found = row(comparison.document, "ttft_ms.p50")
    # the records are the simulator's own times, a hundredth noise aside
    assert found["predicted"] == pytest.approx(found["ratio"], rel=0.02)
    text = str(comparison)
    assert "engine.enable_prefix_caching" in text
    assert "paired by query" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("seeded", "other times of arrival"),
        ("shorter", "400 queries of 1 calls against 300"),
        ("faster", "other times of arrival"),
    ],
)
def test_runs_that_did_not_send_the_same_are_refused_unless_asked_for(runs: dict[str, Path], other: str, reason: str):
    with pytest.raises(DataFileError, match=f"did not send the same as on.jsonl: {reason}"):
        compare(runs["on"], runs[other])
    document = compare(runs["on"], runs[other], unpaired=True).document
    assert not document["paired"]
    assert document["load_difference"].startswith(reason)
    assert row(document, "ttft_ms.p50")["interval95"] is not None
    assert "UNPAIRED" in str(compare(runs["on"], runs[other], unpaired=True))


def test_a_json_answer_stands_for_the_records_that_it_names(runs: dict[str, Path], tmp_path: Path):
    answer = tmp_path / "slow.json"
    answer.write_text(json.dumps({"records": str(runs["slow"])}))
    document = compare(runs["on"], answer).document
    assert row(document, "e2e_ms.p50")["ratio"] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "no such file|cannot be read"),
        ("{}", "is neither records nor a JSON answer"),
        ("\x00\xff", "is neither records nor a JSON answer"),
        ('{"records": "gone.jsonl"}', "names records that are not there: gone.jsonl"),
        ('{"record":"nonsense"}\n', "is no record"),
    ],
)
def test_what_is_no_run_is_bad_input(runs: dict[str, Path], tmp_path: Path, content: str | None, rule: str):
    path = tmp_path / "other"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(DataFileError, match=rule):
        compare(runs["on"], path)


def test_the_verb_answers_with_3_where_a_run_is_invalid(runs: dict[str, Path], tmp_path: Path):
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=400, invalid=["worker lost: 1"])
    bad = write_records(tmp_path / "bad.jsonl", scenario_with(), end=end)
    good = CliRunner().invoke(cli, ["loadtest", "--compare", str(runs["on"]), str(runs["slow"]), "--json"])
    assert good.exit_code == 0, good.stderr
    assert json.loads(good.stdout)["paired"]
    answer = CliRunner().invoke(cli, ["loadtest", "--compare", str(runs["on"]), str(bad)])
    assert answer.exit_code == 3
    assert "INVALID: B: worker lost: 1" in answer.stdout
