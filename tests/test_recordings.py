"""Files of recorded requests: three formats, torn and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import scenario_of, write_run

from planner.errors import DataFileError
from planner.readers.recording_files import read_recordings

SCENARIO = scenario_of(4, 200, 10)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run.jsonl", SCENARIO, {}, queries=20)


def vllm_bench(**changes: Any) -> dict[str, Any]:
    """As `vllm bench serve --save-result --save-detailed` writes two requests, the second one failed."""
    return {
        "request_throughput": 1.0,
        "completed": 1,
        "start_times": [1000.5, 1000.0],
        "ttfts": [0.2, 0.0],
        "itls": [[0.01, 0.03], []],
        "input_lens": [100, 50],
        "output_lens": [3, 0],
        "errors": ["", "Service Unavailable"],
    } | changes


def guidellm(**changes: Any) -> dict[str, Any]:
    """As GuideLLM writes one answered request."""
    timings = {
        "targeted_start": 999.9,
        "request_start": 1000.0,
        "first_token_iteration": 1000.2,
        "last_token_iteration": 1000.5,
    }
    request = {"info": {"timings": timings}, "prompt_tokens": 100, "output_tokens": 4} | changes
    return {"benchmarks": [{"requests": {"successful": [request], "errored": [], "incomplete": []}}]}


def written(folder: Path, document: Any) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(document))
    return path


def test_our_file_is_read_as_it_was_written(own: Path) -> None:
    (recording,) = read_recordings(own)
    assert len(recording.request) == 20
    assert recording.answered.all()
    assert recording.name == "run.jsonl"
    spans = np.add.reduceat(recording.gaps_s, recording.gap_start[:-1])
    np.testing.assert_allclose(recording.first_token_s + spans, recording.last_token_s, atol=1e-9)
    assert (recording.cached_tokens == -1).all()  # the server did not say


def test_what_was_asked_for_is_no_answer(tmp_path: Path) -> None:
    """A server that counts nothing and ends after three tokens of ten has sent three."""
    path = write_run(tmp_path / "run.jsonl", SCENARIO, {}, queries=20)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines[1:-1]:
        line["output_tokens"], line["events"], line["gaps_ms"] = None, 3, line["gaps_ms"][:2]
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    (recording,) = read_recordings(path)
    assert recording.output_tokens.tolist() == [3] * 20
    assert recording.asked_output_tokens is not None
    assert recording.asked_output_tokens.tolist() == [10] * 20
    assert recording.prompt_tokens.tolist() == [200] * 20


def test_a_torn_last_line_is_left_out_because_the_run_was_killed(own: Path) -> None:
    own.write_bytes(own.read_bytes()[: -len(b'"rows":20}\n') - 200])
    (recording,) = read_recordings(own)
    assert len(recording.request) == 19
    assert recording.end is None


def test_a_torn_line_in_the_middle_is_refused_by_its_number(own: Path) -> None:
    lines = own.read_bytes().splitlines(keepends=True)
    own.write_bytes(b"".join([*lines[:3], lines[3][:40] + b"\n", *lines[4:]]))
    with pytest.raises(DataFileError, match="line 4"):
        read_recordings(own)


def test_a_request_twice_is_refused_because_it_would_count_twice(own: Path) -> None:
    lines = own.read_bytes().splitlines(keepends=True)
    own.write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))
    with pytest.raises(DataFileError, match="twice"):
        read_recordings(own)


def test_vllm_bench_times_start_with_the_first_request(tmp_path: Path) -> None:
    (recording,) = read_recordings(written(tmp_path, vllm_bench()))
    assert recording.sent_s.tolist() == [0.5, 0.0]
    assert recording.first_token_s[0] == pytest.approx(0.7)
    assert recording.last_token_s[0] == pytest.approx(0.74)
    assert np.isnan(recording.first_token_s[1])
    assert recording.errors == ("", "Service Unavailable")
    assert recording.gap_start.tolist() == [0, 2, 2]


def test_guidellm_times_are_read_in_both_of_its_forms(tmp_path: Path) -> None:
    (recording,) = read_recordings(written(tmp_path, guidellm()))
    assert (recording.scheduled_s[0], recording.sent_s[0]) == pytest.approx((-0.1, 0.0))
    assert (recording.first_token_s[0], recording.last_token_s[0]) == pytest.approx((0.2, 0.5))
    old = {"info": None, "start_time": 1000.0, "first_token_time": 1000.2, "last_token_time": 1000.5}
    (flat,) = read_recordings(written(tmp_path, guidellm(**old)))
    assert flat.first_token_s[0] == pytest.approx(0.2)


def test_a_report_of_several_benchmarks_is_several_runs(tmp_path: Path) -> None:
    report = guidellm()
    report["benchmarks"] *= 2
    assert [one.name for one in read_recordings(written(tmp_path, report))] == ["report.json-0", "report.json-1"]


WRONG: list[tuple[Any, str]] = [
    (vllm_bench(itls=None), "report.itls: report.json: is required for single requests"),
    (vllm_bench(ttfts=[0.2]), r"report.ttfts \(=1\): report.json: must be as long as start_times \(=2\)"),
    (vllm_bench(input_lens=["a", 1]), "report.input_lens"),
    (guidellm(prompt_tokens=None), r"report.benchmarks\[0\].requests.successful\[0\]"),
    ({"benchmarks": [{"metrics": {}}]}, r"report.benchmarks\[0\].requests.successful"),
    ({"some": "thing"}, "neither planner loadtest's"),
    ([1, 2], "must be a JSON object"),
]


@pytest.mark.parametrize(("document", "message"), WRONG)
def test_a_report_that_cannot_be_used_is_refused_by_its_key(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        read_recordings(written(tmp_path, document))


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        read_recordings(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\x00\xff" * 99)
    with pytest.raises(DataFileError, match="not JSON"):
        read_recordings(tmp_path / "binary")
