"""A rate that follows the day: by hand, by the law of its gaps, and files that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.cli.options import changes_of
from planner.errors import DataFileError, ScenarioError
from planner.scenario import GammaArrivals, Scenario
from planner.workload import Rates, build_load, closing_row, open_arrivals, rates_of, varied_arrivals

DAY = tuple([0.25] * 6 + [1.0] * 12 + [0.5] * 6)


def scenario(tmp_path: Path | None = None, **traffic: Any) -> Scenario:
    data = {
        "version": 1,
        "model": "llama-3.1-8b",
        "traffic": traffic,
        "query": {"stages": [{"name": "answer", "prompt_tokens": {"uniform": [10, 90]}, "output_tokens": 20}]},
    }
    return Scenario.from_dict(data, tmp_path)


def rngs(seed: int = 0) -> list[np.random.Generator]:
    return np.random.default_rng(seed).spawn(2)


@pytest.mark.parametrize(
    ("start_s", "qps", "end_s", "expected", "because"),
    [
        ([0.0], [1.0], 4.0, [1, 2, 3, 4], "an even rate: a gap is a second"),
        ([0.0, 2.0], [1.0, 2.0], 4.0, [1, 2, 2.5, 3, 3.5, 4], "at twice the rate gaps are half as long"),
        ([0.0, 2.0, 3.0], [1.0, 0.0, 1.0], 5.0, [1, 2, 4, 5], "time stands still while nothing comes"),
        ([0.0, 3.0], [0.5, 2.0], 4.0, [2, 3.25, 3.75], "a gap that two steps share: 1.0 of 0.5/s · 1 s + 2/s · 0.25 s"),
        ([0.0, 1.0], [0.0, 1.0], 3.0, [2, 3], "the first gap begins with the load"),
    ],
)
def test_constant_arrivals_follow_the_steps(start_s, qps, end_s, expected, because):
    rates = Rates(np.array(start_s), np.array(qps), end_s)
    found = varied_arrivals("constant", rates, 1.0, *rngs())
    assert expected == found.arrival_s.tolist(), because
    assert len(expected) == found.users


@pytest.mark.parametrize("law", ["poisson", GammaArrivals.model_validate({"gamma": {"burstiness": 0.5}})])
def test_on_the_clock_of_the_rate_the_gaps_are_those_of_an_even_load(law):
    """Λ(arrival) of the varied load is the arrival of the even one at a rate of 1, to the last query."""
    rates = rates_of(scenario(peak_qps=2.0, day=DAY), 1)
    varied = varied_arrivals(law, rates, 1.0, *rngs(3))
    gaps_rng, cache_rng = rngs(3)
    count = len(varied.arrival_s)
    even = open_arrivals(
        law, 1.0, 0.0, queries=count, duration_s=None, warmup=0, gaps_rng=gaps_rng, cache_rng=cache_rng
    )
    # Drawn in one piece here, with a reserve there: the first gaps are the same either way.
    np.testing.assert_allclose(rates.queries_before(varied.arrival_s), even.arrival_s, rtol=1e-9)
    assert rates.end_s >= varied.arrival_s[-1]


def test_the_same_seed_gives_the_same_queries_at_another_rate():
    one, two = (rates_of(scenario(peak_qps=qps, day=DAY), 1) for qps in (1.0, 2.0))
    slow, fast = (varied_arrivals("poisson", rates, 1.0, *rngs(1)).arrival_s for rates in (one, two))
    np.testing.assert_allclose(one.queries_before(slow), two.queries_before(fast[: len(slow)]), rtol=1e-9)


def test_each_hour_has_its_share_of_the_queries():
    """Poisson: within five standard deviations of peak_qps · 3600 s · the hour's share, on both of two days."""
    rates = rates_of(scenario(peak_qps=5.0, day=DAY), 2)
    assert (5.0 * np.array(DAY * 2)).tolist() == pytest.approx(rates.by_hour().tolist())
    arrival_s = varied_arrivals("poisson", rates, 1.0, *rngs()).arrival_s
    expected = 3600.0 * rates.by_hour()
    counted = np.bincount((arrival_s / 3600.0).astype(int), minlength=48)
    assert 48 == len(counted)
    assert (np.abs(counted - expected) < 5.0 * np.sqrt(expected)).all()


@pytest.mark.parametrize("reach", [0.5, 1 / 64])
def test_a_thinned_poisson_stream_is_a_poisson_stream(reach):
    """On the rate's clock its gaps are exponential with mean 1 ÷ reach: mean and variance within five errors."""
    rates = Rates(np.array([0.0, 50_000.0]), np.array([20.0, 60.0]), 100_000.0)
    found = varied_arrivals("poisson", rates, reach, *rngs())
    gaps = np.diff(rates.queries_before(found.arrival_s)) * reach
    error = 1.0 / np.sqrt(len(gaps))
    assert abs(gaps.mean() - 1.0) < 5.0 * error
    assert abs(gaps.var() - 1.0) < 5.0 * np.sqrt(8.0) * error  # the fourth central moment is 9
    assert abs(len(found.arrival_s) / found.users - reach) < 5.0 * reach / np.sqrt(reach * found.users)


