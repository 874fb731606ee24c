"""A rate that follows the day: steps of queries per second, and arrivals by a change of time.

The gaps are those of a load of even rate, drawn with mean 1: u_k their sums. With Λ(t) = ∫₀ᵗ rate the k-th query
arrives at Λ⁻¹(u_k). For Poisson gaps that is the non-homogeneous Poisson process of that rate, exactly (Çinlar 1975);
for others it is their own law on a clock that runs with the rate. The same seed gives the same queries, sooner or
later.

`traffic.day` are steps, an hour each, not joined by slopes: so that the queries of an hour are those that its cost is
reckoned by.

What the response cache answers is left out, in each step its own share (`Reaching`). All of a day's figures have that
share from here: arrivals, sizes, bills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.errors import ScenarioError
from planner.response_cache import step_hits
from planner.scenario import GammaArrivals, Scenario
from planner.simulation.load import F64, I64
from planner.units import HOURS_PER_DAY, MOST_DAYS, S_PER_HOUR
from planner.workload.arrivals import MOST_QUERIES, Arrivals, summed_gaps, unit_gaps
from planner.workload.tables import csv_chunks, unusable

KEY = "traffic.rates.file"
S_PER_DAY = HOURS_PER_DAY * S_PER_HOUR
MOST_QPS = 1e7


@dataclass(frozen=True)
class Rates:
    """Users' queries per second in steps: `qps[k]` from `start_s[k]` up to `start_s[k + 1]`, the last to `end_s`."""

    start_s: F64  # [K] ascending from 0
    qps: F64  # [K], 0 allowed
    end_s: float

    @property
    def edges_s(self) -> F64:
        """[K + 1] where the steps begin, and the end."""
        return np.append(self.start_s, self.end_s)

    def queries_before(self, t_s: F64) -> F64:
        """Λ(t): users' queries expected before each of the times `t_s`."""
        edges_s = self.edges_s
        sums = np.concatenate(([0.0], np.cumsum(self.qps * np.diff(edges_s))))
        at: F64 = np.interp(t_s, edges_s, sums)
        return at

    def by_hour(self) -> F64:
        """Mean queries per second of each hour."""
        hours = round(self.end_s / S_PER_HOUR)
        edges_s = np.arange(hours + 1, dtype=np.float64) * S_PER_HOUR
        return np.diff(self.queries_before(edges_s)) / S_PER_HOUR

    def when(self, units: F64) -> F64:
        """Λ⁻¹ of ascending `units`, of which those beyond the end are left out."""
        edges_s = self.edges_s
        sums = np.concatenate(([0.0], np.cumsum(self.qps * np.diff(edges_s))))
        step = self.steps(units)
        due = units[: len(step)]
        at: F64 = self.start_s[step] + (due - sums[step]) / self.qps[step]
        return np.minimum(at, edges_s[step + 1])  # rounding

    def steps(self, units: F64) -> I64:
        """The step in which each of the ascending `units` is due; those beyond the end are left out."""
        sums = np.concatenate(([0.0], np.cumsum(self.qps * np.diff(self.edges_s))))
        # A query due as a step ends belongs to that step: after a pause without load it does not come late.
        ends = np.searchsorted(units, sums, side="right")
        ends[0] = 0
        return np.repeat(np.arange(len(self.qps)), np.diff(ends))

    def hourly(self) -> Rates:
        """The same rates in steps that end at full hours too."""
        hours_s = np.arange(round(self.end_s / S_PER_HOUR), dtype=np.float64) * S_PER_HOUR
        start_s = np.union1d(self.start_s, hours_s)
        return Rates(start_s, self.qps[np.searchsorted(self.start_s, start_s, side="right") - 1], self.end_s)


@dataclass(frozen=True)
class Reaching:
    """The users' rates, and the share [K] of each step's queries that the response cache leaves to the model."""

    users: Rates
    share: F64

    @property
    def model(self) -> Rates:
        """What reaches the model."""
        return Rates(self.users.start_s, self.users.qps * self.share, self.users.end_s)

    def share_by_hour(self) -> F64:
        """[H] of each hour's queries; NaN where there are none."""
        users = self.users.by_hour()
        with np.errstate(invalid="ignore"):
            return np.where(users > 0, self.model.by_hour() / users, np.nan)

    def hourly(self) -> Reaching:
        """The same in steps that end at full hours too."""
        users = self.users.hourly()
        return Reaching(users, self.share[np.searchsorted(self.users.start_s, users.start_s, side="right") - 1])


def reaching(scenario: Scenario, rates: Rates) -> Reaching:
    """What the scenario's response cache leaves of the users' `rates`: where the hit rate emerges, hour by hour or, of
    shorter steps, step by step.

    Raises ScenarioError where nothing is left.
    """
    cache = scenario.query.response_cache
    users = rates if cache is None or cache.hit_rate is not None else rates.hourly()
    return Reaching(users, 1.0 - step_hits(scenario, users.edges_s, users.qps))


def rates_of(scenario: Scenario, days: int) -> Rates:
    """The scenario's rates over `days` days from midnight; a shorter record begins anew after its last day.

    Raises ScenarioError without any rate and DataFileError for a file that cannot be used.
    """
    traffic = scenario.traffic
    if traffic.rates is not None:
        return _over(_read(scenario.resolve(traffic.rates.file))[0], days)
    if traffic.peak_qps is None:
        raise ScenarioError("traffic.peak_qps", None, "is required, with traffic.day; or give traffic.rates")
    hours = np.arange(HOURS_PER_DAY, dtype=np.float64) * S_PER_HOUR
    return _over(Rates(hours, traffic.peak_qps * np.array(traffic.day), S_PER_DAY), days)


