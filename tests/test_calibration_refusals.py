"""What calibration refuses, and what it says: records that cannot tell, that do not belong together, broken files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from recorded import World, scenario_of, write_run

from planner.calibration import answer, calibrate
from planner.errors import DataFileError, InputError, PlannerError, UnsupportedError
from planner.readers.calibration_file import checked_calibration, read_calibration
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording
from planner.records import RunEnd
from planner.scenario import Scenario

DATE = "2026-11-22"
MIXED = {"uniform": [100, 3000]}
RATES = (2, 500), (18, MIXED)
NOISY = World(jitter_s=0.0005, step_noise=0.05)
FACTORS = {"sequences": 8.0, "decode_attention": 3.0, "prefill_attention": 4.0, "prefill_step": 3.0}


def recorded(folder: Path, *loads: Scenario, queries: int = 150, **header: Any) -> list[Recording]:
    paths = [
        write_run(folder / f"{place}.jsonl", load, FACTORS, queries, place, NOISY, **header)
        for place, load in enumerate(loads)
    ]
    return [recording for path in paths for recording in read_recordings(path)]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    loads = scenario_of(2, 500, 100), scenario_of(12, 500, 100), scenario_of(18, MIXED, 60)
    return calibrate(recorded(folder, *loads), date=DATE).as_dict()


# --- records that cannot tell ---


def test_one_request_at_a_time_cannot_tell_what_more_of_them_cost(tmp_path: Path) -> None:
    """At 12 requests a second and one token in flight each, T and n move together and hardly at all."""
    light = recorded(tmp_path, scenario_of(3, 200, 200), queries=60)
    with pytest.raises(InputError) as refused:
        calibrate(light, date=DATE)
    assert "cannot be told from these records" in str(refused.value)
    assert "add a run" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_long_prompts_of_one_length_cannot_tell_the_tokenizer_from_the_engine(tmp_path: Path) -> None:
    """A slow tokenizer and a slow prefill look alike while no answer overlaps a prompt."""
    load = scenario_of(0.2, 3000, 20)
    path = write_run(tmp_path / "run.jsonl", load, {"frontend_token": 150.0, "tokens": 2.0}, 120, 1, NOISY)
    with pytest.raises(InputError, match="all prompts have 3000 tokens"):
        calibrate(read_recordings(path), date=DATE)


def test_too_few_requests_are_refused_by_their_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"records \(=30\): .*must be at least 50; add a longer run"):
        calibrate(recorded(tmp_path, scenario_of(5, 500, 50), queries=30), date=DATE)


def test_answers_of_one_token_time_no_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no answer has a second token"):
        calibrate(recorded(tmp_path, scenario_of(5, 500, 1), queries=60), date=DATE)


def test_a_run_that_mostly_failed_is_refused(tmp_path: Path) -> None:
    (run,) = recorded(tmp_path, scenario_of(5, 500, 50))
    errors = tuple("HTTP 500" if place % 4 == 0 else "" for place in range(len(run.errors)))
    with pytest.raises(InputError, match=r"25% failed.*record a run that is served"):
        calibrate([replace(run, errors=errors)], date=DATE)


def test_an_invalid_run_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    runs = recorded(tmp_path, scenario_of(2, 500, 100), scenario_of(12, 500, 100), scenario_of(18, MIXED, 60))
    end = RunEnd(finished_at="", reason="complete", rows=1, invalid=["send lag p99 40 ms > 10 ms"])
    marked = [replace(runs[0], end=end), *runs[1:]]
    with pytest.raises(InputError, match=r"send lag p99 40 ms.*marked invalid.*--allow-invalid"):
        calibrate(marked, date=DATE)
    assert calibrate(marked, date=DATE, allow_invalid=True).calibration.coefficients


# --- records that do not belong together ---


def test_runs_of_two_deployments_are_refused_by_what_differs(tmp_path: Path) -> None:
    eager = {"max_model_len": 4096, "max_num_seqs": 64, "vllm_version": "0.32", "enforce_eager": True}
    runs = recorded(tmp_path, scenario_of(5, 500, 50), scenario_of(5, 500, 50, engine=eager))
    with pytest.raises(InputError, match=r"enforce_eager: 1.jsonl is of True, 0.jsonl of False"):
        calibrate(runs, date=DATE)


def test_servers_with_different_caches_are_not_one_server(tmp_path: Path) -> None:
    first = recorded(tmp_path, scenario_of(5, 500, 50), server={"kv_cache_tokens": 100_000})
    (tmp_path / "other").mkdir()
    second = recorded(tmp_path / "other", scenario_of(5, 500, 50), server={"kv_cache_tokens": 50_000})
    with pytest.raises(InputError, match=r"kv_cache_tokens \(=50000\).*different servers"):
        calibrate([*first, *second], date=DATE)


def test_every_run_has_the_cache_of_its_own_memory_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch limits may differ between runs, and with them the cache; the file pairs one cache with its own settings."""
    engine = {"max_model_len": 4096, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "vllm_version": "0.32"}
    silent = recorded(tmp_path, scenario_of(2, 500, 100, engine=engine | {"max_num_seqs": 128}), server={})
    runs = [replace(silent[0], name="silent")]
    for name, seats, tokens in (("wide", 64, 100_000), ("narrow", 32, 160_000)):
        (tmp_path / name).mkdir()
        loads = (scenario_of(rate, prompt, 60, engine=engine | {"max_num_seqs": seats}) for rate, prompt in RATES)
        runs += recorded(tmp_path / name, *loads, server={"kv_cache_tokens": tokens})
    seen: list[int] = []
    whole = answer.check_runs
    monkeypatch.setattr(
        answer,
        "check_runs",
        lambda made: (seen.extend(run.deployment.config.num_blocks * 16 for run in made), whole(made)),
    )
    found = calibrate(runs, date=DATE).calibration
    assert seen[1:] == [100_000, 100_000, 160_000, 160_000]
    assert seen[0] not in (100_000, 160_000)  # nobody said, so it is estimated
    assert (found.kv_cache_tokens, found.memory.max_num_seqs) == (100_000, 64)


