"""What a recording on a lent GPU would ask for, keep and skip. The servers and clients themselves need the card."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.hf_config import read_config
from planner.catalogue.models import model
from planner.readers.recordings_vllm_bench import vllm_bench_recording
from tools.gpu_record import __main__ as recorder
from tools.gpu_record.keep import NothingRecordedError, compact, telling_lines
from tools.gpu_record.plan import PLAN, REHEARSAL, Load, Served
from tools.vllm_cpu.server import ServerFailedError

ROOT = Path(__file__).parents[1]
SHAPE = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "tied_embeddings", "max_position")
SHAPE += ("experts", "sliding_window", "windowed_layers", "checkpoint", "quantized_experts_only")


@pytest.mark.parametrize("served", PLAN, ids=lambda served: served.name)
def test_a_recorded_shape_is_the_catalogues_model(served):
    recorded, known = read_config(served.config), model(served.model)
    assert {name: getattr(known, name) for name in SHAPE} == {name: getattr(recorded, name) for name in SHAPE}


def test_the_plan_has_prefix_sharing_on_and_off_and_no_name_twice():
    assert len(PLAN) == len({served.name for served in PLAN})
    for served in PLAN:
        assert len(served.loads) == len({load.name for load in served.loads})
        longest = max(load.prefix + (1 + load.spread) * (load.prompt + load.output) for load in served.loads)
        assert longest <= 8192, "max_model_len"
    for name in ("llama-3.1-8b", "qwen3-30b-a3b"):
        on, off = (next(one for one in PLAN if one.name == f"{name}-bf16{end}") for end in ("", "-uncached"))
        (load,) = off.loads
        assert load.prefix > 0
        assert load in on.loads, "the same load with the prefix cache and without"
        assert "--no-enable-prefix-caching" in set(off.flags) - set(on.flags)


REPORT: dict[str, Any] = {
    "date": "20261122-211755",
    "tokenizer_id": "/somewhere/model",
    "num_prompts": 2,
    "completed": 2,
    "start_times": [9000.1, 9000.3500004],
    "ttfts": [0.0999161234, 0.05],
    "itls": [[0.0151234567, 0.02], []],
    "input_lens": [128, 64],
    "output_lens": [3, 1],
    "errors": ["", ""],
    "generated_texts": ["w1 w2 w3", "w4"],
}


def test_a_kept_record_reads_like_the_report_it_came_from(tmp_path):
    text = compact(REPORT, {"rate_qps": 2, "seed": 5})
    kept = json.loads(text)
    assert {"generated_texts", "tokenizer_id"} & set(kept) == set()
    assert {"rate_qps": 2, "seed": 5} == kept["load"]
    recording = vllm_bench_recording(kept, tmp_path / "light.json")
    full = vllm_bench_recording(REPORT, tmp_path / "report.json")
    assert list(full.prompt_tokens) == list(recording.prompt_tokens)
    assert list(full.first_token_s) == pytest.approx(list(recording.first_token_s), abs=2e-6)


EMPTY = [
    ({"completed": 0}, "none completed"),
    ({"itls": None}, r"absent: \['itls'\]"),
]


@pytest.mark.parametrize(("change", "said"), EMPTY)
def test_a_report_without_requests_is_not_kept(change, said):
    with pytest.raises(NothingRecordedError, match=said):
        compact(REPORT | change, {})


def test_the_log_lines_that_are_kept_name_no_path_of_the_machine(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "(APIServer pid=7) INFO 11-22 20:41:56 [api.py:286] non-default args: {'model': '/scratch/x/m', 'port': 1}\n"
        "(EngineCore pid=8) INFO 11-22 20:42:21 [kv.py:2] GPU KV cache size: 131,072 tokens, Maximum 32.00x\n"
        "INFO:     Application startup complete.\n"
    )
    assert [
        "non-default args: {'model': '…', 'port': 1}",
        "GPU KV cache size: 131,072 tokens, Maximum 32.00x",
    ] == telling_lines(log)


def test_a_dry_run_starts_nothing_and_says_what_is_left(tmp_path):
    (first, *_), out = PLAN, tmp_path / "records"
    recorder.record_path(first, first.loads[0], out).parent.mkdir(parents=True)
    recorder.record_path(first, first.loads[0], out).write_text("{}")
    command = [sys.executable, "-m", "tools.gpu_record", "--dry-run", "--out", str(out)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert 1 == said.count("  there  ")
    assert sum(len(served.loads) for served in PLAN) - 1 == said.count("  to do  ")
    assert [recorder.record_path(first, first.loads[0], out)] == [path for path in out.rglob("*") if path.is_file()]


SMALL = (
    Served("one", "cpu-tiny", REHEARSAL[0].config, (), (Load("a", 1, 8, 8), Load("b", 1, 8, 8))),
    Served("two", "cpu-tiny", REHEARSAL[0].config, (), (Load("a", 1, 8, 8),)),
)
MACHINE = recorder.Machine("python", {}, on_cpu=True)


def test_one_server_that_fails_does_not_keep_the_next_from_being_recorded(tmp_path, monkeypatch, capsys):
    tried = []

    def fail_once(served: Served, *_: object) -> int:
        tried.append(served.name)
        if served.name == "one":
            raise ServerFailedError("out of memory")
        return recorder.DONE

    monkeypatch.setattr(recorder, "record_server", fail_once)
    assert recorder.FAILED == recorder.record_all(SMALL, tmp_path, MACHINE, time.monotonic() + 1e6)
    assert ["one", "two"] == tried
    assert "one: out of memory" in capsys.readouterr().out


def test_what_is_there_or_would_not_fit_the_time_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "record_server", lambda *_: pytest.fail("began a server"))
    for load in SMALL[0].loads:
        path = recorder.record_path(SMALL[0], load, tmp_path)
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert recorder.DONE == recorder.record_all(SMALL[:1], tmp_path, MACHINE, time.monotonic() + 1e6)
    assert recorder.NO_TIME == recorder.record_all(SMALL, tmp_path, MACHINE, time.monotonic() + 1)


def test_an_unknown_server_is_refused_with_those_that_there_are():
    command = [sys.executable, "-m", "tools.gpu_record", "--only", "llama-4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert 2 == done.returncode
    assert "no server llama-4; there are: llama-3.1-8b-bf16" in done.stderr
