"""When the engine may have worked for a request of which the records have no token.

A request that failed may have waited, been computed or been decoded all the same: from when it was sent, or its last
token came, until its client gave it up. What ran beside it then is not known, so no equation is made of that time.
Nor is one of a killed run's last moments: what was in flight when it was killed has no line in its records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.readers.recordings import Recording
from planner.simulation.load import Load

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Unseen:
    """Spans of time, ascending by their begin. `latest_s[i]` is the latest end of the first i + 1."""

    begin_s: F64
    latest_s: F64

    def touches(self, begin_s: F64, end_s: F64) -> NDArray[np.bool_]:
        """Which of the given spans of time overlap one of these."""
        if len(self.begin_s) == 0:
            return np.zeros(len(begin_s), np.bool_)
        before = np.searchsorted(self.begin_s, end_s)  # so many began before the span's end
        return np.asarray((before > 0) & (self.latest_s[before - 1] > begin_s))


def unseen_work(recording: Recording, load: Load | None) -> Unseen:
    """The spans of a recording's failed requests that were sent, and of those of `load` that a killed run lost.

    A recorder that does not say when a failed request ended is taken to have waited as long as for its longest answer.
    """
    begin_s, end_s = _failed(recording)
    lost_s = _lost(recording, load)
    begin_s, end_s = np.r_[begin_s, lost_s], np.r_[end_s, np.full(len(lost_s), np.inf)]
    some = end_s > begin_s
    order = np.argsort(begin_s[some], kind="stable")
    return Unseen(begin_s[some][order], np.maximum.accumulate(end_s[some][order]))


def _failed(recording: Recording) -> tuple[F64, F64]:
    """When each failed request that was sent began to be served unseen, and until when it may have been."""
    answered = recording.answered
    failed = ~answered & np.isfinite(recording.sent_s)
    begin_s = np.fmax(recording.sent_s, recording.last_token_s)[failed]
    if recording.ended_s is not None:
        end_s = recording.ended_s[failed]
    else:
        took_s = (recording.last_token_s - recording.sent_s)[answered]
        end_s = np.fmax(begin_s, recording.sent_s[failed] + (took_s.max() if len(took_s) else np.inf))
    return begin_s, end_s


def _lost(recording: Recording, load: Load | None) -> F64:
    """When those requests of a killed run were due that have no line, though the run went on after that.

    In an open loop alone: elsewhere the answers decide what is sent, and when. A later turn of a session was due when
    the pause after the one before had passed; where that one has no line either it was never sent.
    """
    header, ended_s = recording.header, recording.ended_s
    if load is None or header is None or ended_s is None or recording.end is not None:
        return np.zeros(0)
    if header.demand not in ("open", "trace"):
        return np.zeros(0)
    missing = np.setdiff1d(np.arange(load.requests), recording.request)
    query = missing // load.width
    due_s = load.arrival_s[query]
    if load.follows is not None and load.think_s is not None:
        over_s = np.full(load.queries, np.nan)
        np.fmax.at(over_s, recording.request // load.width, ended_s)
        before = load.follows[query]
        due_s = np.where(before < 0, due_s, over_s[before] + load.think_s[query])
    return np.asarray(due_s[due_s <= float(np.nanmax(ended_s))])
