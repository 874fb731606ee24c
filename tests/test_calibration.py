"""Calibration against load tests whose truth is known: the factors that the engine was given are found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import World, scenario_of, true_cost, write_run

from planner.calibration import Calibrated, calibrate, compare_recordings, recorded_runs
from planner.calibration.rows import DECODE, LONE, make_rows
from planner.calibration.steps import read_steps
from planner.deployment import deploy, only_candidate
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording
from planner.readers.vllm_bench_export import vllm_bench_document
from planner.scenario import Scenario

DATE = "2026-11-22"
TRUTH = {
    "step": 1.3,
    "tokens": 0.8,
    "sequences": 6.0,
    "decode_attention": 1.5,
    "prefill_attention": 0.7,
    "prefill_step": 2.0,
    "frontend": 1.6,
    "frontend_token": 3.0,
}
MIXED = {"lognormal": {"mean": 800, "cv": 0.8}}
LOADS = (
    scenario_of(2, 500, 100),
    scenario_of(12, MIXED, {"lognormal": {"mean": 150, "cv": 0.6}}),
    scenario_of(20, {"uniform": [100, 3000]}, 60),
)
HELD_OUT = (scenario_of(6, {"lognormal": {"mean": 1500, "cv": 0.5}}, {"lognormal": {"mean": 200, "cv": 0.5}}),)
NOISY = World(jitter_s=0.0005, step_noise=0.05, stalls=0.02)


def record(folder: Path, seed: int = 1, queries: int = 150, world: World = NOISY) -> list[Recording]:
    """A light, a busy and a mixed run of one deployment."""
    paths = [
        write_run(folder / f"{seed}-{place}.jsonl", load, TRUTH, queries, 10 * seed + place, world)
        for place, load in enumerate(LOADS)
    ]
    return [recording for path in paths for recording in read_recordings(path)]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    return record(tmp_path_factory.mktemp("runs"), queries=250)


@pytest.fixture(scope="module")
def result(recordings: list[Recording]) -> Calibrated:
    return calibrate(recordings, date=DATE)


def mean_factor(part: str) -> float:
    """A factor as the noisy engine has it: a step's noise is log-normal with median 1, so its mean is above 1."""
    return TRUTH[part] * (1.0 if part.startswith("frontend") else float(np.exp(NOISY.step_noise**2 / 2)))


def test_the_steps_read_off_the_tokens_are_those_that_ran(tmp_path: Path) -> None:
    """Without noise every row's time is the true cost of what was read off it: nothing is hidden between the lines."""
    read = record(tmp_path, world=World(jitter_s=0.0))
    runs = recorded_runs(read, None)
    rows, _ = make_rows(runs)
    factors = np.array([TRUTH[part] for part in rows.parts])
    error = rows.share @ factors / rows.measured_s - 1.0
    for kind, most in ((DECODE, 1e-6), (LONE, 1e-6)):
        assert (rows.kind == kind).any()
        assert np.quantile(np.abs(error[rows.kind == kind]), 0.9) < most
    assert np.median(np.abs(error)) < 1e-4


def test_chunked_prompts_are_charged_to_the_steps_that_computed_them(tmp_path: Path) -> None:
    """A prompt of 3,000 tokens under a budget of 1,024 passes through three steps beside the decodes."""
    engine = {"max_model_len": 4096, "max_num_seqs": 64, "max_num_batched_tokens": 1024, "vllm_version": "0.32"}
    scenario = scenario_of(4, 3000, 80, engine=engine)
    path = write_run(tmp_path / "run.jsonl", scenario, {}, 60, world=World(jitter_s=0.0))
    (run,) = recorded_runs(read_recordings(path), None)
    steps = read_steps(run)
    assert steps.tokens.max() == 1024
    cost = run.deployment.cost
    charged = cost.tokens_s[steps.tokens] + cost.requests_s[steps.requests] + cost.decode_token_s * steps.context
    full = (steps.tokens == 1024) & (steps.seconds > 0)
    np.testing.assert_allclose(
        (charged + cost.prefill_step_s + 0.5 * cost.prefill_token2_s * 3000**2)[full].mean(),
        steps.seconds[full].mean(),
        rtol=0.15,  # the quadratic part of a prompt stands in its last step alone
    )


