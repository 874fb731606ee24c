"""A scenario that names a calibration file: where it belongs it is used, and every answer says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from recorded import World, scenario_of, write_run

import planner
from planner.calibration import calibrate
from planner.cli.app import cli
from planner.deployment import deploy, only_candidate, worlds
from planner.deployment.parts import PARTS, parts_of, scaled, size
from planner.readers.recording_files import read_recordings
from planner.records import RunEnd, encode_line
from planner.scenario import Scenario

TRUTH = {"step": 1.5, "tokens": 1.2, "sequences": 5.0, "decode_attention": 2.0, "frontend": 2.0}
NOISY = World(jitter_s=0.0005, step_noise=0.05)
LIGHT = scenario_of(2, 500, 100)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    loads = LIGHT, scenario_of(12, 500, 100), scenario_of(18, {"uniform": [100, 3000]}, 60)
    server = {"version": "0.32.0", "kv_cache_tokens": 160_000}
    return [
        write_run(folder / f"{place}.jsonl", load, TRUTH, 150, place, NOISY, server=server)
        for place, load in enumerate(loads)
    ]


@pytest.fixture(scope="module")
def file(records: list[Path]) -> Path:
    recordings = [recording for path in records for recording in read_recordings(path)]
    path = records[0].parent / "calibration.json"
    path.write_text(calibrate(recordings, date="2026-11-22").calibration.model_dump_json())
    return path


def calibrated(file: Path, **changes: Any) -> Scenario:
    return LIGHT.with_values({"calibration": str(file)} | {f"engine.{key}": value for key, value in changes.items()})


def test_the_calibrated_cost_is_the_parts_times_their_factors(file: Path) -> None:
    own = deploy(only_candidate(LIGHT, "a test"))
    used = deploy(only_candidate(calibrated(file), "a test"))
    factors = {one["part"]: one["factor"] for one in json.loads(file.read_text())["coefficients"]}
    expected = scaled(parts_of(own.breakdown, own.candidate), factors)
    np.testing.assert_allclose(used.cost.tokens_s[1:], expected.tokens_s[1:], rtol=1e-12)
    np.testing.assert_allclose(used.cost.requests_s[1:], expected.requests_s[1:], rtol=1e-12)
    assert used.cost.frontend_s == pytest.approx(2.0 * own.cost.frontend_s, rel=0.2)
    assert used.known


def test_the_cache_is_what_the_server_reported(file: Path) -> None:
    assert deploy(only_candidate(calibrated(file), "a test")).kv.logged_tokens == 160_000
    stated = calibrated(file, num_gpu_blocks_override=5_000)
    assert deploy(only_candidate(stated, "a test")).kv.logged_tokens == 80_000  # what the scenario says wins


def test_batch_limits_may_differ_but_then_the_cache_is_estimated(file: Path) -> None:
    wider = deploy(only_candidate(calibrated(file, max_num_seqs=128), "a test"))
    assert wider.calibrated is not None
    assert wider.kv.logged_tokens != 160_000
    assert any(row.what == "KV cache tokens not as reported" for row in wider.provenance)


def test_provenance_says_calibrated_in_place_of_kernels_and_overheads(file: Path) -> None:
    own = deploy(only_candidate(LIGHT, "a test")).provenance
    used = deploy(only_candidate(calibrated(file), "a test")).provenance
    assert any(row.what.startswith("kernel") for row in own)
    assert not any(row.what.startswith(("kernel", "overhead")) for row in used)
    (step,) = [row for row in used if row.what == "step cost: engine step"]
    assert (step.kind, step.date) == ("calibrated", "2026-11-22")
    assert "95 % interval" in step.source
    assert any(row.kind == "measured" and row.what == "KV cache tokens" for row in used)


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"model": "qwen3-8b"}, "model llama-3.1-8b, this is qwen3-8b"),
    ({"hardware": "h200-sxm-141gb"}, "hardware h100-sxm-80gb, this is h200-sxm-141gb"),
    ({"engine.quantization": "fp8"}, "engine.quantization bf16, this is fp8"),
    ({"engine.tensor_parallel_size": 2}, "engine.tensor_parallel_size 1, this is 2"),
    ({"engine.enforce_eager": True}, "engine.enforce_eager False, this is True"),
    ({"engine.vllm_version": '"0.30"'}, "engine.vllm_version 0.32, this is 0.30"),
]


@pytest.mark.parametrize(("changes", "said"), MISFITS)
def test_what_was_not_calibrated_stays_the_planners_and_says_why(file: Path, changes: Any, said: str) -> None:
    other = deploy(only_candidate(calibrated(file).with_values(changes), "a test"))
    own = deploy(only_candidate(LIGHT.with_values(changes), "a test"))
    assert other.calibrated is None
    np.testing.assert_array_equal(other.cost.tokens_s, own.cost.tokens_s)
    (row,) = [row for row in other.provenance if row.what == "calibration not used"]
    assert said in row.source


def test_a_calibration_of_another_deployment_is_a_warning_of_every_answer(file: Path) -> None:
    """One row of thirty is not seen: the answer says what differs, all of it, where callers show it."""
    wrong = {"hardware": "h200-sxm-141gb", "engine.quantization": "fp8", "slo": {"p99_ttft_ms": "<=60000"}}
    other = calibrated(file).with_values(wrong)
    (said,) = planner.simulate(other, requests=200).as_dict()["warnings"]
    assert said == (
        "calibration calibration.json is NOT USED: it is of hardware h100-sxm-80gb, engine.quantization bf16; "
        "this is h200-sxm-141gb, fp8. The step cost is the planner's own"
    )
    assert planner.capacity(other, requests=1000).as_dict()["warnings"] == [said]
    assert planner.plan(other, requests=1000, worlds=0).as_dict()["warnings"] == [said]
    none_holds = other.with_values({"slo": {"p99_ttft_ms": "<=1"}})
    document = planner.plan(none_holds, requests=1000, worlds=0).as_dict()
    assert (document["feasible"], document["warnings"]) == (False, [said])


CHOICES: list[tuple[list[int], str, list[str], str]] = [
    ([2, 1], "<=60000", [], "one GPU is the cheapest, and it is calibrated"),
    ([2, 4], "<=60000", ["engine.tensor_parallel_size 1; this is 2"], "two GPUs are the cheapest, of no calibration"),
    ([2, 1], "<=1", [], "none holds, but one of them was judged by its calibration"),
    ([2, 4], "<=1", ["engine.tensor_parallel_size 1; this is 2"], "none holds, and none of them is calibrated"),
]


@pytest.mark.parametrize(("sizes", "limit", "said", "because"), CHOICES)
def test_a_plan_warns_of_what_its_answer_rests_on(
    file: Path, sizes: list[int], limit: str, said: list[str], because: str
) -> None:
    scenario = calibrated(file).with_values(
        {"engine.tensor_parallel_size": sizes, "slo": {"p99_ttft_ms": limit}, "fleet": {"max_gpus": 8}}
    )
    warnings = planner.plan(scenario, requests=1000, worlds=0).as_dict()["warnings"]
    assert len(warnings) == len(said), because
    assert all(part in warning for part, warning in zip(said, warnings, strict=True)), because


def test_a_calibration_that_belongs_or_is_not_there_warns_of_nothing(file: Path) -> None:
    assert planner.simulate(calibrated(file), requests=200).as_dict()["warnings"] == []
    assert planner.simulate(LIGHT, requests=200).as_dict()["warnings"] == []


def test_a_calibrated_step_with_an_estimated_cache_is_a_warning(file: Path) -> None:
    (said,) = planner.simulate(calibrated(file, max_num_seqs=128), requests=200).as_dict()["warnings"]
    assert said == (
        "calibration calibration.json knows the KV cache with engine.max_num_seqs 64; this is 128. "
        "The KV cache is the planner's own estimate"
    )


def test_worlds_vary_as_the_fit_does_and_not_as_the_planners_guess(file: Path) -> None:
    own = worlds(deploy(only_candidate(LIGHT, "a test")), 0, 200)
    used = worlds(deploy(only_candidate(calibrated(file), "a test")), 0, 200)
    spread = [float(np.std(np.log([world.cost.tokens_s[1] for world in drawn]))) for drawn in (own, used)]
    document = json.loads(file.read_text())
    places = [one["part"] for one in document["coefficients"] if one["status"] == "calibrated"]
    step = places.index("step")
    expected = np.sqrt(document["covariance"][step][step] + document["misfit_log_sd"] ** 2)
    assert spread[1] < 0.5 * spread[0]
    assert spread[1] == pytest.approx(expected, rel=0.15)


def test_two_calibrated_parts_vary_together_as_the_fit_says(file: Path) -> None:
    deployment = deploy(only_candidate(calibrated(file), "a test"))
    document = json.loads(file.read_text())
    places = [one["part"] for one in document["coefficients"] if one["status"] == "calibrated"]
    at = places.index("tokens"), places.index("decode_attention")
    covariance = np.array(document["covariance"])
    expected = covariance[at] / np.sqrt(covariance[at[0], at[0]] * covariance[at[1], at[1]])
    drawn = worlds(replace(deployment, calibrated=_without_misfit(deployment.calibrated)), 0, 400)
    logs = np.log([[world.cost.tokens_s[1000] - world.cost.tokens_s[1], world.cost.decode_token_s] for world in drawn])
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(expected, abs=0.15)


def _without_misfit(applied: Any) -> Any:
    return replace(applied, calibration=applied.calibration.model_copy(update={"misfit_log_sd": 0.0}))


def test_a_later_planner_with_other_constants_keeps_the_measured_seconds(file: Path) -> None:
    document = json.loads(file.read_text())
    step = document["coefficients"][0]
    step["reference"] *= 2.0  # as if that planner had thought the step twice as long
    other = file.with_name("other.json")
    other.write_text(json.dumps(document))
    used, again = (deploy(only_candidate(calibrated(path), "a test")) for path in (file, other))
    assert again.cost.tokens_s[1] == pytest.approx(2.0 * used.cost.tokens_s[1])


def test_an_uncalibrated_cpu_says_in_words_whose_kernels_stand_in() -> None:
    """A GPU's curve is no CPU's: nobody knows in which direction it errs, and people must see that without --json."""
    engine = {"max_model_len": 2048, "max_num_seqs": 8, "num_gpu_blocks_override": 100}
    answer = planner.simulate(scenario_of(1, 100, 10, model="qwen3-0.6b", hardware="cpu", engine=engine), requests=200)
    (row,) = [row for row in answer.as_dict()["provenance"] if row["what"] == "kernel path: CPU"]
    assert (row["kind"], row["errs"]) == ("assumed", "unknown")
    assert row["source"].startswith("a guess until planner calibrate measures it: an A100's kernels stand in")
    (shown,) = [line for line in str(answer).splitlines() if "kernel path: CPU" in line]
    assert "unknown" in shown
    gpu = planner.simulate(LIGHT, requests=200).as_dict()
    assert not [row for row in gpu["provenance"] if row["what"] == "kernel path: CPU"]


def test_every_part_of_a_mixture_on_a_cpu_has_a_size() -> None:
    """A CPU's experts are read one after the other: their part grows with T until all of them are touched."""
    engine = {"max_model_len": 2048, "max_num_seqs": 8, "num_gpu_blocks_override": 100}
    moe = scenario_of(1, 100, 10, model="qwen3-30b-a3b", hardware="cpu", engine=engine)
    deployment = deploy(only_candidate(moe, "a test"))
    parts = parts_of(deployment.breakdown, deployment.candidate)
    assert set(parts) == set(PARTS)
    experts = parts["experts"].tokens_s
    assert experts[1] == 0.0
    assert experts[2] - experts[1] > experts[100] - experts[99] > 0.0
    assert experts[-1] == pytest.approx(size(parts["experts"], "experts")[0])


