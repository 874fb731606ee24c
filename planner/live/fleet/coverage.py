"""How much of a window the series of a Prometheus server fill: rates over the whole of it are too low before they do.

`rate` and `delta` extrapolate what lies between a series' first and last sample: to the window's end, and to its
beginning too where the first sample is nearer to that than 1.1 intervals between samples, else by half an interval
(Prometheus' `extrapolatedRate`). Both then divide by the window. So a series that began within the window shows what
it did in its own seconds and half an interval, spread over the whole: too low by as much.
"""

from __future__ import annotations

LEAST_SAMPLES = 3  # of a window that is not full, before any rate is told
NEAR = 1.1  # intervals


def filled_s(
    window_s: float,
    covered_s: float | None,
    newest_age_s: float | None,
    samples: float | None,
    resolution_s: float = 0.0,
) -> float | None:
    """Seconds of the window that a rate over it tells of: all of them, or those since the series began; None of too few
    samples.

    `covered_s` is the age of the oldest sample, too small by `resolution_s` at most, `newest_age_s` that of the newest,
    `samples` their number; what is not told counts as a window that is full.
    """
    if covered_s is None or samples is None:
        return window_s
    if samples < 2:
        return None
    interval_s = (covered_s - (newest_age_s or 0.0)) / (samples - 1)
    if window_s - covered_s < max(NEAR * interval_s, resolution_s):
        return window_s
    return None if samples < LEAST_SAMPLES else min(covered_s + interval_s / 2, window_s)