def test_factors_are_found_within_their_intervals_and_stalls_do_not_matter(result: Calibrated) -> None:
    found = {one.part: one for one in result.calibration.coefficients}
    assert set(found) == set(TRUTH)
    for part in ("step", "tokens", "sequences", "decode_attention", "prefill_step", "frontend"):
        assert found[part].status == "calibrated"
        assert found[part].low <= mean_factor(part) <= found[part].high
        assert found[part].factor == pytest.approx(mean_factor(part), rel=0.3)
    assert found["step"].factor == pytest.approx(mean_factor("step"), rel=0.005)
    assert found["frontend_token"].status == "kept"


def test_intervals_hold_in_about_nineteen_of_twenty_load_tests(tmp_path: Path) -> None:
    inside: dict[str, int] = dict.fromkeys(TRUTH, 0)
    told: dict[str, int] = dict.fromkeys(TRUTH, 0)
    for seed in range(1, 21):
        for one in calibrate(record(tmp_path, seed, 100), date=DATE).calibration.coefficients:
            if one.status == "calibrated":
                told[one.part] += 1
                inside[one.part] += one.low <= mean_factor(one.part) <= one.high
    for part in ("step", "tokens", "decode_attention", "prefill_step"):
        assert told[part] >= 18, part
    for part, count in inside.items():
        assert count >= 0.85 * told[part], part


