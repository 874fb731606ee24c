"""`fleet`: how replicas are run, and what happens to them. Attribute names are the YAML keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from planner.scenario.autoscaling import Autoscaler
from planner.scenario.types import (
    MOST_REPLICAS,
    Choice,
    Count,
    NotNegative,
    Positive,
    Replicas,
    Section,
    as_tuple,
    broken,
    member,
    one_key,
    tag,
    whole,
)


class Admission(Section):
    """What the router lets in."""

    max_requests_per_replica: Count
    """Unfinished requests that a replica may have; a query that finds all replicas full is rejected, and fails."""


class Stop(Section):
    """Replicas that stop at once, with all that they had in hand."""

    replicas: Replicas = 1
    at_s: NotNegative
    """From the arrival of the first counted query."""
    back_after_s: Positive | None = None
    """From the stop until they serve again, with empty caches; None = never."""


class StopFailure(Section):
    """Replicas stop."""

    stop: Stop


class Slow(Section):
    """Replicas whose every step takes longer for a while."""

    replicas: Replicas = 1
    at_s: NotNegative
    for_s: Positive
    factor: Annotated[float, Field(ge=1, le=1000)]
    """How many times as long a step takes."""


class SlowFailure(Section):
    """Replicas are slow."""

    slow: Slow


class Restart(Section):
    """One replica after the other finishes what it has, stops, and starts again (`fleet.startup_s`)."""

    at_s: NotNegative
    wait_s: NotNegative = 0.0
    """From one that serves again to the next that is taken off."""


class RestartFailure(Section):
    """Replicas are restarted in turn."""

    rolling_restart: Restart


Failure = Annotated[
    Annotated[StopFailure, Tag(tag("stop"))]
    | Annotated[SlowFailure, Tag(tag("slow"))]
    | Annotated[RestartFailure, Tag(tag("rolling_restart"))],
    Discriminator(member("name")),
    one_key(("stop", "slow", "rolling_restart"), (), ""),
]


class Fleet(Section):
    """How the replicas are run."""

    replicas: Replicas | None = None
    """How many `simulate` and `capacity` run; `plan` chooses its own."""
    routing: Choice[
        Literal["random", "round_robin", "least_loaded", "power_of_two", "session_affinity", "prefix_aware"]
    ] = ("least_loaded",)
    spare_replicas: Annotated[int, Field(ge=0, le=MOST_REPLICAS), BeforeValidator(whole)] = 0
    """Replicas that may be lost at the peak while the SLO still holds."""
    max_gpus: Count | None = None
    min_replicas: Replicas = 1
    gpus_per_node: Count = 8
    startup_s: NotNegative = 300.0
    """From starting a replica to its first answer."""
    admission: Admission | None = None
    failures: Annotated[tuple[Failure, ...], BeforeValidator(as_tuple), Field(max_length=64)] = ()
    """What happens to replicas while `simulate` runs."""
    retry: bool = True
    """Whether requests of a replica that stopped are sent again to another, from their beginning."""
    retry_after_s: NotNegative = 0.0
    """From the stop to that."""
    autoscaler: Autoscaler | None = None
    """Replicas follow the load over the day: run by `simulate --days`, and by `plan` for the cost of its fleet."""

    @model_validator(mode="after")
    def _autoscaler_fits(self) -> Fleet:
        scaler = self.autoscaler
        if scaler is None:
            return self
        for key, value in (("min_replicas", self.min_replicas), ("replicas", self.replicas or 1)):
            if value > scaler.most:
                raise broken(f"must be at most what the autoscaler may reach (={scaler.most})", key)
        if self.spare_replicas:
            raise broken("beside an autoscaler must be 0: its target leaves the room to spare", "spare_replicas")
        return self