def test_several_engines_behind_one_address_are_refused(tmp_path: Path) -> None:
    load = scenario_of(5, 500, 50)
    with pytest.raises(UnsupportedError, match=r"fleet.replicas \(=2\).*record one engine"):
        calibrate(recorded(tmp_path, load.with_values({"fleet.replicas": 2})), date=DATE)
    with pytest.raises(UnsupportedError, match=r"server.engines \(=2\)"):
        calibrate(recorded(tmp_path, load, server={"engines": 2}), date=DATE)


def test_a_server_that_contradicts_the_scenario_is_refused(tmp_path: Path) -> None:
    load = scenario_of(5, 500, 50)
    with pytest.raises(InputError, match=r"engine.vllm_version \(=0.32\): 0.jsonl: the server said 0.30.1"):
        calibrate(recorded(tmp_path, load, server={"version": "0.30.1"}), date=DATE)
    on = load.with_values({"engine.enable_prefix_caching": True})
    with pytest.raises(InputError, match=r"engine.enable_prefix_caching .*the server said false"):
        calibrate(recorded(tmp_path, on, server={"enable_prefix_caching": False}), date=DATE)


def test_a_foreign_report_needs_a_scenario(tmp_path: Path) -> None:
    (run,) = recorded(tmp_path, scenario_of(5, 500, 50))
    with pytest.raises(DataFileError, match="--scenario"):
        calibrate([replace(run, header=None)], date=DATE)