def test_loads_that_were_not_recorded_are_predicted(result: Calibrated, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(result.calibration.model_dump_json())
    for place, load in enumerate(HELD_OUT):
        path = write_run(tmp_path / f"held-{place}.jsonl", load, TRUTH, 300, 77 + place, World(step_noise=0.05))
        before = compare_recordings(read_recordings(path), None).document["runs"][0]
        after = compare_recordings(read_recordings(path), None, {"calibration": str(file)}).document["runs"][0]
        assert (before["calibrated"], after["calibrated"]) == (False, True)
        for name, most in (("ttft_ms.p50", 0.05), ("tpot_ms.p50", 0.02), ("e2e_ms.p50", 0.03), ("itl_ms.p50", 0.03)):
            assert abs(after["figures"][name]["error"]) < most, name
            assert abs(before["figures"][name]["error"]) > 0.1, name


def test_a_cpu_far_from_the_planners_guess_is_found(tmp_path: Path) -> None:
    """On a CPU the planner's own cost is a stand-in: parts may be tens of times off."""
    truth = dict.fromkeys(TRUTH, 2.0) | {"step": 8.0, "tokens": 20.0, "sequences": 60.0, "decode_attention": 12.0}
    engine = {"enforce_eager": True, "max_model_len": 2048, "max_num_seqs": 32, "vllm_version": "0.32"}
    given: dict[str, Any] = {"model": "qwen3-0.6b", "hardware": "cpu", "engine": engine}
    loads = [
        scenario_of(0.05, 64, 32, **given),
        scenario_of(0.15, {"uniform": [32, 256]}, {"uniform": [32, 128]}, **given),
        scenario_of(0.08, {"uniform": [32, 1200]}, 64, **given),
    ]
    paths = [
        write_run(tmp_path / f"{place}.jsonl", load, truth, 120, place, World(jitter_s=0.002, step_noise=0.05))
        for place, load in enumerate(loads)
    ]
    found = {
        one.part: one.factor
        for one in calibrate([r for p in paths for r in read_recordings(p)], date=DATE).calibration.coefficients
    }
    for part in ("step", "tokens"):
        assert found[part] == pytest.approx(truth[part], rel=0.1)
    for part in ("sequences", "decode_attention"):
        assert found[part] == pytest.approx(truth[part], rel=0.35)


def test_recorders_without_gaps_tell_the_same(tmp_path: Path) -> None:
    """GuideLLM has only first and last token of a request: sums over a request are then the rows."""
    recordings = record(tmp_path, 3, 600)
    bare = [replace(one, gaps_s=np.zeros(0), gap_start=np.zeros(len(one.request) + 1, np.int64)) for one in recordings]
    without = {one.part: one.factor for one in calibrate(bare, date=DATE).calibration.coefficients}
    for part, most in {"step": 0.01, "tokens": 0.1, "decode_attention": 0.25}.items():
        assert without[part] == pytest.approx(mean_factor(part), rel=most)


def test_shared_prefixes_are_charged_once(tmp_path: Path) -> None:
    """The prompt's shared blocks are computed for the first request only, so factors stay what they were."""
    shared = {"shared_prefix": {"tokens": 400, "groups": 3}}
    load = scenario_of(10, {"uniform": [500, 1500]}, 60, stage=shared)
    path = write_run(tmp_path / "shared.jsonl", load, TRUTH, 200, 5, World(jitter_s=0.0001))
    (run,) = recorded_runs(read_recordings(path), None)
    assert (run.cached_tokens == 0).sum() == 3  # the first of each group
    assert set(run.cached_tokens.tolist()) == {0, 400}
    rows, _ = make_rows([run])
    factors = np.array([TRUTH[part] for part in rows.parts])
    assert np.median(np.abs(rows.share @ factors / rows.measured_s - 1.0)) < 0.01


def test_the_warm_up_is_replayed_and_not_counted(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.jsonl", LOADS[0], TRUTH, 100, warmup=40)
    (run,) = compare_recordings(read_recordings(path), None).document["runs"]
    assert run["requests"] == 60


def test_the_same_records_give_the_same_file(recordings: list[Recording], result: Calibrated) -> None:
    assert calibrate(recordings, date=DATE).as_dict() == result.as_dict()


def test_the_answer_names_what_it_kept_and_repeats_its_runs(result: Calibrated) -> None:
    text = str(result)
    assert "Calibrated: llama-3.1-8b bf16 on h100-sxm-80gb, vLLM 0.32, from 3 runs, 750 answered requests" in text
    assert "Kept as the planner has them" in text
    for residual in result.calibration.residuals:
        assert abs(residual.figures["tpot_ms.p50"].error) < 0.03
        assert abs(residual.figures["ttft_ms.p50"].error) < 0.08
    assert [record.answered for record in result.calibration.records] == [250, 250, 250]


def test_pictures_are_drawn_of_every_run(result: Calibrated) -> None:
    from planner.report.calibration_charts import calibration_charts
    from planner.report.charts import image

    drawn = {name: image(figure, "png") for name, figure in calibration_charts(result.residuals()).items()}
    assert set(drawn) == {"fitted", "residuals"}
    assert all(data.startswith(b"\x89PNG") and len(data) > 10_000 for data in drawn.values())


def test_a_true_cost_of_ones_is_the_planners_own() -> None:
    """Cut into parts and put together again, a GPU's step cost is what it was."""
    for model in ("llama-3.1-8b", "gpt-oss-20b"):
        candidate = only_candidate(Scenario.from_dict(LOADS[0].as_dict() | {"model": model}), "a test")
        deployment = deploy(candidate)
        again = true_cost(deployment, {})
        tokens, requests = deployment.cost.tokens_s[1:], deployment.cost.requests_s[1:]
        together = again.tokens_s[1:, None] + again.requests_s[None, 1:]
        np.testing.assert_allclose(together, tokens[:, None] + requests[None, :], rtol=1e-12)
        assert (again.window, again.window_token_s) == (deployment.cost.window, deployment.cost.window_token_s)


def test_vllm_benchs_own_report_of_the_same_runs_calibrates_alike(
    recordings: list[Recording], result: Calibrated, tmp_path: Path
) -> None:
    """The report has the same requests but neither scenario nor server: both are then the user's to name."""
    reports = []
    for recording in recordings:
        path = tmp_path / f"{recording.path.stem}.json"
        path.write_text(json.dumps(vllm_bench_document(recording)))
        reports += read_recordings(path)
    theirs = calibrate(reports, LOADS[0], date=DATE).calibration
    assert [record.format for record in theirs.records] == ["vllm bench"] * 3
    for one, other in zip(result.calibration.coefficients, theirs.coefficients, strict=True):
        assert (one.part, one.status) == (other.part, other.status)
        assert other.factor == pytest.approx(one.factor, rel=0.02)
    assert theirs.kv_cache_tokens is None
