"""A file of rates as what one moment and one day are sized by: the peak, and each hour's mean as a share of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.scenario import Scenario
from planner.units import HOURS_PER_DAY, S_PER_HOUR
from planner.workload.rates import S_PER_DAY, Rates, rates_of

MOST_DAYS = 7  # that one run goes through, and after which a file's rates begin anew at the latest


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

    so the peak is that of the busiest moment, and the queries are those of the mean day. Raises what `rates_of` does.
    """
    traffic = scenario.traffic
    if traffic.rates is None or traffic.peak_qps is not None:
        return scenario
    rates = rates_of(scenario, days_of_rates(scenario))
    peak_qps = float(rates.qps.max())
    by_day = np.reshape(rates.by_hour(), (-1, HOURS_PER_DAY))
    shares = np.minimum(by_day.mean(axis=0) / peak_qps, 1.0)
    values: dict[str, Any] = {"traffic.peak_qps": peak_qps, "traffic.day": shares.tolist()}
    return scenario.with_values(values)


def whole_and_mean_day(given: Scenario) -> tuple[Rates, ...]:
    """What the day of a scenario may be run as, the nearest to it first: its file whole, then its mean day.

    Where `peak_qps` and `day` are given, that day alone. The queries of a day are the same in both.
    """
    told = peak_and_day(given)
    hours = np.arange(HOURS_PER_DAY, dtype=np.float64) * S_PER_HOUR
    mean = Rates(hours, (told.traffic.peak_qps or 0.0) * np.array(told.traffic.day), S_PER_DAY)
    return (mean,) if told is given else (rates_of(given, days_of_rates(given)), mean)
