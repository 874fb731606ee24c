"""The step cost as a sum of named terms: what it is made of, what each part hangs on, and what happens if one is off.

Every term is proportional to its drivers, the uncertain quantities: the time of one kernel, one overhead. Factors on
the drivers give the cost in another possible world (uncertainty bands), without a term (ablations), or with overheads
under trial (the fit of the overheads).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.provenance import Provenance

F64 = NDArray[np.float64]
BALANCED_RANKS = "engine mode: balance of data-parallel ranks"  # what the provenance says of the ranks' tokens
DATA_PARALLEL = "data parallel"  # the driver of what hangs on the tokens of all data-parallel ranks
SLOPES = (
    *("decode_attention_s", "decode_token_s", "window_token_s", "prefill_token2_s", "prefill_window_s"),
    *("prefill_step_s", "frontend_s", "frontend_token_s"),
)


@dataclass(frozen=True)
class Term:
    """One named part of a `StepCost`, in its units; what a term does not touch is 0.

    `tokens_s` [max_num_batched_tokens + 1] and `requests_s` [max_num_seqs + 1] are arrays or a plain 0. The whole term
    is proportional to each of its `drivers`.
    """

    name: str
    drivers: tuple[str, ...]
    tokens_s: F64 | float = 0.0
    requests_s: F64 | float = 0.0
    decode_attention_s: float = 0.0
    decode_token_s: float = 0.0
    window_token_s: float = 0.0
    prefill_token2_s: float = 0.0
    prefill_window_s: float = 0.0
    prefill_step_s: float = 0.0
    frontend_s: float = 0.0
    frontend_token_s: float = 0.0


@dataclass(frozen=True)
class Breakdown:
    """All terms of one engine configuration.

    `spreads` gives the standard deviation of the log of each driver that stands for a kernel; overheads vary together
    (see `planner.performance.uncertainty`). `known`: every kernel was measured on this GPU and no mode of the engine is
    assumed. `provenance` has the origin of every constant.
    """

    terms: tuple[Term, ...]
    tokens: int  # max_num_batched_tokens
    requests: int  # max_num_seqs
    window: int
    spreads: Mapping[str, float]
    known: bool
    provenance: tuple[Provenance, ...] = field(repr=False)

    @cached_property
    def drivers(self) -> tuple[str, ...]:
        """Every driver of any term, sorted."""
        return tuple(sorted({driver for term in self.terms for driver in term.drivers}))

    def cost(self, factors: Mapping[str, float] | None = None) -> StepCost:
        """The sum of the terms, each times the factors of its drivers (1 where none is given)."""
        weights = [prod((factors or {}).get(driver, 1.0) for driver in term.drivers) for term in self.terms]
        tokens_s = np.zeros(self.tokens + 1)
        requests_s = np.zeros(self.requests + 1)
        ranks_tokens_s = np.zeros(self.tokens + 1)
        for term, weight in zip(self.terms, weights, strict=True):
            tokens_s += np.multiply(term.tokens_s, weight)
            requests_s += np.multiply(term.requests_s, weight)
            if DATA_PARALLEL in term.drivers:
                ranks_tokens_s += np.multiply(term.tokens_s, weight)
        tokens_s[0] = requests_s[0] = ranks_tokens_s[0] = 0.0
        slopes = {
            name: sum(float(getattr(term, name)) * weight for term, weight in zip(self.terms, weights, strict=True))
            for name in SLOPES
        }
        return StepCost(
            tokens_s=tokens_s, requests_s=requests_s, window=self.window, **slopes, ranks_tokens_s=ranks_tokens_s
        )
