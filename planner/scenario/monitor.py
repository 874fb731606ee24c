"""The `monitor` key: where a running fleet tells what it does, for `planner export` and `planner drift`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from planner.scenario.types import Section, Text, as_tuple, broken

LEAST_INTERVAL_S, LEAST_WINDOW_S, MOST_WINDOW_S = 1.0, 10.0, 7 * 86_400.0
MOST_ENDPOINTS = 1024


class Monitor(Section):
    """Sources of live figures: one Prometheus server, or the vLLM endpoints themselves."""

    prometheus_url: Text | None = None
    """Prometheus server that scrapes the fleet's vLLM; http://HOST:PORT, without user and password."""
    endpoints: Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Field(max_length=MOST_ENDPOINTS)] = ()
    """The replicas' own addresses, http://HOST:PORT each, where there is no Prometheus server."""
    namespace: Text | None = None
    """Kubernetes namespace that the fleet's series are told apart by; none = all series of the model."""
    model_name: Text | None = None
    """Label `model_name` of the fleet's series; none = every model that is found, which must then be one."""
    interval_s: Annotated[float, Field(ge=LEAST_INTERVAL_S, le=3600)] = 15.0
    """From one reading to the next."""
    window_s: Annotated[float, Field(ge=LEAST_WINDOW_S, le=MOST_WINDOW_S)] = 300.0
    """What rates and means are taken over."""
    utc_offset_h: Annotated[float, Field(ge=-14, le=14)] = 0.0
    """Hours from UTC to the clock of `traffic.day`, whose first hour begins at midnight."""
    queries_promql: Text | None = None
    """PromQL for the users' queries per second, cached ones included; none = the model's own, at the planned share."""
    revenue_promql: Text | None = None
    """PromQL for the USD earned per second; none = the planned revenue of a query."""
    cost_promql: Text | None = None
    """PromQL for the fleet's bill in USD an hour; none = GPUs that run, at the planned price."""

    @model_validator(mode="after")
    def _one_source(self) -> Monitor:
        if self.prometheus_url is not None and self.endpoints:
            raise broken("may not stand beside prometheus_url: give one source", "endpoints")
        if self.prometheus_url is None:
            for key in ("queries_promql", "revenue_promql", "cost_promql"):
                if getattr(self, key) is not None:
                    raise broken("needs prometheus_url beside it, which it is asked of", key)
        if self.window_s < 2 * self.interval_s:
            raise broken(f"must be at least twice interval_s (={self.interval_s:g})", "window_s")
        return self