@pytest.mark.parametrize(
    ("prompt", "output", "stage", "api", "words"),
    [
        (MIXED, 50, {"shared_prefix": {"tokens": 64}}, "completions", "prompt tokens"),
        (MIXED, 50, {}, "chat", "prompt tokens"),
        (500, MIXED, {}, "completions", "output tokens"),
        (500, 50, {}, "completions", "times of arrival"),
    ],
)
def test_a_header_whose_seed_does_not_give_what_was_sent_is_refused(
    tmp_path: Path, prompt: Any, output: Any, stage: dict[str, Any], api: str, words: str
) -> None:
    """Which prompts share a prefix, and what was asked for, would be guessed."""
    (run,) = recorded(tmp_path, scenario_of(5, prompt, output, stage=stage), queries=60, api=api)
    assert run.header is not None
    other = replace(run, header=msgspec.structs.replace(run.header, seed=12345))
    with pytest.raises(DataFileError, match=f"the {words} of its scenario and seed are not those that were sent"):
        calibrate([other], date=DATE)


def test_a_torn_file_is_calibrated_as_far_as_it_goes(tmp_path: Path, document: dict[str, Any]) -> None:
    loads = scenario_of(2, 500, 100), scenario_of(12, 500, 100), scenario_of(18, MIXED, 60)
    recorded(tmp_path, *loads)
    for path in sorted(tmp_path.glob("*.jsonl")):
        path.write_bytes(path.read_bytes()[:-400])
    runs = [run for path in sorted(tmp_path.glob("*.jsonl")) for run in read_recordings(path)]
    result = calibrate(runs, date=DATE)
    torn = result.as_dict()
    assert [record["ended"] for record in torn["records"]] == ["killed"] * 3
    assert "0.jsonl has no end: its load test was killed" in str(result)
    assert [record["answered"] for record in torn["records"]] == [149, 149, 149]
    assert torn["coefficients"][0]["factor"] == pytest.approx(document["coefficients"][0]["factor"], rel=0.01)


# --- the file itself ---


def changed(at: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in at[:-1]:
            place = place[step]
        place[at[-1]] = value

    return change


BAD: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (changed(("schema_version",), 2), r"calibration.schema_version \(=2\).*nearest: 1"),
    (changed(("coefficients", 0, "factor"), -1.0), r"calibration.coefficients\[0\].factor \(=-1.0\).*must be > 0"),
    (changed(("coefficients", 0, "factor"), "1"), r"coefficients\[0\].factor \(=1\).*must be a number"),
    (changed(("coefficients", 0, "factor"), float("nan")), r"coefficients\[0\].factor.*must be finite"),
    (changed(("coefficients", 0, "low"), 99.0), r"coefficients\[0\].*must lie between low and high"),
    (changed(("coefficients", 1, "part"), "step"), "names a part twice"),
    (changed(("coefficients", 0, "part"), "magic"), r"coefficients\[0\].part \(=magic\).*must be 'step'"),
    (changed(("coefficients", 0, "status"), "kept"), "must have . rows and columns, one for each calibrated"),
    (changed(("covariance", 0, 1), 9.0), "must be symmetric"),
    (changed(("covariance", 0, 0), -1.0), "none below 0 on its diagonal"),
    (changed(("deployment", "hardwear"), "x"), r"deployment.hardwear.*unknown key; nearest: hardware"),
    (changed(("kv_cache_tokens",), 0), r"calibration.kv_cache_tokens \(=0\).*must be >= 1"),
    (changed(("coefficients",), []), r"calibration.coefficients.*must not be empty"),
    (lambda document: document.pop("deployment"), "calibration.deployment: cal.json: is required"),
    (lambda document: document.pop("coefficients"), "is no calibration file"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_file_that_was_edited_wrongly_is_refused_by_its_key(
    document: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edited = json.loads(json.dumps(document))
    change(edited)
    with pytest.raises(DataFileError, match=message) as refused:
        checked_calibration(edited, Path("cal.json"))
    assert "\n" not in str(refused.value)


def test_what_calibrate_wrote_is_read_again(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cal.json"
    path.write_text(json.dumps(document))
    assert read_calibration(path).model_dump(mode="json") == document


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"coefficients": 3, "schema_version": 1}'])
def test_no_file_brings_a_traceback(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cal.json"
    path.write_bytes(content)
    with pytest.raises(PlannerError):
        read_calibration(path)