def test_simulate_and_plan_say_calibrated(file: Path) -> None:
    scenario = calibrated(file).with_values({"slo": {"p99_ttft_ms": "<=1000"}})
    document = planner.simulate(scenario, requests=300).as_dict()
    assert document["confidence"]["kernel_path"] == "calibrated"
    assert document["kv_cache_tokens"] == 160_000
    text = str(planner.plan(scenario, requests=1000, worlds=20))
    assert "CALIBRATED by load tests" in text


def test_a_run_beyond_what_was_recorded_says_so(file: Path) -> None:
    """Prompts of 3,000 tokens were recorded at most; nobody knows what those of 3,900 cost but the planner's curve."""
    inside = planner.simulate(calibrated(file), requests=200).as_dict()["notes"]
    longer = calibrated(file).with_values({"query.stages[0].prompt_tokens": 3900})
    beyond = planner.simulate(longer, requests=200).as_dict()["notes"]
    assert not [note for note in inside if note.startswith("beyond the calibration")]
    (said,) = [note for note in beyond if note.startswith("beyond the calibration")]
    assert "prompts of 3900 tokens, recorded up to 2" in said


def run(*arguments: str) -> Any:
    """The command, whose group always ends the process."""
    return CliRunner().invoke(cli, list(arguments))


def test_the_commands_calibrate_validate_and_simulate_in_a_row(records: list[Path], tmp_path: Path) -> None:
    out, plots = tmp_path / "cal.json", tmp_path / "plots"
    names = [str(path) for path in records]
    first = run("calibrate", *names, "--out", str(out), "--plots", str(plots))
    assert first.exit_code == 0, first.output
    assert "Step cost by part" in first.output
    assert sorted(path.name for path in plots.iterdir()) == ["fitted.png", "residuals.png"]
    as_json = run("calibrate", *names, "--json")
    assert json.loads(as_json.stdout)["coefficients"] == json.loads(out.read_text())["coefficients"]
    replayed = run("validate", "--records", names[1], "--set", f"calibration={out}", "--json")
    (compared,) = json.loads(replayed.stdout)["runs"]
    assert compared["calibrated"]
    assert abs(compared["figures"]["tpot_ms.p50"]["error"]) < 0.03
    said = run("validate", "--records", names[1])
    assert "not calibrated" in said.output
    assert "WARNING" not in said.output
    other = run("validate", "--records", names[1], "--set", f"calibration={out}", "--set", "engine.enforce_eager=true")
    assert "not calibrated" in other.stdout
    assert "WARNING: calibration cal.json is NOT USED: it is of engine.enforce_eager False" in other.stdout
    assert "planner: warning: calibration cal.json is NOT USED" in other.stderr
    assert "send lag p50" in said.output


