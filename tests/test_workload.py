"""From scenario and seed to arrays: rates, moments, clipping, shared prefixes, and what stays the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import DataFileError, ScenarioError
from planner.scenario import Scenario
from planner.simulation.load import Load, Stage
from planner.workload import build_load

LOGNORMAL = {"lognormal": {"mean": 1800, "cv": 0.6}}


def scenario(folder: Path | None = None, **values: Any) -> Scenario:
    """One stage at 10 queries/s; double underscores in names are dots, `stage__` is the first stage."""
    base = {
        "version": 1,
        "model": "m",
        "traffic": {"peak_qps": 10},
        "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
    }
    keys = {key.replace("stage__", "query.stages[0].").replace("__", "."): value for key, value in values.items()}
    return Scenario.from_dict(base, folder).with_values(keys)


def load(
    made: Scenario,
    queries: int | None = 1000,
    *,
    duration_s: float | None = None,
    warmup: int = 0,
    seed: int = 1,
    max_model_len: int = 8192,
) -> Load:
    rng = np.random.default_rng(seed)
    return build_load(made, queries=queries, duration_s=duration_s, warmup=warmup, rng=rng, max_model_len=max_model_len)


def assert_same(left: Load, right: Load) -> None:
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


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


# --- token counts ---

MOMENTS = [
    (250, 250.0, 0.0, 250, 250, "fixed"),
    ({"uniform": [80, 100]}, 90.0, 6.055, 80, 100, "sd of 21 whole numbers = sqrt((21**2 - 1) / 12)"),
    ({"lognormal": {"mean": 500, "cv": 0.8}}, 500.0, 400.0, 1, 30_000, "sd = cv × mean"),
    ({"lognormal": {"mean": 500, "cv": 0}}, 500.0, 0.0, 500, 500, "no variation"),
    ({"normal": {"mean": 500, "sd": 50}}, 500.0, 50.0, 200, 800, "within 6 sd"),
    ({"normal": {"mean": 500, "sd": 50, "min": 480, "max": 520}}, 500.0, None, 480, 520, "held between"),
]


@pytest.mark.parametrize(("given", "mean", "sd", "least", "most", "because"), MOMENTS, ids=[r[5] for r in MOMENTS])
def test_token_counts_have_the_moments_asked_for(
    given: Any, mean: float, sd: float | None, least: int, most: int, because: str
) -> None:
    run = load(scenario(stage__prompt_tokens=given), 100_000, max_model_len=1_000_000)
    tokens = run.prompt_tokens
    assert tokens.dtype == np.int32
    assert tokens.mean() == pytest.approx(mean, rel=0.01), because
    if sd is not None:
        assert tokens.std() == pytest.approx(sd, rel=0.03, abs=1e-9), because
    assert least <= tokens.min() <= tokens.max() <= most
    assert run.clipped_share == 0


def test_a_draw_is_never_below_one_token() -> None:
    run = load(scenario(stage__output_tokens={"lognormal": {"mean": 1, "cv": 3}}))
    assert run.output_tokens.min() == 1


def test_a_wild_distribution_stays_within_the_context() -> None:
    wild = {"lognormal": {"mean": 1e9, "cv": 100}}
    run = load(scenario(stage__prompt_tokens=wild, stage__output_tokens=wild), 10_000)
    assert (run.prompt_tokens.min(), run.output_tokens.min()) >= (1, 1)
    assert (run.prompt_tokens + run.output_tokens).max() == 8192


def test_samples_of_a_file_are_drawn_alone_or_together(tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text("in,out\n100,1\n200,2\n300,3\n0,4\n")
    alone = load(scenario(tmp_path, stage__prompt_tokens={"histogram": {"file": "lengths.csv", "column": "in"}}), 4000)
    assert set(alone.prompt_tokens.tolist()) == {1, 100, 200, 300}
    assert np.count_nonzero(alone.prompt_tokens == 200) == pytest.approx(1000, rel=0.1)
    joint = {"joint": {"file": "lengths.csv", "columns": ["in", "out"]}}
    both = load(scenario(tmp_path, stage__prompt_tokens=joint, stage__output_tokens=None))
    pairs = set(zip(both.prompt_tokens.tolist(), both.output_tokens.tolist(), strict=True))
    assert pairs == {(100, 1), (200, 2), (300, 3), (1, 4)}


BAD_SAMPLES = [
    (None, "no such file", "missing"),
    ("", "is empty", "empty"),
    ("in,out\n", "holds a header but no rows", "no rows"),
    ("inn,out\n1,2\n", "has no column in; it has: inn, out; nearest: inn", "wrong column"),
    ("in,out\n1,2\n-3,4\n", "line 3: in is '-3', not a whole number of tokens", "negative"),
    ("in,out\n1.5,4\n", "line 2: in is '1.5', not a whole number", "half a token"),
    ("in,out\n1,4\n2\n", "line 3: 1 fields where the header has 2; is the file cut off?", "cut off"),
    ("in,out\n99999999999,4\n", "line 2: in is '99999999999', more than", "beyond 32 bits"),
]


@pytest.mark.parametrize(("text", "holds", "because"), BAD_SAMPLES, ids=[row[2] for row in BAD_SAMPLES])
def test_bad_samples_are_refused_with_their_line(text: str | None, holds: str, because: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataFileError) as caught:
        load(scenario(tmp_path, stage__prompt_tokens={"histogram": {"file": "l.csv", "column": "in"}}))
    assert str(caught.value).startswith("query.stages[0].prompt_tokens.histogram.file (=")
    assert holds in str(caught.value), because


# --- fitting the context ---


def test_tails_are_clipped_and_their_share_reported() -> None:
    run = load(
        scenario(stage__prompt_tokens={"uniform": [1, 1000]}, stage__output_tokens=100), 20_000, max_model_len=600
    )
    assert run.prompt_tokens.max() == 500
    assert np.count_nonzero(run.prompt_tokens == 500) / run.requests == pytest.approx(0.5, abs=0.02)
    assert run.clipped_share == pytest.approx(0.5, abs=0.02)


def test_outputs_are_clipped_before_prompts() -> None:
    run = load(
        scenario(stage__prompt_tokens={"uniform": [5, 9]}, stage__output_tokens={"uniform": [900, 999]}),
        max_model_len=100,
    )
    assert set(run.output_tokens.tolist()) == {99}
    assert set(run.prompt_tokens.tolist()) == {1}
    assert run.clipped_share == 1.0


def test_a_fixed_prompt_keeps_its_length_and_the_output_is_clipped() -> None:
    run = load(scenario(stage__output_tokens={"uniform": [900, 999]}), max_model_len=1100)
    assert set(run.prompt_tokens.tolist()) == {1000}
    assert set(run.output_tokens.tolist()) == {100}


MISFITS = [
    (
        {},
        1099,
        "query.stages[0].prompt_tokens (=1000)",
        "with 100 output tokens it is longer than max_model_len (=1099)",
    ),
    ({"stage__output_tokens": {"uniform": [1, 2]}}, 1000, "query.stages[0].prompt_tokens (=1000)", "one output token"),
    (
        {"stage__prompt_tokens": LOGNORMAL},
        100,
        "query.stages[0].output_tokens (=100)",
        "with a prompt of 1 it is longer",
    ),
    (
        {"stage__prompt_tokens": LOGNORMAL, "stage__output_tokens": LOGNORMAL, "stage__shared_prefix": {"tokens": 99}},
        100,
        "query.stages[0].shared_prefix.tokens (=99)",
        "leaves no room",
    ),
]


@pytest.mark.parametrize(("values", "max_model_len", "starts", "holds"), MISFITS, ids=[row[2] for row in MISFITS])
def test_fixed_values_that_do_not_fit_are_refused(
    values: dict[str, Any], max_model_len: int, starts: str, holds: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(scenario(**values), max_model_len=max_model_len)
    assert str(caught.value).startswith(starts)
    assert holds in str(caught.value)


def test_what_just_fits_is_taken() -> None:
    assert load(scenario(), max_model_len=1100).clipped_share == 0


# --- stages, samples, prefixes ---


def test_stages_calls_and_samples_stand_in_that_order() -> None:
    made = scenario(
        query__stages=[
            {"name": "draft", "calls": 2, "samples": 3, "prompt_tokens": {"uniform": [10, 90]}, "output_tokens": 7},
            {"name": "pick", "prompt_tokens": 500, "output_tokens": {"uniform": [1, 9]}},
        ]
    )
    run = load(made, 50)
    assert run.stages == (Stage("draft", 2, 3), Stage("pick"))
    assert (run.width, run.requests) == (7, 350)
    prompts, outputs = run.prompt_tokens.reshape(50, 7), run.output_tokens.reshape(50, 7)
    np.testing.assert_array_equal(prompts[:, 0], prompts[:, 2])
    np.testing.assert_array_equal(prompts[:, 3], prompts[:, 5])
    assert not np.array_equal(prompts[:, 0], prompts[:, 3])
    assert (prompts[:, 6] == 500).all()
    assert (outputs[:, :6] == 7).all()
    assert outputs[:, 6].max() <= 9


def chains(run: Load) -> list[list[int]]:
    assert run.prefixes is not None
    bounds = run.prefixes.chain_start
    return [run.prefixes.chain_segment[start:end].tolist() for start, end in pairwise(bounds)]


def test_samples_share_their_whole_prompt_and_nothing_else() -> None:
    run = load(scenario(stage__samples=3, stage__prompt_tokens={"uniform": [10, 90]}), 20)
    assert chains(run) == [[request // 3] for request in range(60)]
    assert run.prefixes is not None
    np.testing.assert_array_equal(run.prefixes.segment_tokens, run.prompt_tokens[::3])


def test_samples_share_a_prefix_and_then_their_own_prompt() -> None:
    run = load(scenario(stage__samples=2, stage__shared_prefix={"tokens": 400}), 3)
    assert chains(run) == [[0, 1], [0, 1], [0, 2], [0, 2], [0, 3], [0, 3]]
    assert run.prefixes is not None
    assert run.prefixes.segment_tokens.tolist() == [400, 600, 600, 600]


def test_prompts_of_samples_are_clipped_for_their_longest_answer() -> None:
    made = scenario(stage__samples=4, stage__prompt_tokens=LOGNORMAL, stage__output_tokens={"uniform": [1, 900]})
    run = load(made, max_model_len=1000)
    prompts, outputs = run.prompt_tokens.reshape(-1, 4), run.output_tokens.reshape(-1, 4)
    assert (prompts == prompts[:, :1]).all()
    assert (prompts[:, 0] + outputs.max(axis=1)).max() == 1000


def test_without_anything_shared_there_are_no_chains() -> None:
    assert load(scenario()).prefixes is None


def test_stages_have_prefixes_of_their_own() -> None:
    stage = {"prompt_tokens": 500, "output_tokens": 5, "shared_prefix": {"tokens": 100}}
    made = scenario(
        query__stages=[{"name": "a", **stage}, {"name": "b"} | stage | {"shared_prefix": None}, {"name": "c", **stage}]
    )
    run = load(made, 4)
    assert chains(run) == [[0], [], [1]] * 4


@pytest.mark.parametrize(("zipf", "first"), [(0.0, 0.25), (1.0, 0.48), (2.0, 0.7024)])
def test_groups_are_drawn_by_their_popularity(zipf: float, first: float) -> None:
    run = load(scenario(stage__shared_prefix={"tokens": 100, "groups": 4, "zipf": zipf}), 50_000)
    assert run.prefixes is not None
    shares = np.bincount(run.prefixes.chain_segment, minlength=4) / run.requests
    weights = np.arange(1, 5) ** -zipf
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    assert shares[0] == pytest.approx(first, abs=0.01)


def test_a_prompt_drawn_shorter_than_its_prefix_is_raised_and_counted() -> None:
    run = load(scenario(stage__prompt_tokens={"uniform": [301, 500]}, stage__shared_prefix={"tokens": 400}), 10_000)
    assert run.prompt_tokens.min() == 401
    (note,) = run.notes
    raised = int(note.split(": ")[1].split(" of ")[0])
    assert raised == pytest.approx(5000, rel=0.1)
    assert "of 10000 prompts" in note


def test_a_clipped_prompt_keeps_its_shared_prefix() -> None:
    made = scenario(
        stage__prompt_tokens=LOGNORMAL, stage__output_tokens=LOGNORMAL, stage__shared_prefix={"tokens": 400}
    )
    run = load(made, max_model_len=3000)
    assert run.prompt_tokens.min() == 401
    assert (run.prompt_tokens + run.output_tokens).max() == 3000
    assert 0 < run.clipped_share < 1


def test_a_run_beyond_all_memory_is_refused() -> None:
    rule = r"^requests \(=200000000\): a run has at most 100000000 queries: .* traffic.peak_qps \(=10\)$"
    with pytest.raises(ScenarioError, match=rule):
        load(scenario(), 200_000_000)
    for seldom in ({"peak_qps": 1e-310}, {"query__response_cache__hit_rate": 1 - 1e-16}):
        with pytest.raises(ScenarioError, match=r"^traffic.peak_qps .*: 1000 queries that reach .* more than 2e\+13 s"):
            load(scenario(**seldom))
    with pytest.raises(
        ScenarioError, match=r"^duration \(=1e\+07 s\): more than 100000000 queries at traffic.peak_qps"
    ):
        load(scenario(peak_qps=100), None, duration_s=1e7)
    with pytest.raises(ScenarioError, match="more than 100000000 model calls"):
        load(scenario(stage__calls=1_000_000), 1000)
