"""`planner validate --records`: a run is held against the scenario that it was sent by, and says how far it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from planner.cli.app import cli
from planner.records import RunEnd
from tests.simulated_records import scenario_with, write_records


def validate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["validate", "--records", *map(str, arguments)])


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    told = {"kv_cache_tokens": 65_536, "block_size": 16}
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=100, server=told)
    scenario = scenario_with(engine={"max_model_len": 4096, "max_num_seqs": 32})
    return write_records(tmp_path_factory.mktemp("run") / "run.jsonl", scenario, queries=100, warmup=10, end=end)


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "other.yaml"
    scenario = scenario_with(engine={"max_model_len": 4096, "max_num_seqs": 32})
    changed = scenario.with_values({key.replace("__", "."): value for key, value in changes.items()})
    path.write_text(yaml.safe_dump(changed.as_dict()))
    return path


def test_another_deployment_is_named_key_by_key(records: Path, tmp_path: Path) -> None:
    other = written(tmp_path, model="llama-3.1-8b", engine__max_num_seqs=16)
    expected = (
        "run.jsonl was recorded on another deployment: simulated model llama-3.1-8b, engine.max_num_seqs 16; "
        "recorded qwen3-0.6b, 32"
    )
    answer = validate(records, "--scenario", other, "--json")
    assert answer.stderr == f"planner: warning: {expected}\n"
    assert json.loads(answer.stdout)["runs"][0]["warnings"] == [expected]
    assert "WARNING: run.jsonl was recorded on another deployment" in validate(records, "--scenario", other).stdout


ALIKE: list[tuple[dict[str, Any], str]] = [
    ({}, "it is the scenario that was sent"),
    ({"traffic__peak_qps": 3, "query__stages[0].prompt_tokens": 99}, "rate and lengths are replayed as they were sent"),
    ({"engine__enforce_eager": False}, "vLLM's own default, spelled out"),
    ({"engine__num_gpu_blocks_override": 4096}, "the cache that the server reported, as `planner init` writes it"),
]


@pytest.mark.parametrize(("changes", "because"), ALIKE)
def test_the_same_deployment_is_not_warned_of(
    records: Path, tmp_path: Path, changes: dict[str, Any], because: str
) -> None:
    answer = validate(records, "--scenario", written(tmp_path, **changes))
    assert (answer.exit_code, answer.stderr) == (0, ""), because


STAGE = {"name": "answer", "prompt_tokens": 300, "output_tokens": 24}
OTHERS: list[tuple[list[dict[str, Any]], str]] = [
    ([STAGE | {"turns": 3}], "query.stages[0].turns is 3 in it, 1 in them"),
    ([STAGE | {"calls": 2}], "query.stages[0].calls is 2 in it, 1 in them"),
    ([STAGE, STAGE | {"name": "more"}], "its query has 2 stages, theirs 1"),
]


@pytest.mark.parametrize(("stages", "said"), OTHERS)
def test_records_of_other_stages_or_turns_are_refused(
    records: Path, tmp_path: Path, stages: list[dict[str, Any]], said: str
) -> None:
    answer = validate(records, "--scenario", written(tmp_path, query__stages=stages))
    assert answer.exit_code == 2
    assert answer.stderr == f"planner: error: records (=run.jsonl): were not sent by this scenario: {said}\n"


def test_a_cut_off_run_is_used_as_far_as_it_goes_and_few_requests_are_said_to_tell_little(tmp_path: Path) -> None:
    cut = write_records(tmp_path / "cut.jsonl", scenario_with(), queries=100, warmup=10)
    cut.write_bytes(b"".join(cut.read_bytes().splitlines(keepends=True)[: 1 + 10 + 7]))  # header, warm-up, counted
    answer = validate(cut)
    assert answer.stderr == "planner: warning: cut.jsonl: percentiles of 7 requests say little\n"
    assert "the file cut off. It is used as far as it goes" in " ".join(answer.stdout.split())
