"""A response cache in front of a fleet's days: one share per hour for arrivals, samples, perfect scaler and bill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from response_cache_worlds import SMALL_LAW, drawn, found_in_cache

import planner.deployment.days as runs
from planner.days import simulate_days
from planner.deployment.day_rows import mixed_bins
from planner.deployment.documents import mixed
from planner.errors import InputError
from planner.response_cache import day_hits, step_hits
from planner.response_cache.hits import steady_at
from planner.scenario import Scenario
from planner.simulation.day_bins import BIN_ERROR, empty_bins, fold
from planner.simulation.load import Load
from planner.workload import Rates, rates_of, reaching, varied_arrivals

DAY = tuple([0.1] * 8 + [1.0] * 10 + [0.4] * 6)
LAW = {"zipf": 0.9, "queries": 1e5, "new_share": 0.2}
CACHE = {"popularity": LAW, "ttl_s": 1800, "hit_ms": 20, "usd_per_hit": 0.0004, "usd_per_hour": 0.3}
PRICE, RETRIEVAL, PEAK = 2.0, 0.001, 2.0


def scenario(base: Path | None = None, **values: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "model": "llama-3.1-8b",
        "hardware": "l4-24gb",
        "engine": {"quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
        "traffic": {"peak_qps": PEAK, "day": DAY},
        "query": {
            "stages": [{"name": "answer", "prompt_tokens": 200, "output_tokens": {"uniform": [2, 40]}}],
            "response_cache": CACHE,
        },
        "slo": {"p95_ttft_ms": "<=800", "p95_tpot_ms": "<=60"},
        "fleet": {"replicas": 2},
        "prices": {"gpu_hour_usd": PRICE, "compute_share": 1.0, "retrieval_usd_per_query": RETRIEVAL},
    }
    return Scenario.from_dict(data, base).with_values(values)


def recorded(folder: Path, rows: list[tuple[float, float]], **values: Any) -> Scenario:
    """The same under a file of rates."""
    text = "\n".join(["seconds,qps", *(f"{at_s},{qps}" for at_s, qps in rows)])
    (folder / "rates.csv").write_text(text, encoding="utf-8")
    return scenario(folder, **{"traffic": {"rates": {"file": "rates.csv"}}, **values})


# --- the share of each step ---


def test_hours_of_a_day_find_what_the_hours_of_a_plan_do():
    given = scenario()
    hits = day_hits(given).by_hour
    assert hits is not None
    assert max(hits) - min(hits) > 0.1
    found = 1.0 - reaching(given, rates_of(given, 2)).share_by_hour()
    assert list(hits) * 2 == pytest.approx(found.tolist(), abs=1e-9)


def test_a_file_of_the_same_rates_finds_the_same(tmp_path):
    """The first row holds for eight hours: the cache cools down in them hour by hour, all the same."""
    rows = [(0.0, 0.1 * PEAK), (8 * 3600.0, PEAK), (18 * 3600.0, 0.4 * PEAK)]
    given = recorded(tmp_path, rows)
    expected = reaching(scenario(), rates_of(scenario(), 1)).share_by_hour()
    found = reaching(given, rates_of(given, 1))
    assert expected.tolist() == pytest.approx(found.share_by_hour().tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("cache", "because"),
    [
        ({"popularity": LAW, "ttl_s": 600}, "answers expire"),
        ({"popularity": LAW, "ttl_s": 3600, "capacity_queries": 3000}, "answers expire and leave for others"),
    ],
)
def test_of_many_steps_the_share_is_read_between_neighbours_to_a_ten_thousandth(cache, because):
    given = scenario(**{"query.response_cache": cache})
    edges_s = np.arange(0.0, 86_401.0, 300.0)
    qps = 3.0 + 2.9 * np.sin(edges_s[:-1] / 86_400 * 2 * np.pi)
    found = step_hits(given, edges_s, qps)
    inner = given.query.response_cache
    assert inner is not None
    for place in range(3, len(qps), 41):  # the look back by hand, second by second
        moments = edges_s[place] + 300.0 * (np.arange(100) + 0.5) / 100
        seconds = moments[:, None] - np.arange(0.5, inner.ttl_s or 0.0)
        rate = float(qps[(seconds % 86_400 // 300).astype(int)].mean())
        assert steady_at(inner, rate).hit_rate == pytest.approx(found[place], abs=2e-4), because


def test_after_a_pause_as_long_as_an_answer_lives_nothing_is_found(tmp_path):
    """Answers live half an hour; from 06:00 to 08:00 nobody asks."""
    given = recorded(tmp_path, [(0.0, 5.0), (6 * 3600.0, 0.0), (8 * 3600.0, 5.0)])
    load = reaching(given, rates_of(given, 1))
    share = load.share_by_hour()
    assert np.isnan(share[6:8]).all()
    assert share[5] == pytest.approx(share[23]) == pytest.approx(share[9])
    assert share[9] < share[8] < 1.0
    kept = load.share[6:8]
    assert 1.0 == kept[1]


def test_steps_within_the_hour_find_what_a_simulated_cache_does():
    """Quarters of 2, 6, 2 and 1 queries/s: query by query, three days of which the first is left out; the standard
    error is 0.003. An answer lives for ten minutes. Left out is that what was made in a burst expires at once: a
    quarter is right to 0.02, the hour to 0.005.
    """
    law = {"zipf": SMALL_LAW.zipf, "queries": SMALL_LAW.queries, "new_share": SMALL_LAW.new_share}
    given = scenario(**{"query.response_cache": {"popularity": law, "ttl_s": 600}})
    quarters = np.tile([2.0, 6.0, 2.0, 1.0], 24) * np.repeat([0.5] * 8 + [1.0] * 16, 4)
    rates = Rates(900.0 * np.arange(3 * 96), np.tile(quarters, 3), 3 * 86_400.0)
    at_s = varied_arrivals("poisson", rates, 1.0, *np.random.default_rng(8).spawn(2)).arrival_s
    hits = found_in_cache(at_s, drawn(SMALL_LAW, len(at_s), 4), None, 600.0)
    quarter = (at_s // 900).astype(int) % 96
    later = at_s > 86_400.0
    found = step_hits(given, rates.edges_s, rates.qps)[:96]
    busy = later & (quarter >= 36)
    for of_hour in range(4):
        simulated = hits[busy & (quarter % 4 == of_hour)].mean()
        assert simulated == pytest.approx(found[36 + of_hour : 96 : 4].mean(), abs=0.02), of_hour
    assert hits[busy].mean() == pytest.approx(np.average(found[36:], weights=quarters[36:]), abs=0.005)
    assert found[37] > found[36] + 0.05


# --- arrivals ---


@pytest.mark.parametrize("law", ["poisson", "constant", {"gamma": {"burstiness": 0.5}}])
def test_each_step_keeps_its_own_share_under_every_law(law):
    """Five standard deviations; a gamma of burstiness 1/2 has twice the variance before it is thinned."""
    given = scenario(**{"traffic.arrivals": law})
    rates = Rates(np.array([0.0, 3600.0, 7200.0]), np.array([20.0, 50.0, 10.0]), 10_800.0)
    share = np.array([0.9, 0.3, 0.6])
    found = varied_arrivals(given.traffic.arrivals, rates, share, *np.random.default_rng(5).spawn(2))
    counted, _ = np.histogram(found.arrival_s, rates.edges_s)
    expected = 3600 * rates.qps * share
    assert (np.abs(counted - expected) < 5 * np.sqrt(2 * expected)).all()
    assert 3600 * 80.0 == pytest.approx(found.users, rel=0.02)
    assert (np.diff(found.arrival_s) >= 0).all()


def test_what_is_left_of_a_constant_load_are_some_of_its_own_queries():
    """One query each half second, then each second: every arrival is on that grid."""
    rates = Rates(np.array([0.0, 1000.0]), np.array([2.0, 1.0]), 2000.0)
    found = varied_arrivals("constant", rates, np.array([0.5, 0.25]), *np.random.default_rng(0).spawn(2))
    early, late = found.arrival_s[found.arrival_s <= 1000], found.arrival_s[found.arrival_s > 1000]
    assert (2 * early).tolist() == pytest.approx(np.round(2 * early).tolist(), abs=1e-6)
    assert late.tolist() == pytest.approx(np.round(late).tolist(), abs=1e-6)
    assert [1000, 250] == pytest.approx([len(early), len(late)], rel=0.2)


def test_a_thinned_poisson_stream_of_changing_share_is_one_on_its_own_clock():
    rates = Rates(np.array([0.0, 50_000.0]), np.array([20.0, 60.0]), 100_000.0)
    share = np.array([0.8, 0.2])
    found = varied_arrivals("poisson", rates, share / 4, *np.random.default_rng(1).spawn(2))
    gaps = np.diff(Rates(rates.start_s, rates.qps * share / 4, rates.end_s).queries_before(found.arrival_s))
    error = 1.0 / np.sqrt(len(gaps))
    assert abs(gaps.mean() - 1.0) < 5.0 * error
    assert abs(gaps.var() - 1.0) < 5.0 * np.sqrt(8.0) * error


# --- whole days ---


@pytest.mark.parametrize("way", ["streams", "whole", "samples"])
def test_arrivals_perfect_scaler_and_bill_read_one_share_per_hour(way, monkeypatch):
    if way == "samples":
        monkeypatch.setattr(runs, "MOST_WHOLE", 1000)
    given = scenario(**({"fleet.routing": "random"} if way == "streams" else {}))
    document = simulate_days(given, days=1).as_dict()
    assert way == document["way"]
    hits = day_hits(given).by_hour
    assert hits is not None
    rows = document["days"]
    assert list(hits) == pytest.approx([row["cached_share"] for row in rows], abs=1e-9)
    needed = {level["reaching_qps"]: level["replicas"] for level in document["perfect"]["levels"]}
    for row, hit, of_peak in zip(rows, hits, DAY, strict=True):
        users = 3600 * PEAK * of_peak
        expected = users * (1 - hit)
        assert abs(row["queries"] - expected) < 5 * np.sqrt(expected) + 1
        bought = users * (RETRIEVAL * (1 - hit) + 0.0004 * hit) + 0.3
        assert 2 * PRICE + bought == pytest.approx(row["usd"])
        nearest = min(needed, key=lambda qps, reaching=PEAK * of_peak * (1 - hit): abs(qps - reaching))
        assert PEAK * of_peak * (1 - hit) == pytest.approx(nearest)
        assert needed[nearest] == row["perfect_replicas"]
        assert row["with_hits_ms"]["ttft"]["p50"] >= 20
        mean = hit * 20 + (1 - hit) * row["e2e_ms"]["mean"]
        assert mean == pytest.approx(row["with_hits_ms"]["e2e"]["mean"])
    of_day = day_hits(given).of_day
    assert of_day == pytest.approx(document["totals"]["cached_share"])
    told = [row for row in document["provenance"] if row["what"] == "query.response_cache: hit rate"]
    assert f"{min(hits):.1%} to {max(hits):.1%} by the hour" == told[0]["value"]


def test_an_emerging_hit_rate_beside_recorded_rates_and_an_autoscaler(tmp_path):
    """Quarter-hours, one hour without any load: its bill is the fleet's and the cache's own."""
    rows = [(900.0 * place, 0.5 + 0.4 * (place % 4)) for place in range(48)]
    scaler = {"target": {"requests": 8}, "max_replicas": 3}
    given = recorded(tmp_path, [*rows, (48 * 900.0, 0.0), (52 * 900.0, 1.0)], **{"fleet.autoscaler": scaler})
    answer = simulate_days(given, days=1)
    document = answer.as_dict()
    pause = document["days"][12]
    assert [0, None, 0.0] == [pause["queries"], pause["cached_share"], pause["rate_qps"]]
    assert pause["gpu_hours"] * PRICE + 0.3 == pytest.approx(pause["usd"])
    assert {"ttft": None, "e2e": None} == pause["with_hits_ms"]
    assert "answers " in str(answer)
    assert "with its answers counted the mean E2E is" in " ".join(str(answer).split())
    json.dumps(document, allow_nan=False)


def test_a_cache_that_answers_everything_is_refused(tmp_path):
    cache = {"popularity": {"zipf": 1.0, "queries": 1000, "new_share": 0}, "capacity_queries": 5000}
    given = recorded(tmp_path, [(0.0, 5.0), (3600.0, 2.0)], **{"query.response_cache": cache})
    with pytest.raises(InputError, match="answers every query") as error:
        simulate_days(given, days=1)
    assert "query.response_cache.capacity_queries" == error.value.key


def test_a_stated_hit_rate_and_none_stay_what_they_are(tmp_path):
    for cache, share in (({"hit_rate": 0.25}, 0.75), (None, 1.0)):
        given = recorded(tmp_path, [(0.0, 5.0), (1800.0, 2.0)], **{"query.response_cache": cache})
        assert {share} == set(reaching(given, rates_of(given, 1)).share.tolist())


# --- latency with the hits ---


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_percentiles_of_bins_with_hits_are_those_of_the_values(share):
    rng = np.random.default_rng(2)
    arrival_s, tokens = np.sort(3600 * rng.random(500)), np.ones(500, np.int32)
    lasts_s = 0.05 + rng.exponential(0.4, 500)
    failed = rng.random(500) < 0.05
    bins = empty_bins(1)
    load = Load(arrival_s, tokens, tokens)
    fold(bins, load, arrival_s, failed, (arrival_s + lasts_s, arrival_s + lasts_s), np.full(3, np.inf))
    expected = mixed(np.where(failed, np.inf, 1000 * lasts_s), share, 120.0)
    found = mixed_bins(bins, 0, "e2e", share, 120.0)
    assert expected is not None
    assert found is not None
    assert expected["mean"] == pytest.approx(found["mean"])
    for name in ("p50", "p99"):
        assert expected[name] == pytest.approx(found[name], rel=2 * BIN_ERROR)
    assert None is mixed_bins(empty_bins(1), 0, "e2e", share, 120.0)
    assert None is mixed_bins(bins, 0, "e2e", None, 120.0)
