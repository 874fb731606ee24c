"""Reports of load generators that become rows of the measured table: what is read, and what is refused and how."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner.errors import DataFileError
from planner.readers import report_rows, write_measured
from planner.validation import read_cases

GOOD = {
    "id": "a",
    "source": "bench",
    "role": "judge",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic.arrivals": "{closed: {concurrency: 8, requests_per_client: 4}}",
    "query.stages.0.prompt_tokens": "{uniform: [900, 1100]}",
    "query.stages.0.output_tokens": "100",
    "ttft_ms.mean": "40",
}


def table(tmp_path: Path, *rows: dict[str, str]) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(write_measured(rows))
    return path


def refusal(tmp_path: Path, **cells: str) -> str:
    """What is said of the good row with some cells changed; an empty one is left out."""
    row = GOOD | {key.replace("__", "."): text for key, text in cells.items()}
    with pytest.raises(DataFileError) as error:
        read_cases([table(tmp_path, row)])
    return str(error.value)


# --- vllm bench ---

VLLM_BENCH: dict[str, Any] = {
    "date": "20260131-101112",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 80,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 8,
    "duration": 20.0,
    "completed": 80,
    "failed": 0,
    "total_input_tokens": 80_000,
    "total_output_tokens": 8_000,
    "request_throughput": 4.0,
    "output_throughput": 400.0,
    "total_token_throughput": 4400.0,
    "mean_ttft_ms": 40.0,
    "median_ttft_ms": 38.0,
    "std_ttft_ms": 3.0,
    "p99_ttft_ms": 90.0,
    "mean_tpot_ms": 9.0,
    "median_tpot_ms": 8.9,
    "p99_tpot_ms": 12.0,
    "mean_itl_ms": 9.0,
    "median_itl_ms": 7.5,
    "p99_itl_ms": 60.0,
    "mean_e2el_ms": 931.0,
}


def report(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(content))
    return path


def test_a_vllm_bench_closed_loop_becomes_a_row(tmp_path):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH))
    assert row == {
        "id": "run",
        "source": "vllm bench",
        "role": "judge",
        "date": "2026-01-31",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "traffic.arrivals": "{closed: {concurrency: 8, requests: 80}}",
        "query.stages.0.prompt_tokens": "1000",
        "query.stages.0.output_tokens": "100",
        "ttft_ms.mean": "40",
        "ttft_ms.p50": "38",
        "ttft_ms.p99": "90",
        "tpot_ms.mean": "9",
        "tpot_ms.p50": "8.9",
        "tpot_ms.p99": "12",
        "itl_ms.mean": "9",
        "itl_ms.p50": "7.5",
        "itl_ms.p99": "60",
        "e2e_ms.mean": "931",
        "request_throughput": "4",
        "output_throughput": "400",
        "total_token_throughput": "4400",
    }


def test_a_converted_row_with_its_gpu_can_be_validated(tmp_path):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH))
    (case,) = read_cases([table(tmp_path, row | {"hardware": "h100-sxm-80gb"})])
    assert case.candidate.model.name == "llama-3.1-8b"
    assert case.scenario.demand == "closed"


@pytest.mark.parametrize(
    ("changed", "cells", "because"),
    [
        ({"max_concurrency": None}, {"traffic.arrivals": "{offline: {requests: 80}}"}, "all at once"),
        (
            {"max_concurrency": None, "request_rate": 4.5},
            {"traffic.arrivals": "poisson", "traffic.peak_qps": "4.5", "requests": "80", "ttft_ms.mean": "40"}
            | {"last_arrival_s": "17.7778"},
            "an open loop: burstiness 1 is Poisson, and the last of 80 requests leaves at 80 / 4.5 s",
        ),
        (
            {"max_concurrency": None, "request_rate": 4.5, "burstiness": 0.5},
            {"traffic.arrivals": "{gamma: {burstiness: 0.5}}"},
            "burstier than Poisson",
        ),
        (
            {"request_rate": 4.5},
            {"traffic.max_in_flight": "8", "ttft_from_send_ms.mean": "40"},
            "below a limit in flight vllm bench counts from sending",
        ),
        (
            {"input_lens": [10, 20, 30] * 20 + [20] * 20, "output_lens": [100] * 80},
            {"query.stages.0.prompt_tokens": "{normal: {mean: 20, sd: 7.07107, min: 10, max: 30}}"},
            "a detailed report has the lengths",
        ),
    ],
)
def test_how_requests_were_sent_is_read_off_a_vllm_bench_report(tmp_path, changed, cells, because):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH | changed))
    assert {name: row.get(name) for name in cells} == cells, because


def test_latency_below_a_limit_in_flight_is_not_taken_for_latency_from_the_schedule(tmp_path):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH | {"request_rate": 4.5}))
    assert [name for name in row if name.startswith(("ttft_ms", "e2e_ms"))] == []


@pytest.mark.parametrize("nothing", [0, math.nan, math.inf, None])
def test_zero_and_not_a_number_in_a_report_mean_not_measured(tmp_path, nothing):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH | {"mean_tpot_ms": nothing}))
    assert "tpot_ms.mean" not in row
    assert row["tpot_ms.p50"] == "8.9"


def test_infinity_as_older_versions_write_it_is_all_at_once(tmp_path):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH | {"request_rate": math.inf, "max_concurrency": None}))
    assert row["traffic.arrivals"] == "{offline: {requests: 80}}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"failed": 3}, r"report.failed \(=3\): run.json: a run with failed requests"),
        ({"ramp_up_strategy": "linear"}, r"report.ramp_up_strategy \(=linear\): run.json: a rate that grows"),
        ({"completed": 0}, r"report.completed \(=0\)"),
        ({"total_output_tokens": None}, "report.total_output_tokens: run.json: is required"),
        ({"max_concurrency": "abc"}, r"report.max_concurrency \(=abc\): run.json: must be a whole number"),
        ({"max_concurrency": 0}, r"report.max_concurrency \(=0\): run.json: must be >= 1"),
        ({"model_id": ["x"]}, r"report.model_id \(=\[x\]\): run.json: must be text"),
        ({"input_lens": [10, True]}, r"report.input_lens\[1\] \(=true\): run.json: must be a whole number"),
        ({"output_lens": [10, 1e308]}, r"report.output_lens\[1\] \(=.*\): run.json: must be <= 2147483647"),
        ({"total_input_tokens": 1e308}, r"report.total_input_tokens \(=.*\): run.json: must be <="),
        ({"failed": "0"}, r"report.failed \(=0\): run.json: must be a whole number"),
        ({"burstiness": 0}, r"report.burstiness \(=0\): run.json: must be >= 0.001"),
        ({"request_rate": "fast"}, r"report.request_rate \(=fast\): run.json: must be a number"),
        ({"request_rate": None}, "report.request_rate: run.json: is required"),
        ({"mean_ttft_ms": "40"}, r"report.mean_ttft_ms \(=40\): run.json: must be a number"),
        ({"p99_itl_ms": -1}, r"report.p99_itl_ms \(=-1\): run.json: must be > 0"),
        ({"completed": 10**400}, r"report.completed \(=1000.*\): run.json: must be <= 50000000"),
    ],
)
def test_a_vllm_bench_run_that_measures_something_else_is_refused(tmp_path, changed, said):
    with pytest.raises(DataFileError, match=said):
        report_rows(report(tmp_path, VLLM_BENCH | changed))


@pytest.mark.parametrize("name", ["/Models/My-Llama", "Qwen/Qwen3-8B", "My-Llama"])
def test_a_model_keeps_the_case_that_the_report_gives_it(tmp_path, name):
    (row,) = report_rows(report(tmp_path, VLLM_BENCH | {"model_id": name}))
    assert row["model"] == name


# --- GuideLLM ---


def spread(mean: float, **percentiles: float) -> dict[str, Any]:
    values = {"mean": mean, "std_dev": 0.0, "min": mean, "max": mean, "percentiles": percentiles}
    return {"successful": values, "errored": {"mean": 0.0}}


GUIDELLM: dict[str, Any] = {
    "metadata": {"version": 2},
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "concurrent", "streams": 8}},
            "metrics": {
                "request_totals": {"successful": 80, "incomplete": 0, "errored": 0, "total": 80},
                "requests_per_second": spread(4.0),
                "output_tokens_per_second": spread(404.0),
                "prompt_token_count": spread(1000.0),
                "output_token_count": spread(101.0),
                "request_latency": spread(0.94, p50=0.93, p99=1.2),
                "time_to_first_token_ms": spread(40.0, p50=38.0, p99=90.0),
                "time_per_output_token_ms": spread(940.0 / 101),
            },
        }
    ],
}


def guidellm(**changed: Any) -> dict[str, Any]:
    """The report with other metrics; None takes one away."""
    (benchmark,) = GUIDELLM["benchmarks"]
    metrics = {name: value for name, value in (benchmark["metrics"] | changed).items() if value is not None}
    return GUIDELLM | {"benchmarks": [benchmark | {"metrics": metrics}]}


def test_a_guidellm_benchmark_becomes_a_row_in_our_units(tmp_path):
    (row,) = report_rows(report(tmp_path, GUIDELLM))
    assert row["traffic.arrivals"] == "{closed: {concurrency: 8, requests: 80}}"
    assert (row["query.stages.0.prompt_tokens"], row["query.stages.0.output_tokens"]) == ("1000", "101")
    assert (row["e2e_ms.mean"], row["e2e_ms.p99"]) == ("940", "1200")
    assert (row["request_throughput"], row["output_throughput"]) == ("4", "404")


def test_guidellms_tpot_is_rid_of_the_first_token(tmp_path):
    (row,) = report_rows(report(tmp_path, GUIDELLM))
    assert row["tpot_ms.mean"] == "9"  # (940 − 40) / (101 − 1), not 940 / 101


def test_guidellms_inter_token_latency_is_a_requests_tpot(tmp_path):
    (row,) = report_rows(report(tmp_path, guidellm(inter_token_latency_ms=spread(9.0, p50=8.9, p99=12.0))))
    assert {name: row[name] for name in row if name.startswith(("tpot", "itl"))} == {
        "tpot_ms.mean": "9",
        "tpot_ms.p50": "8.9",
        "tpot_ms.p99": "12",
    }


@pytest.mark.parametrize(
    ("strategy", "cells"),
    [
        ({"type_": "synchronous"}, {"traffic.arrivals": "{closed: {concurrency: 1, requests: 80}}"}),
        ({"type_": "throughput"}, {"traffic.arrivals": "{offline: {requests: 80}}"}),
        ({"type_": "constant", "rate": 3.5}, {"traffic.arrivals": "constant", "traffic.peak_qps": "3.5"}),
        ({"type_": "poisson", "rate": 3.5}, {"traffic.arrivals": "poisson", "requests": "80"}),
    ],
)
def test_guidellms_strategies_are_our_arrivals(tmp_path, strategy, cells):
    (benchmark,) = GUIDELLM["benchmarks"]
    content = GUIDELLM | {"benchmarks": [benchmark | {"config": {"strategy": strategy}}]}
    (row,) = report_rows(report(tmp_path, content))
    assert {name: row[name] for name in cells} == cells


@pytest.mark.parametrize("version", [1, 2])
def test_guidellms_two_versions_are_read_alike(tmp_path, version):
    assert report_rows(report(tmp_path, GUIDELLM | {"metadata": {"version": version}})) == report_rows(
        report(tmp_path, GUIDELLM)
    )


@pytest.mark.parametrize(
    ("arguments", "backend", "name"),
    [
        ({"model": "Qwen/Qwen3-8B", "backend": "openai_http"}, {"model": "other"}, "Qwen/Qwen3-8B"),
        ({"model": None}, {"model": "Qwen/Qwen3-8B"}, "Qwen/Qwen3-8B"),
        ({}, "openai_http", None),
        (None, None, None),
    ],
)
def test_guidellms_model_is_that_of_its_arguments_or_of_its_backend(tmp_path, arguments, backend, name):
    (benchmark,) = GUIDELLM["benchmarks"]
    changed = benchmark | {"config": benchmark["config"] | {"backend": backend}}
    (row,) = report_rows(report(tmp_path, GUIDELLM | {"args": arguments, "benchmarks": [changed]}))
    assert row.get("model") == name


@pytest.mark.parametrize(("start_time", "day"), [(1769860800.5, "2026-01-31"), (0, None), (None, None)])
def test_guidellms_day_is_that_of_the_start_in_utc(tmp_path, start_time, day):
    (benchmark,) = GUIDELLM["benchmarks"]
    (row,) = report_rows(report(tmp_path, GUIDELLM | {"benchmarks": [benchmark | {"start_time": start_time}]}))
    assert row.get("date") == day


def test_every_benchmark_of_a_report_is_a_row_of_its_own(tmp_path):
    content = GUIDELLM | {"benchmarks": GUIDELLM["benchmarks"] * 2}
    assert [row["id"] for row in report_rows(report(tmp_path, content))] == ["run-0", "run-1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GUIDELLM | {"metadata": {"version": 3}}, r"report.metadata.version \(=3\): run.json: must be 1 or 2"),
        (GUIDELLM | {"benchmarks": []}, r"report.benchmarks \(=\[\]\): run.json: must not be empty"),
        ({"benchmarks": [3]}, r"report.benchmarks\[0\] \(=3\): run.json: must be a mapping"),
        (guidellm(request_totals={"successful": True}), r"request_totals.successful \(=true\): .*a whole number"),
        (guidellm(request_totals={"successful": 9, "errored": "0"}), r"errored \(=0\): run.json: must be a whole num"),
        (guidellm(prompt_token_count=spread(1e308)), r"successful.mean \(=1e\+308\): run.json: must be <="),
        (
            guidellm(output_token_count={"successful": None}),
            "output_token_count.successful.mean: run.json: is required",
        ),
        (guidellm(request_latency=[1]), "request_latency .*must be a mapping"),
        (guidellm(request_totals={"successful": 79, "errored": 1}), "a run with errored requests"),
        (guidellm(output_token_count=None), "output_token_count: run.json: is required"),
        (GUIDELLM | {"benchmarks": [{"config": {}, "metrics": GUIDELLM["benchmarks"][0]["metrics"]}]}, "strategy"),
        ({"hello": 1}, "is neither vllm bench's"),
        ([1], "must be a JSON object"),
    ],
)
def test_a_report_that_cannot_be_read_is_refused(tmp_path, content, said):
    with pytest.raises(DataFileError, match=said):
        report_rows(report(tmp_path, content))


ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    0.5,
    1e308,
    10**400,
    math.nan,
    math.inf,
    "",
    "abc",
    "0",
    [],
    [3],
    {},
    {"a": 1},
)


def with_each_place_changed(content: Any, value: Any) -> Iterator[Any]:
    """Copies of a report in which one value, on any level, is another."""
    places = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for place, inner in places:
        for changed in (value, *with_each_place_changed(inner, value)):
            copied = content.copy()
            copied[place] = changed
            yield copied


@pytest.mark.parametrize("content", [VLLM_BENCH | {"input_lens": [10, 20]}, GUIDELLM], ids=["vllm bench", "GuideLLM"])
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:9])
def test_whatever_stands_in_a_report_is_a_row_or_a_refusal_of_one_line(tmp_path, content, value):
    said = []
    for changed in with_each_place_changed(content, value):
        try:
            rows = report_rows(report(tmp_path, changed))
            read_cases([table(tmp_path, *(row | {"model": "qwen3-8b", "hardware": "l4-24gb"} for row in rows))])
        except DataFileError as error:  # any other error is a traceback
            said.append(str(error))
    assert [words for words in said if "\n" in words] == []


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(DataFileError, match="not JSON"):
        report_rows(path)
