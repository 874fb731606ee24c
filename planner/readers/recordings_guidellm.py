"""The requests of a GuideLLM report: `benchmarks[].requests.successful[]`, one run for each benchmark.

Times stand in `info.timings` (`request_start`, `first_token_iteration`, `last_token_iteration`, Unix seconds) from
version 0.4 on and flat on the request before (`start_time`, `first_token_time`, `last_token_time`). There are no gaps
between single tokens. What errored or was cut off is counted as failed, at the time at which it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from planner.errors import DataFileError
from planner.readers.recordings import NAN, Recording
from planner.readers.reports import Fields, Length, checked
from planner.scenario.types import as_tuple

Epoch = Annotated[float, Field(ge=0, le=1e11)]


class _Timings(Fields):
    targeted_start: Epoch | None = None
    request_start: Epoch | None = None
    resolve_start: Epoch | None = None
    first_token_iteration: Epoch | None = None
    last_token_iteration: Epoch | None = None


class _Info(Fields):
    timings: _Timings = _Timings()


class _Request(Fields):
    info: _Info = _Info()
    start_time: Epoch | None = None
    first_token_time: Epoch | None = None
    last_token_time: Epoch | None = None
    prompt_tokens: Length | None = None
    output_tokens: Length | None = None

    @property
    def sent(self) -> float | None:
        timings = self.info.timings
        return timings.request_start or timings.resolve_start or self.start_time

    @property
    def first(self) -> float | None:
        return self.info.timings.first_token_iteration or self.first_token_time

    @property
    def last(self) -> float | None:
        return self.info.timings.last_token_iteration or self.last_token_time


Listed = Annotated[tuple[_Request, ...], BeforeValidator(as_tuple)]


class _Requests(Fields):
    successful: Listed = ()
    errored: Listed = ()
    incomplete: Listed = ()


class _Benchmark(Fields):
    requests: _Requests | None = None


class _Report(Fields):
    benchmarks: list[_Benchmark]


def guidellm_recordings(report: Mapping[str, Any], path: Path) -> list[Recording]:
    """The runs of a report, numbered where it holds several; DataFileError where one has no single requests."""
    benchmarks = checked(_Report, report, path).benchmarks
    return [
        _recording(benchmark, path, f"{path.name}-{index}" if len(benchmarks) > 1 else path.name, index)
        for index, benchmark in enumerate(benchmarks)
    ]


def _recording(benchmark: _Benchmark, path: Path, name: str, index: int) -> Recording:
    key = f"report.benchmarks[{index}].requests"
    if benchmark.requests is None or not benchmark.requests.successful:
        raise DataFileError(f"{key}.successful", None, f"{path.name}: is required, and must not be empty")
    rows: list[tuple[float, _Request, str]] = []
    groups = (("successful", ""), ("errored", "errored"), ("incomplete", "cut off"))
    for group, error in groups:
        for place, request in enumerate(getattr(benchmark.requests, group)):
            sent, whole = (
                request.sent,
                request.first and request.last and request.prompt_tokens and request.output_tokens,
            )
            if error and sent is None:
                continue
            if sent is None or not (whole or error):
                rule = f"{path.name}: must have its times of start, first and last token and both token counts"
                raise DataFileError(f"{key}.{group}[{place}]", None, rule)
            rows.append((sent, request, error))
    rows.sort(key=lambda row: row[0])
    begin = rows[0][0]
    sent_s = np.array([sent for sent, _, _ in rows]) - begin
    due = [request.info.timings.targeted_start or sent for sent, request, _ in rows]
    due_s = np.minimum(np.array(due) - begin, sent_s)
    return Recording(
        path=path,
        source="GuideLLM",
        request=np.arange(len(rows)),
        query_s=due_s,
        scheduled_s=due_s,
        sent_s=sent_s,
        first_token_s=np.array([NAN if request.first is None else request.first - begin for _, request, _ in rows]),
        last_token_s=np.array([NAN if request.last is None else request.last - begin for _, request, _ in rows]),
        prompt_tokens=np.array([request.prompt_tokens or 0 for _, request, _ in rows], np.int64),
        output_tokens=np.array([request.output_tokens or 0 for _, request, _ in rows], np.int64),
        gap_start=np.zeros(len(rows) + 1, np.int64),
        gaps_s=np.zeros(0),
        errors=tuple(error for _, _, error in rows),
        name=name,
    )
