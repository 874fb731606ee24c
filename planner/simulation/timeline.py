"""What the replicas of a run did between instants: means and counts of each interval, told from their ledgers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Timeline(NamedTuple):
    """Intervals between successive instants; every array but the first two has shape [intervals, replicas].

    A step counts whole into the interval in which it began, so an interval of a replica ends with the step that was in
    hand at its instant: means are over that time, NaN where a single step covered more than the interval.
    """

    begin_s: F64  # [intervals]
    end_s: F64
    running: F64  # mean number of requests in the batch
    waiting: F64  # mean number of requests in the queue
    kv_usage: F64  # mean share of the KV blocks that are owned
    busy_share: F64  # of the time
    steps: I64
    prefill_tokens: I64
    decode_tokens: I64
    preemptions: I64
    queried_tokens: I64  # looked up in the prefix cache
    hit_tokens: I64  # and found there

    @property
    def tokens_per_step(self) -> F64:
        """Prompt and generated tokens computed in a step, on average [intervals, replicas]; NaN without a step."""
        return _ratio(self.prefill_tokens + self.decode_tokens, self.steps)


def timeline(marks: NDArray[np.void], marks_s: F64, usable_blocks: int) -> Timeline:
    """The intervals between `marks_s` [M] of replicas whose ledgers stood at `marks` [M, replicas] then."""
    clock_s = np.maximum(marks_s[:, None], marks["now"])
    span_s = np.diff(clock_s, axis=0)

    def gained(name: str) -> NDArray[np.float64]:
        return np.diff(marks[name].astype(np.float64), axis=0)

    def counted(name: str) -> I64:
        stood: I64 = marks[name].astype(np.int64)
        return stood[1:] - stood[:-1]

    return Timeline(
        begin_s=marks_s[:-1],
        end_s=marks_s[1:],
        running=_ratio(gained("running_s"), span_s),
        waiting=_ratio(gained("waiting_s"), span_s),
        kv_usage=_ratio(gained("kv_block_s"), span_s * usable_blocks),
        busy_share=_ratio(gained("busy_s"), span_s),
        steps=counted("steps"),
        prefill_tokens=counted("prefill_tokens"),
        decode_tokens=counted("decode_tokens"),
        preemptions=counted("preemptions"),
        queried_tokens=counted("queried_tokens"),
        hit_tokens=counted("hit_tokens"),
    )


def _ratio(above: NDArray[np.float64] | I64, below: NDArray[np.float64] | I64) -> F64:
    """NaN where there is nothing to divide by."""
    ratio = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=ratio, where=np.asarray(below) > 0)
    return ratio
