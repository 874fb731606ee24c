"""The `uncertainty` key: how far off each input may be, and which of them move together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from planner.scenario.distributions import Histogram, Joint
from planner.scenario.sections import Stage
from planner.scenario.types import Section, as_tuple, broken, whole

F64 = NDArray[np.float64]

Name = Literal["step_time", "peak_qps", "output_tokens", "revenue", "price"]
INPUTS: tuple[Name, ...] = get_args(Name)
LEAST_SAMPLES, MOST_SAMPLES = 100, 20_000
ROUNDING = 1e-9  # an eigenvalue of a correlation matrix may be so far below 0

Spread = Annotated[float, Field(ge=0, le=10)]


class Correlation(Section):
    """Two inputs that move together: the correlation of their normal scores (a Gaussian copula)."""

    between: Annotated[tuple[Name, Name], BeforeValidator(as_tuple)]
    rho: Annotated[float, Field(ge=-1, le=1)]

    @model_validator(mode="after")
    def _two_inputs(self) -> Correlation:
        if self.between[0] == self.between[1]:
            raise broken("must name two different inputs", "between")
        return self


class Uncertainty(Section):
    """Draws of what is not known for sure; every cv is the coefficient of variation of a log-normal law of mean 1."""

    samples: Annotated[int, Field(ge=LEAST_SAMPLES, le=MOST_SAMPLES), BeforeValidator(whole)] = 2000
    """How many draws."""
    step_time_cv: Spread | None = None
    """Of the time of an engine step; None = as well as the step cost is known, or was calibrated."""
    peak_qps_cv: Spread | None = None
    """Of the load at the peak, and with it of every hour of the day."""
    output_tokens_cv: Spread | None = None
    """Of the mean number of output tokens of an answer."""
    revenue_cv: Spread | None = None
    """Of what a query earns."""
    price_cv: Spread | None = None
    """Of the price of a GPU-hour."""
    correlations: Annotated[tuple[Correlation, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _possible(self) -> Uncertainty:
        if not self.varied:
            raise broken("nothing varies: leave step_time_cv out, or give at least one cv > 0", "step_time_cv")
        pairs: list[frozenset[Name]] = []
        for index, correlation in enumerate(self.correlations):
            for name in correlation.between:
                if name not in self.varied:
                    rule = f"{name} does not vary: give {name}_cv > 0, or leave the correlation out"
                    raise broken(rule, "correlations", index, "between")
            pair = frozenset(correlation.between)
            if pair in pairs:
                raise broken("this pair is given twice", "correlations", index, "between")
            pairs.append(pair)
        least = float(np.linalg.eigvalsh(self.correlation_matrix())[0])
        if least < -ROUNDING:
            rule = f"cannot hold together: the matrix is not positive semi-definite (least eigenvalue {least:.3g})"
            raise broken(rule, "correlations")
        return self

    def cv(self, name: Name) -> float | None:
        """The coefficient of variation given for an input; None where none was."""
        given: float | None = getattr(self, f"{name}_cv")
        return given

    @property
    def varied(self) -> tuple[Name, ...]:
        """The inputs that vary, in the order of `INPUTS`: those with a cv above 0; the step time also without one."""
        return tuple(name for name in INPUTS if self.cv(name) or (name == "step_time" and self.step_time_cv is None))

    def correlation_matrix(self) -> F64:
        """Correlations of the inputs that vary, in their order, shape [varied, varied]; what is not given is 0."""
        matrix = np.eye(len(self.varied))
        for correlation in self.correlations:
            one, other = (self.varied.index(name) for name in correlation.between)
            matrix[one, other] = matrix[other, one] = correlation.rho
        return matrix


def check_applies(given: Uncertainty, demand: str, stages: Sequence[Stage], has_price: bool, has_revenue: bool) -> None:
    """Break a rule where the rest of a scenario has nothing that an uncertainty could vary."""
    if demand != "open":
        raise broken(f"needs open arrivals, whose rate can vary; these are {demand}", "uncertainty")
    if given.revenue_cv and not has_revenue:
        raise broken("there is no revenue to vary: give revenue, or leave this out", "uncertainty", "revenue_cv")
    if given.price_cv and not has_price:
        raise broken("there is no price to vary: give prices, or leave this out", "uncertainty", "price_cv")
    for stage in stages if given.output_tokens_cv else ():
        if isinstance(stage.output_tokens, Histogram) or isinstance(stage.prompt_tokens, Joint):
            rule = f"the output tokens of stage {stage.name} are samples of a file, which cannot be scaled"
            raise broken(rule, "uncertainty", "output_tokens_cv")
