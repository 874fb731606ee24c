"""The loop on real vLLM, once and briefly: load tests, a calibration, and a load that it has not seen.

A smoke test on a machine that others use: the study (`make study-cpu`) is what tells how accurate the loop is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.readers.recordings import read_own
from tools.vllm_cpu.server import VllmServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpu-tiny.yaml"
SECONDS = {"light": 12, "busy": 12, "mixed": 15, "judge": 12}
LOADS = {
    "light": ["traffic.peak_qps=1.5"],
    "busy": ["traffic.peak_qps=7"],
    "mixed": [
        "traffic.peak_qps=4",
        "query.stages[0].prompt_tokens={lognormal: {mean: 220, cv: 0.7}}",
        "query.stages[0].output_tokens={lognormal: {mean: 32, cv: 0.5}}",
    ],
    "judge": ["traffic.peak_qps=3"],
}
MOST_RUNS = 5
SMOKE = 0.5  # relative error that would mean that something is broken, not that the machine was busy


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "planner", *words, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def planner(*words: str) -> dict[str, Any]:
    done = run(*words)
    assert 0 == done.returncode, done.stderr + done.stdout
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def load_test(server: VllmServer, folder: Path, load: str, number: int = 0) -> dict[str, Any]:
    words = ["loadtest", str(EXAMPLE), "--host", server.url, "--out", str(folder / f"{load}-{number}.jsonl")]
    words += ["--duration", str(SECONDS[load]), "--warmup", "3", "--seed", str(number)]
    words += ["--send-lag-limit", "500", "--cpu-limit", "1"]
    for setting in LOADS[load]:
        words += ["--set", setting]
    return planner(*words)


@pytest.fixture(scope="module")
def recorded(dense: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The answers of one load test for each load. The first one only warms the server up."""
    folder = tmp_path_factory.mktemp("loop")
    load_test(dense, folder, "mixed", 99)  # on a CPU, vLLM is slow with every number of tokens that is new to it
    return {load: load_test(dense, folder, load) for load in LOADS}


@pytest.fixture(scope="module")
def calibration(dense: VllmServer, recorded: dict[str, dict[str, Any]]) -> Path:
    """The calibration from all loads but the judge's, with one more run as long as they are said to tell too little.

    How much noise others make on this machine decides how many runs it takes.
    """
    records = [recorded[load]["records"] for load in LOADS if load != "judge"]
    file = Path(records[0]).with_name("calibration.json")
    for number in range(1, MOST_RUNS):
        done = run("calibrate", *records, "--scenario", str(EXAMPLE), "--out", str(file))
        if done.returncode == 0:
            return file
        assert "cannot be told from these records" in done.stderr, done.stderr
        assert "add a" in done.stderr
        records.append(
            load_test(dense, file.parent, "busy" if "higher rate" in done.stderr else "mixed", number)["records"]
        )
    raise AssertionError(done.stderr)


def test_every_answer_has_the_length_that_was_asked_for(recorded: dict[str, dict[str, Any]]) -> None:
    for answer in recorded.values():
        assert {} == answer["failures"]
        recording = read_own(Path(answer["records"]))
        assert recording.end is not None
        assert "complete" == recording.end.reason
        gaps = recording.gap_start[1:] - recording.gap_start[:-1]
        # One event a token, but where its API server falls behind vLLM puts several into one.
        assert (gaps <= recording.output_tokens - 1).all()
        assert gaps.sum() > 0.5 * (recording.output_tokens - 1).sum()


def test_the_server_says_its_kv_tokens_and_the_plan_has_the_same(
    dense: VllmServer, recorded: dict[str, dict[str, Any]]
) -> None:
    answer = recorded["light"]
    assert dense.kv_tokens == answer["kv_cache_tokens"] == answer["simulated"]["kv_cache_tokens"]


def test_a_calibration_predicts_a_load_that_it_has_not_seen(
    recorded: dict[str, dict[str, Any]], calibration: Path
) -> None:
    words = ["--scenario", str(EXAMPLE), "--set", f"calibration={calibration}"]
    (run,) = planner("validate", "--records", recorded["judge"]["records"], *words)["runs"]
    assert run["calibrated"]
    errors = {name: run["figures"][name]["error"] for name in ("ttft_ms.p50", "tpot_ms.p50", "e2e_ms.p50")}
    assert all(abs(error) < SMOKE for error in errors.values()), errors


def test_a_plan_with_the_calibration_says_so(calibration: Path) -> None:
    document = planner("simulate", str(EXAMPLE), "--set", f"calibration={calibration}", "--requests", "500")
    assert "calibrated" == document["confidence"]["kernel_path"]
    assert "calibrated" in {row["kind"] for row in document["provenance"]}