def test_a_load_of_varied_arrivals_has_the_token_counts_of_an_even_one():
    given = scenario(peak_qps=0.5, day=DAY)
    rates = rates_of(given, 1)
    length = {"duration_s": None, "warmup": 0, "max_model_len": 4096}
    varied = build_load(
        given,
        queries=None,
        rng=np.random.default_rng(7),
        timed=lambda gaps, skips: varied_arrivals("poisson", rates, 1.0, gaps, skips),
        **length,
    )
    even = build_load(given, queries=varied.queries, rng=np.random.default_rng(7), **length)
    assert even.prompt_tokens.tolist() == varied.prompt_tokens.tolist()
    assert 0 == varied.warmup


# --- from a file ---


@pytest.mark.parametrize(
    ("rows", "days", "by_hour", "because"),
    [
        (["0,1", "3600,3"], 1, [1.0] + [3.0] * 23, "the last rate holds to the end of its day"),
        (["0,1", "1800,3", "3600,0"], 1, [2.0] + [0.0] * 23, "an hour's mean; a rate may be 0"),
        (["0,2", "43200,4"], 2, ([2.0] * 12 + [4.0] * 12) * 2, "after its last day it begins anew"),
        (["0,2", "86400,4"], 3, [2.0] * 24 + [4.0] * 24 + [2.0] * 24, "two days, and the first again"),
        (["0,2", "86400,4"], 1, [2.0] * 24, "what comes after the days that are asked for is left out"),
        (["0,2", "43200,4", "86400,4"], 2, ([2.0] * 12 + [4.0] * 12) * 2, "a last row at the day's end closes it"),
        (
            ["0,2", "43200,4", "86400,0"],
            2,
            ([2.0] * 12 + [4.0] * 12) * 2,
            "its rate is not used, 0 no more than others",
        ),
        (["0,2", "43200,4", "86400,1", "90000,3"], 2, [2.0] * 12 + [4.0] * 12 + [1.0] + [3.0] * 23, "not the last"),
        (["0,2", "43200,4", "172800,9"], 3, ([2.0] * 12 + [4.0] * 36) + [2.0] * 12 + [4.0] * 12, "closes the second"),
        (["0,1", "604800,5"], 7, [1.0] * 168, "at the end of seven days a row closes them always"),
    ],
)
def test_rates_are_read_from_a_file(tmp_path, rows, days, by_hour, because):
    (tmp_path / "rates.csv").write_text("\n".join(["seconds,qps", *rows]), encoding="utf-8")
    given = scenario(tmp_path, rates={"file": "rates.csv"})
    assert by_hour == rates_of(given, days).by_hour().tolist(), because


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["0,2", "43200,4", "86400,9"], "its last row, at 86400 s, closes the record: its 9 queries/s are not used"),
        (["0,2", "86400,4"], ""),
        (["0,2", "43200,4"], ""),
    ],
)
def test_a_row_that_closes_the_record_is_told(tmp_path, rows, said):
    (tmp_path / "rates.csv").write_text("\n".join(["seconds,qps", *rows]), encoding="utf-8")
    assert (said and f"rates.csv: {said}") == closing_row(scenario(tmp_path, rates={"file": "rates.csv"}))
    assert "" == closing_row(scenario(peak_qps=2.0, day=DAY))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seconds,qps\n60,1\n", "line 2: seconds is 60; the first row must be at 0"),
        ("seconds,qps\n0,1\n60,2\n60,3\n", "line 4: seconds is 60, not after 60"),
        ("seconds,qps\n0,1\n30,2\n20,3\n", "line 4: seconds is 20, not after 30"),
        ("seconds,qps\n0,-1\n", "line 2: qps is '-1', not a number from 0"),
        ("seconds,qps\n0,nan\n", "line 2: qps is 'nan'"),
        ("seconds,qps\n0,many\n", "line 2: qps is 'many'"),
        ("seconds,qps\n0,1\n1e9,1\n", "line 3: seconds is '1e9', not a number from 0 to 604800"),
        ("seconds,qps\n0,1\n604800,1\n604801,1\n", "line 4: seconds is '604801', not a number from 0 to 604800"),
        ("seconds,qps\n0,0\n60,0\n", "all rates are 0"),
        ("seconds,qps\n0,0\n60,0\n86400,3\n", "all rates are 0"),
        ("seconds,rate\n0,1\n", "has no column qps"),
        ("seconds,qps\n", "holds a header but no rows"),
        ("", "is empty"),
    ],
)
def test_a_rate_file_that_makes_no_sense_is_refused_with_its_line(tmp_path, text, says):
    (tmp_path / "rates.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataFileError) as error:
        rates_of(scenario(tmp_path, rates={"file": "rates.csv"}), 1)
    assert says in str(error.value)
    assert "traffic.rates.file" == error.value.key


@pytest.mark.parametrize(
    ("traffic", "key"),
    [
        ({"rates": {"file": "x.csv"}, "peak_qps": 3}, "traffic.peak_qps"),
        ({"rates": {"file": "x.csv"}, "day": DAY}, "traffic.day"),
        ({"rates": {"file": "x.csv"}, "arrivals": {"offline": {"requests": 5}}}, "traffic.rates"),
        ({"rates": {"fiel": "x.csv"}}, "traffic.rates.fiel"),
    ],
)
def test_rates_stand_alone(traffic, key):
    with pytest.raises(ScenarioError) as error:
        scenario(**traffic)
    assert key == error.value.key


def test_without_any_rate_days_are_refused():
    with pytest.raises(ScenarioError, match=r"traffic\.peak_qps"):
        rates_of(scenario(), 1)


def test_a_path_given_on_the_command_line_starts_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = changes_of(["traffic.rates.file=rates.csv"])
    assert {"traffic.rates.file": f'"{tmp_path / "rates.csv"}"'} == changed
