"""One simulated point of a search, and whether it holds the service levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from planner.simulation.load import Load
from planner.simulation.outcome import Outcome

SHORT_SHARE = 10  # a short run has a tenth of the queries of a full one
LEAST_SHORT = 2000  # and at least these
SHORT_SPANS = 3  # and lasts at least so many times as long as a query
LEAST_REQUESTS = 1000  # a full run with fewer has batches too small for an interval


def short_of(queries: int) -> int:
    """Queries of a short run."""
    return max(queries // SHORT_SHARE, min(queries, LEAST_SHORT))


@dataclass(frozen=True)
class Probe:
    """One simulated point: `at` is the number of serving replicas, the rate in queries/s, or the concurrency.

    `other_seed` is the seed of its arrays where that is not the search's own.
    """

    at: float
    full: bool  # full length, judged with its confidence interval
    load: Load = field(repr=False)
    outcome: Outcome = field(repr=False)
    other_seed: int | None = None

    @property
    def met(self) -> bool:
        """Whether it holds the service levels: with confidence if full-length, by its point estimate if short."""
        if self.full:
            return self.outcome.slo_met
        return not self.outcome.saturated and all(
            check.met if check.value_ms is None else check.value_ms <= check.limit_ms for check in self.outcome.checks
        )

    def row(self, axis: str) -> dict[str, Any]:
        """A line of the probes table."""
        values = {check.key: check.value_ms for check in self.outcome.checks}
        uppers = {f"{check.key}_upper": check.upper_ms for check in self.outcome.checks}
        return {
            axis: self.at,
            "met": self.met,
            "saturated": self.outcome.saturated,
            "full_length": self.full,
            **values,
            **uppers,
            "utilisation": self.outcome.figures["utilisation"],
            **({} if self.other_seed is None else {"other_seed": self.other_seed}),
        }

    def broken(self) -> str:
        """What does not hold, in words: the limit that is exceeded most, or saturation; on which seed, if another's."""
        on = "" if self.other_seed is None else f" (seed {self.other_seed})"
        if self.outcome.saturated:
            return f"saturated: more arrives than is served{on}"
        worst, by = "", 1.0
        for check in self.outcome.checks:
            value = check.upper_ms if self.full and check.upper_ms is not None else check.value_ms
            if value is not None and value / check.limit_ms > by:
                known = check.value_ms is None or math.isfinite(check.value_ms)
                found = f"{_ms(value)} > {_ms(check.limit_ms)}" if known else self._failed()
                worst, by = f"{check.key} {found}{on}", value / check.limit_ms
        return worst

    def _failed(self) -> str:
        """Why a limit has no value: failed queries stand above every one."""
        figures = self.outcome.figures
        share = figures["failed"] / max(figures["queries"], 1)
        causes = {"timed_out": "timed out (traffic.timeout_s)", "rejected": "rejected (fleet.admission)"}
        why = " and ".join(words for key, words in causes.items() if figures.get(key))
        return f"unbounded: {share:.1%} of the queries fail" + (f", {why}" if why else "")


def _ms(value: float) -> str:
    """Milliseconds with enough digits to tell a value from its limit."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
