"""Files of recorded requests: three formats, torn and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guidellm_specimens import current
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


def test_a_damaged_line_names_its_file_its_line_and_the_rule_because_several_files_are_read_at_once(own: Path) -> None:
    """Lines are counted as an editor counts them: empty ones too."""
    lines = own.read_bytes().splitlines(keepends=True)
    own.write_bytes(b"".join([lines[0], b"\n", lines[1], b'{"record":"request","request":"one"}\n', *lines[3:]]))
    with pytest.raises(DataFileError) as caught:
        read_recordings(own)
    assert str(caught.value).startswith(f'{own}, line 4 (={{"record":"request","request":"one"}}): is no record: ')


def test_a_damaged_first_line_is_still_a_line_of_ours(own: Path) -> None:
    lines = own.read_bytes().splitlines(keepends=True)
    renamed = own.with_suffix(".log")
    renamed.write_bytes(b"".join([lines[0][40:], *lines[1:]]))
    own.write_bytes(renamed.read_bytes())
    alone = own.with_name("alone.jsonl")
    alone.write_bytes(lines[0][40:])
    for path in (own, renamed, alone):
        with pytest.raises(DataFileError, match=f"{path.name}, line 1 .*is no record"):
            read_recordings(path)


@pytest.mark.parametrize("content", [b"", b"\n  \n"])
@pytest.mark.parametrize("name", ["run.jsonl", "report.json"])
def test_an_empty_file_says_so_and_how_records_are_made(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match="is empty; planner loadtest SCENARIO --host URL --out FILE writes records"):
        read_recordings(tmp_path / name)


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


def test_a_report_of_several_benchmarks_is_several_runs(tmp_path: Path) -> None:
    report = current()
    report["benchmarks"] *= 2
    assert [one.name for one in read_recordings(written(tmp_path, report))] == ["report.json-0", "report.json-1"]


WRONG: list[tuple[Any, str]] = [
    (vllm_bench(itls=None), "report.itls: report.json: is required for single requests"),
    (vllm_bench(ttfts=[0.2]), r"report.ttfts \(=1\): report.json: must be as long as start_times \(=2\)"),
    (vllm_bench(input_lens=["a", 1]), "report.input_lens"),
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


@pytest.mark.parametrize(
    ("number", "field", "value", "said"),
    [
        (2, "prompt_tokens", -5, "line 2: prompt_tokens (=-5): must be >= 0"),
        (3, "sent_s", -0.5, "line 3: sent_s (=-0.5): must be >= 0"),
        (4, "gaps_ms", [1.0, -2.0], "line 4: gaps_ms[1] (=-2.0): must be >= 0"),
        (1, "warmup", -1, "line 1: warmup (=-1): must be >= 0"),
        (1, "width", 0, "line 1: width (=0): must be >= 1"),
    ],
)
def test_a_negative_number_names_file_line_and_field(own: Path, number: int, field: str, value: Any, said: str) -> None:
    lines = [json.loads(line) for line in own.read_bytes().splitlines()]
    lines[number - 1][field] = value
    own.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    with pytest.raises(DataFileError) as caught:
        read_recordings(own)
    assert str(caught.value) == f"{own}, {said}"
