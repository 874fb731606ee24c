"""`fleet.autoscaler`: what starts and stops replicas in the course of the day. Attribute names are the YAML keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from planner.scenario.types import (
    MOST_REPLICAS,
    Fraction,
    NotNegative,
    Replicas,
    Section,
    ShareBelowOne,
    as_tuple,
    broken,
)
from planner.units import HOURS_PER_DAY


class ScaleTarget(Section):
    """What an autoscaler holds at a level: exactly one of these, per replica."""

    queue: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Waiting requests."""
    utilisation: Fraction | None = None
    """Share of the last interval in which the engine was busy."""
    requests: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Unfinished requests, waiting and running."""

    @model_validator(mode="after")
    def _one(self) -> ScaleTarget:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            raise broken("give exactly one of: queue, utilisation, requests", *given[1:2])
        return self


class Autoscaler(Section):
    """Starts and stops replicas in the course of the day, as Kubernetes' autoscaler does; `fleet.startup_s` is lost
    each time. It never goes below `fleet.min_replicas`.
    """

    target: ScaleTarget | None = None
    schedule: (
        Annotated[
            tuple[Replicas, ...],
            BeforeValidator(as_tuple),
            Field(min_length=HOURS_PER_DAY, max_length=HOURS_PER_DAY),
        ]
        | None
    ) = None
    """Replicas wanted in each hour from midnight, in place of `target`."""
    interval_s: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """Between two looks at the load."""
    scale_down_delay_s: NotNegative = 300.0
    """Replicas are stopped to no fewer than the most that was wanted within so long."""
    max_replicas: Replicas | None = None
    tolerance: ShareBelowOne = 0.1
    """Nothing is changed while the load per replica is within this share of the target."""

    @model_validator(mode="after")
    def _consistent(self) -> Autoscaler:
        if (self.target is None) == (self.schedule is None):
            raise broken("give exactly one of: target, schedule", *(() if self.target is None else ("schedule",)))
        if self.target is not None and self.max_replicas is None:
            raise broken("is required beside target: what the autoscaler never goes beyond", "max_replicas")
        if self.schedule is not None and max(self.schedule) > (self.max_replicas or MOST_REPLICAS):
            raise broken(f"asks for more than max_replicas (={self.max_replicas})", "schedule")
        return self

    @property
    def most(self) -> int:
        """Replicas that are never exceeded."""
        return self.max_replicas or max(self.schedule or (1,))