def test_validate_refuses_an_invalid_run_until_it_is_allowed_and_then_says_so(
    records: list[Path], tmp_path: Path
) -> None:
    lines = records[1].read_bytes().splitlines(keepends=True)
    invalid = tmp_path / "invalid.jsonl"
    end = RunEnd(finished_at="", reason="interrupted", rows=150, invalid=["send lag p99 40 ms > 10 ms"])
    invalid.write_bytes(b"".join([*lines[:-1], encode_line(end)]))
    refused = run("validate", "--records", str(invalid))
    assert refused.exit_code == 2
    assert "send lag p99 40 ms" in refused.output
    assert "--allow-invalid" in refused.output
    allowed = run("validate", "--records", str(invalid), "--allow-invalid")
    assert allowed.exit_code == 0, allowed.output
    assert "INVALID: send lag p99 40 ms > 10 ms" in allowed.output
    assert "invalid.jsonl was interrupted" in allowed.output
    killed = tmp_path / "killed.jsonl"
    killed.write_bytes(b"".join(lines[:-1]))
    assert "killed.jsonl has no end" in run("validate", "--records", str(killed)).output
    (compared,) = json.loads(run("validate", "--records", str(killed), "--json").stdout)["runs"]
    assert (compared["ended"], compared["invalid"]) == ("killed", [])
    whole = json.loads(run("validate", "--records", str(records[1]), "--json").stdout)["runs"]
    assert whole[0]["ended"] == "complete"


