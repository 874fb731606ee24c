"""Time windows of the histogram of inter-token gaps: each is a batch of the batch means.

Windows are laid before a run, over the times at which its queries are due. Of sessions these come out only with the
answers: so narrow windows are laid, many and over a longer time, and joined afterwards.
"""

from __future__ import annotations

import numpy as np

from planner.simulation.kernel_state import Gaps, make_gaps
from planner.simulation.load import Load

WINDOWS = 20  # in an open loop
NARROW = 100  # windows within the time that the counted turns would take if answers took none
LONGEST = 8  # times that time: who is later falls into the last


def gap_windows(load: Load) -> Gaps:
    """Equal windows over the counted arrivals of an open loop; one window where arrivals depend on finishes."""
    return _laid(load, WINDOWS, WINDOWS)


def narrow_windows(load: Load) -> Gaps:
    """Of sessions, before they run: windows to be joined."""
    return _laid(load, NARROW, NARROW * LONGEST)


def joined_windows(narrow: Gaps, load: Load) -> Gaps:
    """The equal windows over the counted turns of `load`, whose `arrival_s` are those that came out of the run."""
    wide = gap_windows(load)
    if len(wide.total_s) == 1:
        return Gaps(narrow.count.sum(axis=0, keepdims=True), narrow.total_s.sum(keepdims=True), 0.0, np.inf)
    middle_s = narrow.start_s + (np.arange(len(narrow.total_s)) + 0.5) * narrow.window_s
    window = np.clip((middle_s - wide.start_s) / wide.window_s, 0, len(wide.total_s) - 1).astype(np.int64)
    used = np.flatnonzero(narrow.total_s)  # most are empty, and never were written to
    np.add.at(wide.count, window[used], narrow.count[used])
    np.add.at(wide.total_s, window[used], narrow.total_s[used])
    return wide


def _laid(load: Load, within: int, windows: int) -> Gaps:
    """`windows` from the first counted arrival on, `within` of them up to the last one; or one of any length."""
    if load.clients > 0 or load.queries - load.warmup - load.cooldown < 2 * WINDOWS:
        return make_gaps()
    counted_s = load.arrival_s[load.warmup : load.queries - load.cooldown]
    start_s, end_s = float(counted_s.min()), float(counted_s.max())
    return make_gaps(windows, start_s, (end_s - start_s) / within) if end_s > start_s else make_gaps()
