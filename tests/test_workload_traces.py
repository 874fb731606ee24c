"""Recorded loads: the three formats, by small files of a known content, and files that cannot be used."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import DataFileError, ScenarioError
from planner.scenario import Scenario
from planner.simulation.load import Load, shared_blocks
from planner.workload import build_load, read_recording

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:58.6805900,374,44
2023-11-16 23:59:59.6805901,396,109
2023-11-17 00:00:08.6805900,879,55
"""
BURSTGPT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,,1.5,ChatGPT,472,18,490,Conversation log
45.5,,2.5,"GPT-4, large",1087,230,1317,API log
"""
MOONCAKE_ROWS = [
    {"timestamp": 1000, "input_length": 1200, "output_length": 50, "hash_ids": [0, 1, 2]},
    {"timestamp": 1000, "input_length": 1100, "output_length": 60, "hash_ids": [0, 1, 3]},
    {"timestamp": 4000, "input_length": 512, "output_length": 70, "hash_ids": [0]},
    {"timestamp": 4500, "input_length": 30, "output_length": 80, "hash_ids": []},
]
MOONCAKE = "".join(json.dumps(row) + "\n" for row in MOONCAKE_ROWS)
KEY = "traffic.arrivals.trace.file"


def load(path: Path, form: str, *, max_model_len: int = 8192, seed: int = 1, **query: Any) -> Load:
    trace = {"file": path.name, "format": form, "speedup": query.pop("speedup", 1)}
    data = {
        "version": 1,
        "model": "m",
        "traffic": {"arrivals": {"trace": trace}},
        "query": {"stages": [{"name": "reply"}], **query},
    }
    made = Scenario.from_dict(data, path.parent)
    rng = np.random.default_rng(seed)
    return build_load(made, queries=7, duration_s=None, warmup=3, rng=rng, max_model_len=max_model_len)


def written(folder: Path, text: str | bytes, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("form", ["azure", "burstgpt", "mooncake"])
@pytest.mark.parametrize("name", ["pipe", "pipe.gz", "folder", "/dev/zero", "/dev/null"])
def test_what_is_not_a_regular_file_is_refused_before_it_is_opened(form: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name.startswith("pipe"):
        os.mkfifo(path)
    with pytest.raises(DataFileError, match=r"is a folder, not a file|is not a regular file"):
        read_recording(path, form, KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["azure", "mooncake"])
def test_a_line_without_end_is_refused_with_its_number(form: str, tmp_path: Path) -> None:
    start = MOONCAKE if form == "mooncake" else AZURE
    path = written(tmp_path, start + "x" * 2_000_000)
    with pytest.raises(DataFileError, match=rf"line {start.count(chr(10)) + 1}: longer than 1000000 characters"):
        load(path, form)


def test_azure_times_are_read_to_the_nanosecond_across_midnight(tmp_path: Path) -> None:
    run = load(written(tmp_path, AZURE), "azure")
    np.testing.assert_allclose(run.arrival_s, [0.0, 1.0000001, 10.0], rtol=0, atol=1e-12)
    assert run.prompt_tokens.tolist() == [374, 396, 879]
    assert run.output_tokens.tolist() == [44, 109, 55]
    assert (run.prefixes, run.warmup, run.clients, run.stages[0].name) == (None, 0, 0, "reply")
    assert run.notes == ()


def test_azure_times_may_name_utc_and_the_file_may_end_without_a_line_end(tmp_path: Path) -> None:
    text = AZURE.replace(",374", "+00:00,374").replace("00,879", "00Z,879").rstrip("\n")
    assert load(written(tmp_path, text), "azure").arrival_s[-1] == 10.0


def test_burstgpt_columns_are_found_by_name(tmp_path: Path) -> None:
    run = load(written(tmp_path, BURSTGPT), "burstgpt")
    assert run.arrival_s.tolist() == [0.0, 40.5]
    assert (run.prompt_tokens.tolist(), run.output_tokens.tolist()) == ([472, 1087], [18, 230])


def test_mooncake_blocks_become_segments_of_512_tokens(tmp_path: Path) -> None:
    run = load(written(tmp_path, MOONCAKE), "mooncake")
    assert run.arrival_s.tolist() == [0.0, 0.0, 3.0, 3.5]
    prefixes = run.prefixes
    assert prefixes is not None
    assert prefixes.chain_start.tolist() == [0, 3, 6, 7, 7]
    assert prefixes.chain_segment.tolist() == [0, 1, 2, 0, 1, 3, 0]
    assert prefixes.segment_tokens.tolist() == [512, 512, 176, 76]
    assert shared_blocks(prefixes, 4, 512).count.tolist() == [2, 2, 1, 0]


def test_an_id_after_another_predecessor_is_other_content(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": [0, 9]},
        {"timestamp": 1, "input_length": 1024, "output_length": 1, "hash_ids": [5, 9]},
        {"timestamp": 2, "input_length": 1000, "output_length": 1, "hash_ids": [5, 9]},
    ]
    run = load(written(tmp_path, "\n".join(map(json.dumps, rows))), "mooncake")
    assert run.prefixes is not None
    assert run.prefixes.chain_segment.tolist() == [0, 1, 2, 3, 2, 4]
    assert run.prefixes.segment_tokens.tolist() == [512, 512, 512, 512, 488]


def test_speedup_shortens_every_gap(tmp_path: Path) -> None:
    run = load(written(tmp_path, AZURE), "azure", speedup=4)
    np.testing.assert_allclose(run.arrival_s, [0.0, 0.250000025, 2.5])


def test_rate_and_means_are_the_files_own(tmp_path: Path) -> None:
    rows = [
        f"2023-11-16 18:{index // 60:02d}:{index % 60:02d}.0,{1000 + index % 3},{200 + index % 5}"
        for index in range(600)
    ]
    run = load(written(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows)), "azure", speedup=5.53)
    assert (run.requests - 1) / run.arrival_s[-1] == pytest.approx(5.53)
    assert (run.prompt_tokens.mean(), run.output_tokens.mean()) == (1001.0, 202.0)


def test_a_packed_file_is_read_as_it_is(tmp_path: Path) -> None:
    packed = load(written(tmp_path, gzip.compress(MOONCAKE.encode()), "t.jsonl.gz"), "mooncake")
    assert packed.prompt_tokens.tolist() == load(written(tmp_path, MOONCAKE), "mooncake").prompt_tokens.tolist()


def test_zero_tokens_count_as_one_and_are_noted(tmp_path: Path) -> None:
    run = load(written(tmp_path, AZURE.replace(",44", ",0").replace("879,", "0,")), "azure")
    assert (run.prompt_tokens.tolist(), run.output_tokens.tolist()) == ([374, 396, 1], [1, 109, 55])
    assert run.notes == ("2 requests of the trace have 0 prompt or output tokens, taken as 1",)


def test_token_counts_of_a_stage_give_way_to_the_trace_and_are_noted(tmp_path: Path) -> None:
    stages = [{"name": "reply", "prompt_tokens": 5, "output_tokens": 5}]
    run = load(written(tmp_path, AZURE), "azure", stages=stages)
    assert run.prompt_tokens.tolist() == [374, 396, 879]
    assert [note.split(" ")[0] for note in run.notes] == [
        "query.stages[0].prompt_tokens",
        "query.stages[0].output_tokens",
    ]


def test_the_response_cache_thins_a_trace_and_its_prefixes(tmp_path: Path) -> None:
    rows = [
        {"timestamp": index, "input_length": 600 + index % 424, "output_length": 1, "hash_ids": [0, index + 1]}
        for index in range(2000)
    ]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)))
    run = load(path, "mooncake", response_cache={"hit_rate": 0.25})
    assert run.requests == pytest.approx(1500, abs=80)
    assert run.cached_share == pytest.approx(1 - run.requests / 2000)
    np.testing.assert_allclose(np.rint(run.arrival_s * 1000) % 424, run.prompt_tokens - 600)
    assert run.prefixes is not None
    own = run.prefixes.chain_segment[1::2]
    np.testing.assert_array_equal(run.prefixes.segment_tokens[own], run.prompt_tokens - 512)


HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.68,374,44\n"


def row(**change: Any) -> str:
    return json.dumps(MOONCAKE_ROWS[0] | change) + "\n"


BAD = [
    # format, text, the line holds, because
    ("azure", None, "no such file", "missing"),
    ("azure", "", "is empty", "empty"),
    ("azure", HEADER, "holds a header but no rows", "no rows"),
    ("azure", "a,b\n1,2\n", "has no column TIMESTAMP; it has: a, b", "wrong columns"),
    ("azure", BURSTGPT, "has no column TIMESTAMP", "another format's file"),
    ("burstgpt", AZURE, "has no column Timestamp", "another format's file"),
    (
        "azure",
        HEADER + ROW + "2023-11-16 18:15:4",
        "line 3: 1 fields where the header has 3; is the file cut off?",
        "cut",
    ),
    ("azure", HEADER + ROW + ROW.replace("46.68", "45.00"), "line 3: earlier than the line before", "unsorted"),
    ("azure", HEADER + ROW.replace(",44", ",-44"), "line 2: GeneratedTokens is '-44', not a whole number", "negative"),
    (
        "azure",
        HEADER + ROW.replace(",44", ",4.5"),
        "line 2: GeneratedTokens is '4.5', not a whole number",
        "half a token",
    ),
    ("azure", HEADER + ROW.replace(",44", ",nan"), "line 2: GeneratedTokens is 'nan'", "NaN"),
    ("azure", HEADER + ROW.replace(",44", ","), "line 2: GeneratedTokens is ''", "no value"),
    ("azure", HEADER + ROW.replace(",44", "," + "9" * 5000), "line 2: GeneratedTokens is '999", "thousands of digits"),
    ("azure", HEADER + ROW + "yesterday,1,2\n", "line 3: TIMESTAMP is 'yesterday', not a time", "not a time"),
    ("azure", HEADER + "2023-11-16 18:15:46+02:00,1,2\n", "line 2: TIMESTAMP", "another zone"),
    ("azure", HEADER + ROW.replace("2023-11", "2023-13"), "line 2: TIMESTAMP", "no such month"),
    ("azure", b"\xff\xfe\x00", "not UTF-8 text", "not text"),
    ("burstgpt", BURSTGPT.replace("45.5", "inf"), "line 3: Timestamp is 'inf', not a number of seconds", "infinite"),
    ("burstgpt", BURSTGPT.replace("45.5", "x"), "line 3: Timestamp is 'x'", "not a number"),
    ("burstgpt", BURSTGPT.replace("45.5", "4"), "line 3: earlier than the line before", "unsorted"),
    ("mooncake", "", "is empty", "empty"),
    ("mooncake", "\n\n", "is empty", "blank lines only"),
    ("mooncake", AZURE, "line 1: not a JSON object", "another format's file"),
    ("mooncake", MOONCAKE[:-30], "line 4: not a JSON object; is the file cut off?", "cut off"),
    ("mooncake", "[1]\n", "line 1: not a JSON object", "a list"),
    ("mooncake", "[" * 100_000, "line 1: not a JSON object", "deep nesting"),
    ("mooncake", '{"timestamp": 1}\n', "line 1: has no input_length", "a field is missing"),
    ("mooncake", row() + row(timestamp=5), "line 2: earlier than the line before", "unsorted"),
    ("mooncake", row(timestamp="1"), "line 1: timestamp is not a number", "text for a time"),
    ("mooncake", row(timestamp=float("nan")), "line 1: timestamp is not a number", "NaN"),
    ("mooncake", row(input_length=-1), "line 1: input_length is -1, not a whole number of tokens", "negative"),
    ("mooncake", row(output_length=1.5), "line 1: output_length is 1.5, not a whole number", "half a token"),
    ("mooncake", row(output_length=True), "line 1: output_length is True", "true is not 1"),
    ("mooncake", row(hash_ids=["a"]), "line 1: hash_ids is not a list of whole numbers", "text ids"),
    ("mooncake", row(hash_ids=[1, 2, 3, 4]), "line 1: 4 hash_ids are more blocks of 512", "another block size"),
]


@pytest.mark.parametrize(("form", "text", "holds", "because"), BAD, ids=[f"{r[0]}-{r[3]}" for r in BAD])
def test_a_bad_trace_is_refused_with_its_line(
    form: str, text: str | bytes | None, holds: str, because: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace" if text is None else written(tmp_path, text)
    with pytest.raises(DataFileError) as caught:
        load(path, form)
    line = str(caught.value)
    assert line.startswith(f"{KEY} (="), because
    assert holds in line, because
    assert "\n" not in line
    assert caught.value.exit_code == 2


def test_a_folder_and_a_damaged_packed_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataFileError, match="is a folder, not a file"):
        load(tmp_path / "folder", "azure")
    whole = gzip.compress(AZURE.encode())
    with pytest.raises(DataFileError, match="cut off or damaged"):
        load(written(tmp_path, whole[:-12], "t.csv.gz"), "azure")
    with pytest.raises(DataFileError, match="cannot be read: Not a gzipped file"):
        load(written(tmp_path, AZURE, "u.csv.gz"), "azure")


def test_a_trace_that_does_not_fit_names_its_line_and_the_longest(tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as caught:
        load(written(tmp_path, AZURE), "azure", max_model_len=500)
    assert str(caught.value).endswith(
        "line 3: prompt and output have 505 tokens, more than max_model_len (=500);"
        " 2 lines do not fit, the longest has 934"
    )


def test_a_trace_without_its_file_says_how_to_name_it() -> None:
    data = {"version": 1, "model": "m", "traffic": {"arrivals": {"trace": {"format": "azure"}}}}
    rng = np.random.default_rng(1)
    with pytest.raises(ScenarioError, match=f"^{KEY}: is required: name the file, or give it by --set {KEY}=PATH$"):
        build_load(Scenario.from_dict(data), queries=None, duration_s=None, warmup=0, rng=rng, max_model_len=8192)


def test_a_trace_has_one_model_call_a_query(tmp_path: Path) -> None:
    path = written(tmp_path, AZURE)
    for stages in ([{"name": "a"}, {"name": "b"}], [{"name": "a", "calls": 2}], [{"name": "a", "samples": 2}]):
        with pytest.raises(ScenarioError, match=r"^query.stages: a trace records one model call a query"):
            load(path, "azure", stages=stages)
