"""When queries arrive: rates, gaps, the response cache, closed loops; and what stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.errors import ScenarioError
from tests.workload_loads import LOGNORMAL, assert_same, load, scenario

# --- arrivals ---

LAWS = [
    ("constant", 0.0, 1e-9, "every gap is the same"),
    ("poisson", 1.0, 0.02, "exponential gaps"),
    ({"gamma": {"burstiness": 1}}, 1.0, 0.02, "burstiness 1 is Poisson"),
    ({"gamma": {"burstiness": 0.25}}, 2.0, 0.05, "CV = 1/sqrt(burstiness)"),
    ({"gamma": {"burstiness": 4}}, 0.5, 0.01, "smoother than Poisson"),
]


@pytest.mark.parametrize(("law", "cv", "within", "because"), LAWS, ids=[row[3] for row in LAWS])
def test_gaps_have_the_mean_and_variation_of_their_law(law: Any, cv: float, within: float, because: str) -> None:
    arrival_s = load(scenario(traffic__arrivals=law), 100_000).arrival_s
    gaps = np.diff(arrival_s)
    assert gaps.mean() == pytest.approx(0.1, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=within), because
    assert arrival_s[0] >= 0
    assert (gaps >= 0).all()


def test_another_rate_gives_the_same_queries_closer_together() -> None:
    made = scenario(stage__prompt_tokens=LOGNORMAL, query__response_cache__hit_rate=0.3)
    slow, fast = load(made), load(made.with_values({"peak_qps": 40}))
    np.testing.assert_allclose(slow.arrival_s, fast.arrival_s * 4, rtol=1e-12)
    np.testing.assert_array_equal(slow.prompt_tokens, fast.prompt_tokens)


@pytest.mark.parametrize("law", ["constant", "poisson", {"gamma": {"burstiness": 0.5}}], ids=str)
def test_the_first_queries_do_not_depend_on_how_many_follow(law: Any) -> None:
    made = scenario(
        traffic__arrivals=law,
        stage__prompt_tokens=LOGNORMAL,
        stage__output_tokens={"uniform": [1, 50]},
        stage__shared_prefix={"tokens": 64, "groups": 9, "zipf": 1},
        query__response_cache__hit_rate=0.4,
    )
    short, long = load(made, 100), load(made, 5000)
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:100])
    assert short.prefixes is not None
    assert long.prefixes is not None
    np.testing.assert_array_equal(short.prefixes.chain_segment, long.prefixes.chain_segment[:100])


def test_the_same_seed_repeats_and_another_does_not() -> None:
    made = scenario(stage__prompt_tokens=LOGNORMAL)
    assert_same(load(made, seed=5), load(made, seed=5))
    assert not np.array_equal(load(made, seed=5).arrival_s, load(made, seed=6).arrival_s)


def test_a_change_of_one_column_leaves_the_others() -> None:
    plain = load(scenario(stage__prompt_tokens=LOGNORMAL, stage__output_tokens={"uniform": [1, 50]}))
    other = load(scenario(stage__prompt_tokens=900, stage__output_tokens={"uniform": [1, 50]}))
    np.testing.assert_array_equal(plain.arrival_s, other.arrival_s)
    np.testing.assert_array_equal(plain.output_tokens, other.output_tokens)


def test_the_warmup_comes_on_top_of_the_queries() -> None:
    run = load(scenario(), 1000, warmup=200)
    assert (run.queries, run.warmup) == (1200, 200)
    np.testing.assert_array_equal(run.arrival_s, load(scenario(), 1200).arrival_s)


@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("hit_rate", [0.0, 0.5])
def test_a_duration_counts_from_the_end_of_the_warmup(warmup: int, hit_rate: float) -> None:
    made = scenario(query__response_cache__hit_rate=hit_rate)
    run = load(made, None, duration_s=300, warmup=warmup)
    longer = load(made, run.queries + 1)
    start = run.arrival_s[warmup - 1] if warmup else 0.0
    np.testing.assert_array_equal(run.arrival_s, longer.arrival_s[:-1])
    assert run.arrival_s[-1] <= start + 300 < longer.arrival_s[-1]
    assert run.queries - warmup == pytest.approx(300 * 10 * (1 - hit_rate), rel=0.1)


def test_a_duration_in_which_nothing_arrives_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"^duration \(=0.001 s\): no query arrives in it at 10 queries/s$"):
        load(scenario(), None, duration_s=0.001)


def test_open_arrivals_need_a_rate() -> None:
    with pytest.raises(ScenarioError, match=r"^traffic.peak_qps: is required with open arrivals"):
        load(scenario(peak_qps=None))


# --- response cache ---


@pytest.mark.parametrize("law", ["constant", "poisson"])
def test_the_response_cache_thins_the_users_queries(law: str) -> None:
    run = load(scenario(traffic__arrivals=law, query__response_cache__hit_rate=0.3), 50_000)
    assert run.queries == 50_000
    assert run.cached_share == pytest.approx(0.3, abs=0.01)
    assert run.queries / run.arrival_s[-1] == pytest.approx(7.0, rel=0.02)


def test_a_thinned_constant_load_keeps_its_clock() -> None:
    run = load(scenario(traffic__arrivals="constant", query__response_cache__hit_rate=0.3), 500)
    ticks = run.arrival_s * 10
    np.testing.assert_allclose(ticks, np.rint(ticks), atol=1e-9)
    assert np.diff(ticks).max() > 1.5


@pytest.mark.parametrize("law", ["constant", "poisson", {"gamma": {"burstiness": 0.25}}], ids=str)
def test_thinned_gaps_have_the_moments_of_a_thinned_renewal_process(law: Any) -> None:
    """A gap is the sum of K gaps, K geometric with mean 1/p: variance = cv²/p + (1 − p)/p² in mean gaps squared."""
    cv2 = {"constant": 0.0, "poisson": 1.0}.get(str(law), 4.0)
    pass_rate = 0.4
    run = load(scenario(traffic__arrivals=law, query__response_cache__hit_rate=1 - pass_rate, peak_qps=1), 200_000)
    gaps = np.diff(run.arrival_s)
    assert 1 / pass_rate == pytest.approx(gaps.mean(), rel=0.02)
    assert cv2 / pass_rate + (1 - pass_rate) / pass_rate**2 == pytest.approx(gaps.var(), rel=0.04)
    assert 0 == pytest.approx(np.corrcoef(gaps[1:], gaps[:-1])[0, 1], abs=0.01)


@pytest.mark.parametrize("law", ["constant", "poisson", {"gamma": {"burstiness": 0.25}}], ids=str)
@pytest.mark.parametrize("hit_rate", [0.999, 1 - 1e-7])
def test_a_cache_that_answers_nearly_all_takes_no_longer_to_draw(law: Any, hit_rate: float) -> None:
    run = load(scenario(traffic__arrivals=law, query__response_cache__hit_rate=hit_rate), 100_000)
    assert run.queries == 100_000
    assert run.cached_share == pytest.approx(hit_rate, abs=1e-4)
    assert 10 * (1 - hit_rate) == pytest.approx(run.queries / run.arrival_s[-1], rel=0.03)


def test_poisson_arrivals_at_another_hit_rate_are_the_same_only_further_apart() -> None:
    half, tenth = (load(scenario(query__response_cache__hit_rate=share)) for share in (0.5, 0.9))
    np.testing.assert_allclose(tenth.arrival_s, 5 * half.arrival_s, rtol=1e-12)


# --- closed and offline ---

CLOSED = [
    ({"concurrency": 4}, 64, 4, True, "10 each, but at least 64 in all"),
    ({"concurrency": 7}, 70, 7, True, "10 each"),
    ({"concurrency": 3}, 66, 3, True, "rounded up to the same for each"),
    ({"concurrency": 4, "requests_per_client": 2}, 8, 4, True, "as said"),
    ({"concurrency": 4, "requests": 9}, 9, 4, False, "a total that free clients share"),
    ({"concurrency": 40, "requests": 9}, 9, 9, False, "clients without a query do not count"),
]


@pytest.mark.parametrize(
    ("closed", "queries", "clients", "per_client", "because"), CLOSED, ids=[row[4] for row in CLOSED]
)
def test_closed_loops_send_as_many_queries_as_said(
    closed: dict[str, Any], queries: int, clients: int, per_client: bool, because: str
) -> None:
    run = load(scenario(peak_qps=None, traffic__arrivals={"closed": closed}), None)
    assert (queries, clients, per_client) == (run.queries, run.clients, run.per_client), because
    assert not run.arrival_s.any()
    assert (run.think_s, run.warmup) == (None, 0)


def test_clients_think_between_queries() -> None:
    run = load(scenario(peak_qps=None, traffic__arrivals={"closed": {"concurrency": 8, "think_s": 2.5}}))
    assert run.think_s is not None
    assert run.think_s.tolist() == [2.5] * 80


def test_an_offline_batch_arrives_at_once() -> None:
    run = load(scenario(peak_qps=None, traffic__arrivals={"offline": {"requests": 500}}), None, warmup=10)
    assert (run.queries, run.clients, run.warmup) == (500, 0, 0)
    assert not run.arrival_s.any()


def test_cached_queries_are_left_out_of_an_offline_batch() -> None:
    cached = {"query.response_cache.hit_rate": 0.5, "peak_qps": None}
    run = load(scenario().with_values(cached | {"traffic.arrivals": {"offline": {"requests": 1000}}}), None)
    assert run.queries == pytest.approx(500, abs=60)
    assert run.cached_share == pytest.approx(1 - run.queries / 1000)


def test_client_limits_are_carried_along() -> None:
    plain, limited = load(scenario()), load(scenario(traffic__max_in_flight=32, traffic__timeout_s=60))
    assert (plain.max_in_flight, plain.timeout_s) == (0, np.inf)
    assert (limited.max_in_flight, limited.timeout_s) == (32, 60.0)
