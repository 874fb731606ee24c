"""The requests of a GuideLLM report: `benchmarks[].requests.successful[]`, one run for each benchmark.

Two shapes, read from the schemas of the releases named (github.com/vllm-project/guidellm):

0.4.0 to 0.8.1  times in `info.timings` (`request_start`, `first_token_iteration`, `last_token_iteration`, Unix
                seconds), token counts as `prompt_tokens` and `output_tokens` or in `input_metrics`, `output_metrics`
0.2 to 0.3.1    times flat on the request (`start_time`, `first_token_time`, `last_token_time`), −1 = did not happen

When a request was due (`targeted_start`) is taken where the strategy has a schedule: constant, poisson, trace. The
others aim at "as soon as possible", and there a request is due when it is sent. There are no gaps between single
tokens. What errored or was cut off is counted as failed, at the time at which it was sent. A report that keeps a
sample of its requests, or leaves those of its warm-up out, is refused: it does not say what the server had to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from planner.errors import DataFileError
from planner.readers.recordings import NAN, Recording
from planner.readers.reports import Fields, Length, checked
from planner.scenario.types import as_tuple

Known = TypeVar("Known", int, float, str)
SCHEDULED = ("constant", "poisson", "trace")  # strategies that say when a request is due


def _happened(value: Any) -> Any:
    """−1 is how GuideLLM before 0.4 writes a time that never came."""
    return None if value in (-1, -1.0) and not isinstance(value, bool) else value


Epoch = Annotated[Annotated[float, Field(ge=0, le=1e11)] | None, BeforeValidator(_happened)]


class _Timings(Fields):
    targeted_start: Epoch = None
    request_start: Epoch = None
    resolve_start: Epoch = None
    first_token_iteration: Epoch = None
    last_token_iteration: Epoch = None
    token_iterations: Length | None = None


class _Info(Fields):
    timings: _Timings = _Timings()


class _Usage(Fields):
    text_tokens: Length | None = None
    total_tokens: Length | None = None
    cached_tokens: Length | None = None

    @property
    def tokens(self) -> int | None:
        return self.text_tokens if self.total_tokens is None else self.total_tokens


class _Scheduled(Fields):
    """Of a request before 0.4."""

    targeted_start_time: Epoch = None


class _Request(Fields):
    info: _Info = _Info()
    input_metrics: _Usage = _Usage()
    output_metrics: _Usage = _Usage()
    scheduler_info: _Scheduled = _Scheduled()
    start_time: Epoch = None
    first_token_time: Epoch = None
    last_token_time: Epoch = None
    prompt_tokens: Length | None = None
    output_tokens: Length | None = None

    @property
    def targeted(self) -> float | None:
        return _first(self.info.timings.targeted_start, self.scheduler_info.targeted_start_time)

    @property
    def sent(self) -> float | None:
        return _first(self.info.timings.request_start, self.info.timings.resolve_start, self.start_time)

    @property
    def first(self) -> float | None:
        return _first(self.info.timings.first_token_iteration, self.first_token_time)

    @property
    def last(self) -> float | None:
        return _first(self.info.timings.last_token_iteration, self.last_token_time)

    @property
    def prompt(self) -> int:
        return _first(self.prompt_tokens, self.input_metrics.tokens) or 0

    @property
    def output(self) -> int:
        """As counted; of a server that counted nothing, the events that brought a token."""
        counted = _first(self.output_tokens, self.output_metrics.tokens)
        return _first(counted, self.info.timings.token_iterations) or 0

    @property
    def cached(self) -> int:
        """Of the prompt, −1 where the server did not say."""
        return -1 if self.input_metrics.cached_tokens is None else self.input_metrics.cached_tokens


def _first(*values: Known | None) -> Known | None:
    """The first that is there."""
    return next((value for value in values if value is not None), None)


Listed = Annotated[tuple[_Request, ...], BeforeValidator(as_tuple)]


class _Requests(Fields):
    successful: Listed = ()
    errored: Listed = ()
    incomplete: Listed = ()


class _Made(Fields):
    successful: Length | None = None


class _Totals(Fields):
    requests_made: _Made = _Made()


class _Strategy(Fields):
    type_: str | None = None


class _Sender(Fields):
    strategy: _Strategy = _Strategy()


class _Benchmark(Fields):
    requests: _Requests | None = None
    config: _Sender = _Sender()
    args: _Sender = _Sender()  # before 0.4
    scheduler_metrics: _Totals = _Totals()
    run_stats: _Totals = _Totals()  # before 0.4

    @property
    def scheduled(self) -> bool:
        """Whether its strategy says when a request is due."""
        return _first(self.config.strategy.type_, self.args.strategy.type_) in SCHEDULED

    @property
    def made(self) -> int | None:
        """Requests that were answered, whether listed or not."""
        return _first(self.scheduler_metrics.requests_made.successful, self.run_stats.requests_made.successful)


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
    rows = _rows(benchmark, key, path)
    begin = min(sent for sent, _, _ in rows)

    def times(values: list[float | None]) -> NDArray[np.float64]:
        return np.array([NAN if value is None else value - begin for value in values])

    requests = [request for _, request, _ in rows]
    sent_s = times([sent for sent, _, _ in rows])
    due_s = sent_s
    if benchmark.scheduled:
        due_s = np.fmin(times([request.targeted for request in requests]), sent_s)
    return Recording(
        path=path,
        source="GuideLLM",
        request=np.arange(len(rows)),
        query_s=due_s,
        scheduled_s=due_s,
        sent_s=sent_s,
        first_token_s=times([request.first for request in requests]),
        last_token_s=times([request.last for request in requests]),
        prompt_tokens=np.array([request.prompt for request in requests], np.int64),
        output_tokens=np.array([request.output for request in requests], np.int64),
        gap_start=np.zeros(len(rows) + 1, np.int64),
        gaps_s=np.zeros(0),
        errors=tuple(error for _, _, error in rows),
        cached_tokens=np.array([request.cached for request in requests], np.int64),
        name=name,
    )


def _rows(benchmark: _Benchmark, key: str, path: Path) -> list[tuple[float, _Request, str]]:
    """When each request was sent, the request, and why it failed; in the order in which they were sent."""
    listed = benchmark.requests
    if listed is None or not listed.successful:
        raise DataFileError(f"{key}.successful", None, f"{path.name}: is required, and must not be empty")
    if benchmark.made is not None and benchmark.made > len(listed.successful):
        rule = f"{path.name}: must list all {benchmark.made} that were answered: no sample, no warm-up cut off"
        raise DataFileError(f"{key}.successful", f"{len(listed.successful)} requests", rule)
    rows: list[tuple[float, _Request, str]] = []
    for group, error in (("successful", ""), ("errored", "errored"), ("incomplete", "cut off")):
        for place, request in enumerate(getattr(listed, group)):
            if error and request.sent is None:
                continue
            whole = request.first is not None and request.last is not None and request.prompt and request.output
            if request.sent is None or not (whole or error):
                rule = f"{path.name}: must have its times of start, first and last token and both token counts"
                raise DataFileError(f"{key}.{group}[{place}]", None, rule)
            rows.append((request.sent, request, error))
    return sorted(rows, key=lambda row: row[0])
