"""What a run did between instants: means and counts of each interval, of its replicas from their ledgers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.simulation.fleet_record import LOST, REJECTED, TIMED_OUT, FleetRun
from planner.simulation.stays import seconds_between

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Elsewhere(NamedTuple):
    """What of a run is no replica's; every array has shape [intervals]."""

    waiting: F64  # mean number of requests at the router while nobody serves, or waiting to begin again after a stop
    due: I64  # queries that came
    rejected: I64  # queries that failed, and why
    timed_out: I64
    lost: I64


class Timeline(NamedTuple):
    """Intervals between successive instants; the arrays of the replicas have shape [intervals, replicas].

    A step counts whole into the interval in which it began, so an interval of a replica ends with the step that was in
    hand at its instant: means are over that time, NaN where a single step covered more than the interval. Shares are
    of the part of it that the replica was on, as in `outcome.resources_of`: NaN of one that was off.
    """

    begin_s: F64  # [intervals]
    end_s: F64
    on_s: F64  # it served, drained or started
    running: F64  # mean number of requests in the batch
    waiting: F64  # mean number of requests in the queue
    kv_usage: F64  # mean share of the KV blocks that are owned
    busy_share: F64  # of the time on
    steps: I64
    prefill_tokens: I64
    decode_tokens: I64
    preemptions: I64
    queried_tokens: I64  # looked up in the prefix cache
    hit_tokens: I64  # and found there
    elsewhere: Elsewhere

    @property
    def tokens_per_step(self) -> F64:
        """Prompt and generated tokens computed in a step, on average [intervals, replicas]; NaN without a step."""
        return _ratio(self.prefill_tokens + self.decode_tokens, self.steps)


OF_REPLICAS = tuple(name for name in Timeline._fields if name not in ("begin_s", "end_s", "elsewhere"))


def timeline(run: FleetRun, marks_s: F64) -> Timeline:
    """The intervals between the `marks_s` [M, M > 1] at which `run` was looked at."""
    marks = run.marks
    clock_s = np.maximum(marks_s[:, None], marks["now"])
    span_s = np.diff(clock_s, axis=0)
    on_s = np.empty_like(span_s)
    for r in range(run.replicas):
        on_s[:, r] = seconds_between(run.on.among(run.on.who == r), clock_s[:, r])

    def gained(name: str) -> F64:
        return np.diff(marks[name].astype(np.float64), axis=0)

    def counted(name: str) -> I64:
        stood: I64 = marks[name].astype(np.int64)
        return stood[1:] - stood[:-1]

    return Timeline(
        begin_s=marks_s[:-1],
        end_s=marks_s[1:],
        on_s=on_s,
        running=_ratio(gained("running_s"), span_s),
        waiting=_ratio(gained("waiting_s"), span_s),
        kv_usage=_ratio(gained("kv_block_s"), on_s * run.usable_blocks),
        busy_share=_ratio(gained("busy_s"), on_s),
        steps=counted("steps"),
        prefill_tokens=counted("prefill_tokens"),
        decode_tokens=counted("decode_tokens"),
        preemptions=counted("preemptions"),
        queried_tokens=counted("queried_tokens"),
        hit_tokens=counted("hit_tokens"),
        elsewhere=_elsewhere(run, marks_s),
    )


def _elsewhere(run: FleetRun, marks_s: F64) -> Elsewhere:
    def failed(why: int) -> I64:
        return _count(np.minimum(run.failed_s[run.why_failed == why], marks_s[-1]), marks_s)

    return Elsewhere(
        waiting=_ratio(seconds_between(run.away, marks_s), np.diff(marks_s)),
        due=_count(run.arrival_s, marks_s),
        rejected=failed(REJECTED),
        timed_out=failed(TIMED_OUT),
        lost=failed(LOST),
    )


def _count(at_s: F64, marks_s: F64) -> I64:
    """How many of `at_s` fall into each interval; the last one has its end, too."""
    counts: I64 = np.histogram(at_s, marks_s)[0].astype(np.int64)
    return counts


def _ratio(above: F64 | I64, below: F64 | I64) -> F64:
    """NaN where there is nothing to divide by."""
    ratio = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=ratio, where=np.asarray(below) > 0)
    return ratio
