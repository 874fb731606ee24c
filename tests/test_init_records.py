"""`planner init --records`: lengths and arrivals fitted to what was seen give the scenario back that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from simulated_records import scenario_with, write_records

from planner.cli.app import cli
from planner.records import RequestRow, RunEnd
from planner.scenario import Scenario
from planner.workload.fitting import fitted_arrivals, fitted_tokens

RNG = np.random.default_rng(4)


def refitted(tmp_path: Path, scenario: Scenario, **options: Any) -> Scenario:
    """The scenario that `init` makes of a run of another."""
    records = write_records(tmp_path / "run.jsonl", scenario, **{"queries": 3000, "warmup": 0} | options)
    out = tmp_path / "found.yaml"
    answer = CliRunner().invoke(cli, ["init", "--records", str(records), "--out", str(out)])
    assert answer.exit_code == 0, answer.stderr
    return Scenario.load(out)


# --- lengths ---


@pytest.mark.parametrize(
    ("values", "shape", "expected"),
    [
        (
            RNG.lognormal(np.log(500), 0.8, 5000),
            "lognormal",
            {"mean": 500 * np.exp(0.32), "cv": np.sqrt(np.expm1(0.64))},
        ),
        (RNG.normal(300, 40, 5000), "normal", {"mean": 300, "sd": 40}),
    ],
)
def test_a_shape_and_its_parameters_are_found_again(values: np.ndarray, shape: str, expected: dict[str, float]):
    found = fitted_tokens(values.round().astype(np.int64))
    assert list(found) == [shape]
    for name, value in expected.items():
        assert found[shape][name] == pytest.approx(value, rel=0.06), name


def test_equal_likelihood_between_two_ends_is_uniform():
    assert fitted_tokens(RNG.integers(100, 201, 5000)) == {"uniform": [100, 200]}


def test_one_length_is_one_number():
    assert fitted_tokens(np.full(50, 128)) == 128


def test_few_values_tell_a_mean_and_a_spread_only():
    assert fitted_tokens(np.array([10, 20, 30])) == {"lognormal": {"mean": 20, "cv": 0.408}}


# --- arrivals ---


@pytest.mark.parametrize(
    ("gaps_s", "rate", "law", "because"),
    [
        (np.full(500, 0.25), 4, "constant", "no gap differs"),
        (RNG.exponential(0.1, 5000), 10, "poisson", "the spread of the gaps is their mean"),
    ],
)
def test_arrival_laws_by_the_spread_of_gaps(gaps_s: np.ndarray, rate: float, law: str, because: str):
    found_rate, found = fitted_arrivals(np.concatenate(([0.0], np.cumsum(gaps_s))))
    assert found == law, because
    assert found_rate == pytest.approx(rate, rel=0.05)


def test_bursts_are_gamma_with_their_burstiness():
    # shape k has CV 1/√k: a quarter gives 2
    _, law = fitted_arrivals(np.cumsum(RNG.gamma(0.25, 0.4, 20000)))
    assert law["gamma"]["burstiness"] == pytest.approx(0.25, rel=0.05)


def test_the_spread_of_a_short_poisson_run_does_not_make_it_bursty():
    poisson = sum(fitted_arrivals(np.cumsum(RNG.exponential(0.1, 60)))[1] == "poisson" for _ in range(200))
    assert poisson >= 170  # two standard errors hold 19 in 20; the estimate of a short run is skewed besides


THINNED = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("gap_s", "burstiness", "because"),
    [
        (lambda n: np.full(n, 0.1), np.inf, "a clock's gaps, summed, look nearly Poisson"),
        (lambda n: THINNED.exponential(0.1, n), 1.0, "a Poisson process stays one"),
        (lambda n: THINNED.gamma(0.25, 0.4, n), 0.25, "bursts are diluted"),
    ],
)
@pytest.mark.parametrize("hit_rate", [0.3, 0.6])
def test_rate_and_law_are_those_of_all_queries_where_a_cache_answers_some(
    gap_s: Any, burstiness: float, because: str, hit_rate: float
):
    due_s = np.cumsum(gap_s(200_000))
    rate, law = fitted_arrivals(due_s[THINNED.random(len(due_s)) >= hit_rate], hit_rate)
    assert rate == pytest.approx(10, rel=0.03), because
    found = {"constant": np.inf, "poisson": 1.0}[law] if isinstance(law, str) else law["gamma"]["burstiness"]
    if np.isinf(burstiness):
        assert found > 20, because  # a spread of less than a quarter of the mean
    else:
        assert found == pytest.approx(burstiness, rel=0.15), because


# --- the whole way ---


def test_records_give_the_load_test_s_scenario_back(tmp_path: Path):
    found = refitted(tmp_path, scenario_with())
    assert found.model == ("qwen3-0.6b",)
    assert found.hardware == ("h100-sxm-80gb",)
    assert found.engine.num_gpu_blocks_override == (4096,)
    assert found.traffic.peak_qps == pytest.approx(40, rel=0.05)
    assert found.traffic.arrivals == "poisson"
    stage = found.query.stages[0].model_dump(mode="json", exclude_unset=True)
    assert stage["prompt_tokens"]["lognormal"]["mean"] == pytest.approx(300, rel=0.05)
    assert stage["prompt_tokens"]["lognormal"]["cv"] == pytest.approx(0.6, rel=0.1)
    assert stage["shared_prefix"]["tokens"] == 64
    assert [limit.key for limit in found.slo] == ["p99_ttft_ms", "p90_tpot_ms", "p50_itl_ms"]


def test_the_users_rate_and_their_cache_come_back_not_the_share_that_reached_the_model(tmp_path: Path):
    found = refitted(tmp_path, scenario_with(query__response_cache={"hit_rate": 0.6}, traffic__timeout_s=30))
    assert found.traffic.peak_qps == pytest.approx(40, rel=0.06)  # 16 a second were sent
    assert found.traffic.arrivals == "poisson"
    assert found.query.response_cache is not None
    assert found.query.response_cache.hit_rate == 0.6
    assert found.traffic.timeout_s == 30  # what was not fitted is as it was sent


def test_the_warm_up_counts_for_nothing(tmp_path: Path):
    def odd_warm_up(row: RequestRow) -> RequestRow:
        if row.request < 1000:
            return msgspec.structs.replace(row, prompt_tokens=4000, output_tokens=1)
        return msgspec.structs.replace(row, query_s=row.query_s + 1000.0)

    found = refitted(tmp_path, scenario_with(), queries=4000, warmup=1000, change=odd_warm_up)
    assert found.traffic.peak_qps == pytest.approx(40, rel=0.06)
    assert found.traffic.arrivals == "poisson"
    stage = found.query.stages[0].model_dump(mode="json", exclude_unset=True)
    assert stage["prompt_tokens"]["lognormal"]["mean"] == pytest.approx(300, rel=0.05)
    assert stage["output_tokens"]["lognormal"]["mean"] == pytest.approx(24, rel=0.05)


def test_a_warm_up_alone_is_nothing_to_fit(tmp_path: Path):
    records = write_records(
        tmp_path / "run.jsonl", scenario_with(), change=lambda row: row if row.request < 42 else None
    )
    answer = CliRunner().invoke(cli, ["init", "--records", str(records)])
    assert answer.exit_code == 2
    assert "fewer than three queries beyond the warm-up" in str(answer.exception) + answer.stderr


def test_every_stage_gets_its_own_lengths(tmp_path: Path):
    stages = [
        {"name": "notes", "calls": 2, "prompt_tokens": 120, "output_tokens": 9},
        {"name": "answer", "prompt_tokens": 200, "output_tokens": {"uniform": [5, 30]}},
    ]
    found = refitted(tmp_path, scenario_with(query__stages=stages, traffic__peak_qps=5))
    assert [(stage.name, stage.calls, stage.prompt_tokens) for stage in found.query.stages] == [
        ("notes", 2, 120),
        ("answer", 1, 200),
    ]
    answer = found.query.stages[1].model_dump(mode="json")
    assert answer["output_tokens"] == {"uniform": [5, 30]}


def test_a_closed_loop_stays_one(tmp_path: Path):
    closed = scenario_with(traffic={"arrivals": {"closed": {"concurrency": 4, "requests": 200}}})
    found = refitted(tmp_path, closed)
    assert found.demand == "closed"
    assert found.traffic == closed.traffic


def test_the_cache_that_the_server_reported_is_taken(tmp_path: Path):
    scenario = scenario_with(engine={"max_model_len": 4096})
    told = RunEnd(
        finished_at="2026-01-01T00:01:00+00:00",
        reason="complete",
        rows=3000,
        server={"kv_cache_tokens": 80000, "block_size": 16, "version": "0.32.0"},
    )
    found = refitted(tmp_path, scenario, end=told)
    assert found.engine.num_gpu_blocks_override == (5000,)
    assert found.engine.vllm_version == ("0.32.0",)


def test_records_without_an_answer_have_no_lengths(tmp_path: Path):
    def fail(row: RequestRow) -> RequestRow:
        return msgspec.structs.replace(
            row, error="connection refused", first_token_s=None, last_token_s=None, gaps_ms=[]
        )

    records = write_records(tmp_path / "run.jsonl", scenario_with(), change=fail)
    answer = CliRunner().invoke(cli, ["init", "--records", str(records)])
    assert answer.exit_code == 2
    assert "hold no answer of stage 1" in str(answer.exception) + answer.stderr


def test_sessions_come_back_as_they_were_sent_because_a_turns_prompt_holds_the_turns_before(tmp_path: Path):
    stage = {"name": "chat", "prompt_tokens": 300, "output_tokens": {"uniform": [10, 40]}, "turns": 4, "think_s": 0.5}
    chat = scenario_with(query__stages=[stage], traffic__peak_qps=20)
    found = refitted(tmp_path, chat, queries=400)
    assert found.query == chat.query
    assert found.traffic == chat.traffic
    text = (tmp_path / "found.yaml").read_text()
    assert "# Sessions of 4 turns: a turn's prompt holds the whole session so far, so neither lengths nor" in text
    assert "of 400 requests" not in text
