"""The CPU study's recording: a server is warmed up before anything of it is kept."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.scenario import Scenario
from planner.workload import build_load
from tools.cpu_study import record
from tools.cpu_study.plan import MAIN, OTHERS, SEED, TRAFFIC, WARMING, WARMING_S, Traffic


class Sent:
    """What was started in place of servers and load tests; `codes` are the exit codes of named runs."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.codes: dict[str, int] = {}

    @contextmanager
    def serve(self, model: str, flags: tuple[str, ...], *, log: Path) -> Iterator[Any]:
        self.runs.append(f"start {log.stem}")
        yield type("Running", (), {"url": "http://127.0.0.1:1"})()

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        path = Path(command[command.index("--out") + 1])
        self.runs.append(path.name)
        path.write_text("records")
        code = self.codes.get(path.name, 0)
        return subprocess.CompletedProcess(command, code, json.dumps({"invalid": ["slow"]}), "")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The recording's world without vLLM and without Locust."""
    found = Sent()
    monkeypatch.setattr(record, "serve", found.serve)
    monkeypatch.setattr(record.subprocess, "run", found.run)
    monkeypatch.setattr(record.cores, "beside_the_engine", nullcontext)
    return found


def scenario(traffic: Traffic) -> Scenario:
    return Scenario.load(record.SCENARIO).with_values(
        {key: record._setting(key, value) for key, value in traffic.settings.items()}
    )


def prompts(traffic: Traffic) -> set[int]:
    load = build_load(
        scenario(traffic), queries=500, duration_s=None, warmup=0, rng=np.random.default_rng(SEED), max_model_len=4096
    )
    return set(load.prompt_tokens.tolist())


def test_every_server_is_warmed_up_before_anything_is_recorded(sent: Sent, tmp_path: Path) -> None:
    record.record_all(tmp_path, 1, 1.0)
    starts = [place for place, name in enumerate(sent.runs) if name.startswith("start")]
    assert len(starts) == 1 + len(OTHERS)
    for start in starts:
        assert sent.runs[start + 1 : start + 1 + len(WARMING)] == [f"{one.name}.jsonl" for one in WARMING]
    kept = {path.name for path in tmp_path.glob("*.jsonl")}
    assert len(kept) == sum(len(server.loads) for server in (MAIN, *OTHERS))
    assert not kept & {f"{one.name}.jsonl" for one in WARMING}


def test_a_server_with_nothing_left_to_record_is_not_started(sent: Sent, tmp_path: Path) -> None:
    record.record_all(tmp_path, 1, 1.0)
    sent.runs.clear()
    record.record_all(tmp_path, 1, 1.0)
    assert sent.runs == []


def test_an_invalid_warm_up_ends_nothing_but_a_failed_one_does(sent: Sent, tmp_path: Path) -> None:
    """Cold shapes are slow: that is why they are sent. A server that does not answer is another matter."""
    sent.codes = {"long.jsonl": 1}
    record.record_all(tmp_path / "slow", 1, 1.0)
    sent.codes = {"long.jsonl": 3}
    with pytest.raises(SystemExit, match="dense, warm-up long: planner loadtest ended with 3"):
        record.record_all(tmp_path / "gone", 1, 1.0)


def test_an_invalid_run_ends_the_study_and_is_not_kept(sent: Sent, tmp_path: Path) -> None:
    sent.codes = {"dense-medium-0.part": 1}
    with pytest.raises(SystemExit, match=r"dense, medium: planner loadtest ended with 1: \['slow'\]"):
        record.record_all(tmp_path, 1, 1.0)
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"dense-light-0.jsonl"}


def test_the_warm_up_reaches_every_length_that_is_recorded() -> None:
    """Short, medium and long prompts, and shared ones: between them no gap, and nothing recorded beyond them."""
    warmed = [prompts(one) for one in WARMING]
    least, most = min(map(min, warmed)), max(map(max, warmed))
    for traffic in TRAFFIC.values():
        outside = [tokens for tokens in prompts(traffic) if not least <= tokens <= most]
        assert len(outside) <= 5, traffic.name  # of 500: a lognormal has no end
    assert any("shared_prefix" in key for one in WARMING for key in one.settings)
    assert all(WARMING_S * one.settings["traffic.peak_qps"] >= 8 for one in WARMING), "some requests of each"