def test_paths_of_a_scenario_start_from_its_folder(file: Path) -> None:
    body = LIGHT.as_dict() | {"calibration": file.name}
    path = file.with_name("scenario.yaml")
    path.write_text(json.dumps(body))  # JSON is YAML
    assert deploy(only_candidate(Scenario.load(path), "a test")).calibrated is not None


WRONG_USE: list[tuple[tuple[str, ...], str]] = [
    (("calibrate",), "Missing argument"),
    (("calibrate", "none.jsonl"), "no such file"),
    (("validate", "--records", "none.jsonl"), "no such file"),
    (("validate", "--scenario", "ai-search"), "--scenario: only with --records"),
    (("validate", "--allow-invalid"), "--allow-invalid: only with --records"),
    (("validate", "--set", "a=1"), "--set: only with --convert or --records"),
    (("validate", "table.csv", "--records", "x.jsonl"), "--records stands without a TABLE"),
    (("simulate", "chat-closed-loop", "--set", "calibration=none.json"), "planner calibrate writes one"),
    (("calibrate", "a.jsonl", "--out", "cal.txt"), "must end in .json"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_USE)
def test_wrong_use_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert said in answer.output
    assert len(answer.output.strip().splitlines()) == 1


def test_a_file_named_twice_is_refused(records: list[Path]) -> None:
    answer = run("calibrate", str(records[0]), str(records[0]))
    assert answer.exit_code == 2
    assert "is named twice" in answer.output