def closing_row(scenario: Scenario) -> str:
    """What of the scenario's file of rates is not used, in words: the rate of a row that closes it; else empty.

    Raises DataFileError for a file that cannot be used.
    """
    rates = scenario.traffic.rates
    return "" if rates is None else _read(scenario.resolve(rates.file))[1]


def _over(rates: Rates, days: int) -> Rates:
    """Exactly `days` days: repeated, or cut."""
    times = math.ceil(days * S_PER_DAY / rates.end_s)
    start_s = (rates.start_s + rates.end_s * np.arange(times)[:, None]).ravel()
    within = start_s < days * S_PER_DAY
    return Rates(start_s[within], np.tile(rates.qps, times)[within], days * S_PER_DAY)


def _read(path: Path) -> tuple[Rates, str]:
    """The steps of a file, and what is not used of it: seconds ascending from 0, rates from 0 on.

    Its length is rounded up to whole days. A last row exactly at a day's end closes the record: what it is the rate of
    lies beyond. In a table of days, whose rows are all at midnight, it is a day like the others, but for the eighth.
    """
    seconds: list[float] = []
    qps: list[float] = []
    for lines, (times, rates) in csv_chunks(path, KEY, ("seconds", "qps")):
        for line, time, rate in zip(lines, times, rates, strict=True):
            at = _number(time, "seconds", line, path, MOST_DAYS * S_PER_DAY)
            if not seconds and at != 0:
                raise unusable(KEY, path, f"line {line}: seconds is {time}; the first row must be at 0, midnight")
            if seconds and at <= seconds[-1]:
                raise unusable(
                    KEY, path, f"line {line}: seconds is {time}, not after {seconds[-1]:g} of the row before"
                )
            seconds.append(at)
            qps.append(_number(rate, "qps", line, path, MOST_QPS))
    end_s, unused = S_PER_DAY * (math.floor(seconds[-1] / S_PER_DAY) + 1), ""
    if end_s > MOST_DAYS * S_PER_DAY or (seconds[-1] == end_s - S_PER_DAY and any(at % S_PER_DAY for at in seconds)):
        end_s = seconds.pop()
        unused = (
            f"{path.name}: its last row, at {end_s:g} s, closes the record: its {qps.pop():g} queries/s are not used"
        )
    if not any(qps):
        raise unusable(KEY, path, "all rates are 0: nothing would arrive")
    return Rates(np.array(seconds), np.array(qps), end_s), unused


def _number(text: str, column: str, line: int, path: Path, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        shown = text if len(text) <= 24 else text[:23] + "…"
        raise unusable(KEY, path, f"line {line}: {column} is {shown!r}, not a number from 0 to {most:g}")
    return value


def varied_arrivals(
    law: str | GammaArrivals,
    rates: Rates,
    reach: F64 | float,
    gaps_rng: np.random.Generator,
    skips_rng: np.random.Generator,
) -> Arrivals:
    """When those of the users' queries arrive that come here, each with probability `reach` (one for all, or [K] for
    the steps of `rates`), over all of `rates`.

    `reach` is 1 − hit rate of the response cache, and ÷ n for one of n replicas that a router draws at random: what it
    gets is drawn for it alone, exactly as it would come out of the whole (see `arrivals.summed_gaps`); under Poisson
    arrivals replicas so drawn are independent, as they are in truth. Where `reach` changes, the queries are thinned by
    its largest value, and each that is left comes with probability reach ÷ largest of its own step: exact for every
    law of arrivals. Raises ScenarioError where nothing arrives or too much.
    """
    share = np.broadcast_to(np.asarray(reach, np.float64), rates.qps.shape)
    most = float(share[rates.qps > 0].max())
    users = float(rates.queries_before(np.array([rates.end_s]))[0])
    units, users_each = np.zeros(0), np.zeros(0)
    while len(units) == 0 or units[-1] <= users:
        begun = units[-1] if len(units) else 0.0
        missing = most * (users - begun)
        count = int(missing + 6.0 * math.sqrt(missing)) + 16
        if len(units) + count > MOST_QUERIES:
            rule = f"about {missing:.0f} queries arrive, more than {MOST_QUERIES}: ask for fewer days"
            raise ScenarioError("days", f"{rates.end_s / S_PER_DAY:g}", rule)
        if most == 1:
            skips, gaps = np.ones(count), unit_gaps(law, count, gaps_rng)
        else:
            skips = skips_rng.geometric(most, count).astype(np.float64)
            gaps = summed_gaps(law, skips, 1.0 - most, gaps_rng)
        units = np.concatenate((units, begun + np.cumsum(gaps)))
        users_each = np.concatenate((users_each, skips))
    arrival_s = rates.when(units)
    asked = float(users_each[: len(arrival_s)].sum())
    if (share[rates.qps > 0] < most).any():
        arrival_s = arrival_s[skips_rng.random(len(arrival_s)) * most < share[rates.steps(units)]]
    if len(arrival_s) == 0:
        raise ScenarioError(
            "traffic.peak_qps", None, "no query reaches the model in all that time: the rate is too low"
        )
    return Arrivals(arrival_s, asked)
