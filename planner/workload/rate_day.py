"""A file of rates as what one moment and one day are sized by: the peak, and each hour's mean as a share of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataFileError
from planner.scenario import Scenario
from planner.scenario.types import LEAST_SHARE
from planner.summary.words import plural
from planner.units import HOURS_PER_DAY, MOST_DAYS, S_PER_HOUR
from planner.workload.rates import KEY, S_PER_DAY, Rates, rates_of
from planner.workload.tables import unusable


def days_of_rates(scenario: Scenario) -> int:
    """Whole days, 1 to 7, after which the scenario's rates begin anew. Raises what `rates_of` does."""
    rates = rates_of(scenario, MOST_DAYS)
    day = np.floor(rates.start_s / S_PER_DAY).astype(np.int64)
    steps = [
        np.column_stack((rates.start_s - number * S_PER_DAY, rates.qps))[day == number] for number in range(MOST_DAYS)
    ]

    def begins_anew(days: int) -> bool:
        return all(np.array_equal(steps[number], steps[number % days]) for number in range(days, MOST_DAYS))

    return next(days for days in range(1, MOST_DAYS + 1) if begins_anew(days))


def peak_and_day(scenario: Scenario) -> Scenario:
    """The scenario with `peak_qps` and `day` beside its `rates`, where it has rates and not yet the two.

        peak_qps = the highest step of the file
        day[h]   = mean over the file's days of the mean rate of hour h ÷ peak_qps

    so the peak is that of the busiest moment, the queries are those of the mean day. Raises what `rates_of` does, and a
    DataFileError where an hour of the mean day has no queries, or hardly any: readers of a plan divide by them.
    """
    traffic = scenario.traffic
    if traffic.rates is None or traffic.peak_qps is not None:
        return scenario
    rates = rates_of(scenario, days_of_rates(scenario))
    peak_qps = float(rates.qps.max())
    by_day = np.reshape(rates.by_hour(), (-1, HOURS_PER_DAY))
    shares = np.minimum(by_day.mean(axis=0) / peak_qps, 1.0)
    if shares.min() < LEAST_SHARE:
        raise _empty(scenario, traffic.rates.file, shares, peak_qps)
    values: dict[str, Any] = {"traffic.peak_qps": peak_qps, "traffic.day": shares.tolist()}
    return scenario.with_values(values)


def _empty(scenario: Scenario, file: str, shares: NDArray[np.float64], peak_qps: float) -> DataFileError:
    """The error for a mean day with an hour that hardly anybody asks in; `simulate --days` carries such hours."""
    hours = np.flatnonzero(shares < LEAST_SHARE)
    hour, more = int(hours[0]), len(hours) - 1
    others = f", and as few in {plural(more, 'more hour')}" if more else ""
    least_qps = 10.0 ** (math.floor(math.log10(LEAST_SHARE * peak_qps)) + 1)  # above the least, whatever rounding does
    rule = (
        f"has {shares[hour] * peak_qps:.3g} queries/s at {hour:02d}:00, the mean of its days{others}: every hour of a "
        f"day that is planned must have at least {LEAST_SHARE:g} of the peak ({peak_qps:g} queries/s)"
    )
    nearest = f"{least_qps:g} queries/s in such an hour; simulate --days runs the file as it is"
    return unusable(KEY, scenario.resolve(file), rule, nearest)


def whole_and_mean_day(given: Scenario) -> tuple[Rates, ...]:
    """What the day of a scenario may be run as, the nearest to it first: its file whole, then its mean day.

    Where `peak_qps` and `day` are given, that day alone. The queries of a day are the same in both.
    """
    told = peak_and_day(given)
    hours = np.arange(HOURS_PER_DAY, dtype=np.float64) * S_PER_HOUR
    mean = Rates(hours, (told.traffic.peak_qps or 0.0) * np.array(told.traffic.day), S_PER_DAY)
    return (mean,) if told is given else (rates_of(given, days_of_rates(given)), mean)
