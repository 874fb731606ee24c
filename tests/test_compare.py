"""Two runs side by side: intervals that cover the truth, runs that may not be compared, settings, predictions."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from simulated_records import scenario_with, write_records

from planner.cli.app import cli
from planner.errors import DataFileError
from planner.records import RequestRow, RunEnd
from planner.studies.compare import compare
from planner.studies.paired import (
    at_percentile,
    mean,
    paired_difference,
    paired_ratio,
    unpaired_difference,
    unpaired_ratio,
    without_common_failures,
)


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


def test_queries_of_which_nothing_is_known_in_either_run_are_left_out_of_both():
    a, b = np.full(100, 10.0), np.full(100, 20.0)
    a[3], b[4] = np.nan, np.nan
    found = paired_ratio(a, b, mean, 0)
    assert found is not None
    assert found.ratio == 2.0


def test_a_server_that_turns_its_slow_queries_away_is_not_faster():
    """The slowest 30 % fail in b: of the others alone b's median would be far below a's, of all it is the same."""
    a = np.random.default_rng(2).lognormal(3.0, 1.0, 500)
    b = np.where(a > np.quantile(a, 0.7), np.inf, a)
    median = paired_ratio(a, b, at_percentile(50.0), 0)
    assert median is not None
    assert median.ratio == 1.0
    assert not median.differs
    above = paired_ratio(a, b, at_percentile(99.0), 0)
    assert above is not None
    assert (above.b, above.ratio, above.low, above.differs) == (np.inf, None, None, None)
    for pair in (without_common_failures(a, b), (a, b)):
        found = paired_ratio(*pair, mean, 0)
        assert found is not None
        assert found.ratio is None
    unpaired = unpaired_ratio(a, b, mean, 0)
    assert unpaired is not None
    assert unpaired.ratio is None


def test_means_are_compared_where_the_same_queries_failed():
    a, b = np.full(100, 10.0), np.full(100, 20.0)
    a[3], b[3] = np.inf, np.inf
    found = paired_ratio(*without_common_failures(a, b), mean, 0)
    assert found is not None
    assert (found.ratio, found.differs) == (2.0, True)


def test_a_percentile_near_the_failures_claims_no_interval():
    """Half of the draws have p69 among the failed: how far above it lies nobody knows."""
    a = np.linspace(1.0, 2.0, 500)
    b = np.where(np.arange(500) % 10 < 3, np.inf, a)
    found = paired_ratio(a, b, at_percentile(69.9), 0)
    assert found is not None
    assert found.ratio is not None
    assert (found.low, found.high, found.differs) == (None, None, None)


def test_a_difference_of_failures_has_an_interval_paired_or_not():
    a, b = np.zeros(500), (np.arange(500) % 10 < 3).astype(float)
    a[7] = np.nan
    for found in (paired_difference(a, b, 0), unpaired_difference(a, b, 0)):
        assert found is not None
        assert (found.a, found.b) == pytest.approx((0.0, 0.3), abs=1e-3)
        assert found.low is not None
        assert found.low > 0.25
        assert found.differs
    few = paired_difference(a[:20], b[:20], 0)
    assert few is not None
    assert (few.low, few.differs) == (None, None)
    assert paired_difference(np.full(9, np.nan), np.zeros(9), 0) is None


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


def test_a_run_that_is_invalid_is_the_first_thing_said(runs: dict[str, Path], tmp_path: Path):
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=400, invalid=["client busy"])
    spoiled = write_records(tmp_path / "i.jsonl", scenario_with(), end=end)
    for a, b, said in (
        (runs["on"], spoiled, "NOT TO BE USED: B is INVALID. From A to B"),
        (spoiled, runs["on"], "NOT TO BE USED: A is INVALID. From A to B"),
        (spoiled, spoiled, "NOT TO BE USED: both runs are INVALID. From A to B"),
        (runs["on"], runs["again"], "From A to B"),
    ):
        assert str(compare(a, b)).startswith(said)


def shed(row: RequestRow) -> RequestRow:
    """A long answer is refused with 429."""
    if row.asked_output_tokens < 30:
        return row
    return msgspec.structs.replace(
        row,
        error="HTTP 429",
        status=429,
        first_token_s=None,
        last_token_s=None,
        gaps_ms=[],
        output_tokens=None,
        events=0,
    )


def test_shedding_is_the_first_thing_said_and_no_gain(runs: dict[str, Path], tmp_path: Path):
    shedding = write_records(tmp_path / "shed.jsonl", scenario_with(), noise=0.01, change=shed)
    comparison = compare(runs["on"], shedding)
    first = comparison.document["ratios"][0]
    assert (first["name"], first["a"]) == ("failed_share", 0.0)
    assert 0.1 < first["b"] < 0.9
    assert first["difference"] == pytest.approx(first["b"])
    assert first["interval95"][0] > 0.0
    assert first["differs"]
    assert first["predicted_difference"] == 0.0
    for name in ("ttft_ms.mean", "e2e_ms.p99"):
        found = row(comparison.document, name)
        assert (found["b"], found["ratio"], found["interval95"], found["differs"]) == (None, None, None, None), name
    text = str(comparison)
    assert "measured: failed queries 0 % → " in " ".join(text.split())
    assert "undefined" in text
    assert "counts as an infinite latency" in text
    json.dumps(comparison.as_dict(), allow_nan=False)
    unpaired = compare(runs["seeded"], shedding, unpaired=True).document
    assert unpaired["ratios"][0]["differs"]
    assert row(unpaired, "ttft_ms.mean")["ratio"] is None


def test_without_failures_the_headline_has_latencies_alone(runs: dict[str, Path]):
    comparison = compare(runs["on"], runs["slow"])
    assert comparison.document["ratios"][0]["difference"] == 0.0
    assert str(comparison).startswith("From A to B, measured: TTFT p50 +")


def test_a_run_whose_seed_does_not_give_what_was_sent_is_refused(runs: dict[str, Path], tmp_path: Path):
    """Two loads that are built again alike say nothing where the records are of another one."""
    other = tmp_path / "other.jsonl"
    other.write_bytes(runs["on"].read_bytes().replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(DataFileError, match="of its scenario and seed are not those that were sent"):
        compare(runs["seeded"], other, unpaired=True)


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


def test_the_verb_answers_with_1_where_a_run_is_invalid(runs: dict[str, Path], tmp_path: Path):
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=400, invalid=["worker lost: 1"])
    bad = write_records(tmp_path / "bad.jsonl", scenario_with(), end=end)
    good = CliRunner().invoke(cli, ["loadtest", "--compare", str(runs["on"]), str(runs["slow"]), "--json"])
    assert good.exit_code == 0, good.stderr
    assert json.loads(good.stdout)["paired"]
    answer = CliRunner().invoke(cli, ["loadtest", "--compare", str(runs["on"]), str(bad)])
    assert answer.exit_code == 1
    assert "INVALID: B: worker lost: 1" in answer.stdout
