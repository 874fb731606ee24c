"""A Prometheus server asked for the figures of a fleet whose vLLM it scrapes.

Its clock rules: the window ends when it says it is now. A token for it comes from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from urllib.parse import urlencode

from planner import vllm_metrics as names
from planner.errors import EndpointError
from planner.live.endpoint import connect
from planner.live.fleet.answers import TOKEN_VARIABLE, Sample, samples_of
from planner.live.fleet.clock import Clock
from planner.live.fleet.coverage import LEAST_SAMPLES, filled_s
from planner.live.fleet.endpoints import source_name
from planner.live.fleet.promql import DOWN, FIGURE, MODELS, expressions, question, resolution_s, selector
from planner.live.fleet.reading import LATENCIES, trouble_of, two_models
from planner.live.fleet.sums import PERCENTILES
from planner.observed import FLEET, SIGNED, Observed, Trouble, believable
from planner.scenario.monitor import Monitor
from planner.units import MS_PER_S

KEY = "monitor.prometheus_url"
PATH = "/api/v1/query"
ANSWER_S = 20.0
EXAMPLE = "http://127.0.0.1:9090"
LONGEST_URL = 1500
MOST_MODELS = 5  # that are named
SKEW_S = 5.0
STALE_INTERVALS = 2
MOST_SILENT = 0.5  # of the window
NAMESPACE_KEY = "monitor.namespace"
RATES = ("requests_per_s", "failed_per_s", "waiting_growth_per_s", "preemptions_per_s")
OWN = {"queries_promql": "queries_per_s", "revenue_promql": "revenue_usd_per_s", "cost_promql": "cost_usd_per_hour"}
_FIELDS = (
    "running",
    "waiting",
    "kv_usage_mean",
    "kv_usage_max",
    "requests_per_s",
    "failed_per_s",
    "waiting_growth_per_s",
    "prompt_tokens",
    "output_tokens",
    "prefix_hit_rate",
    "preemptions_per_s",
    "busy_share",
)


class Prometheus:
    """The server, and whose figures it is asked for. `read` is for one thread alone."""

    def __init__(
        self,
        monitor: Monitor,
        clock: Clock,
        percentiles: Sequence[float] = PERCENTILES,
        engines_each: int = 1,
        environment: Callable[[str], str | None] = os.environ.get,
    ) -> None:
        url = (monitor.prometheus_url or "").strip()
        self._endpoint = connect(url, option=KEY, environment=environment, keys=(TOKEN_VARIABLE,), example=EXAMPLE)
        self._source = source_name(self._endpoint)
        self._monitor, self._clock, self._engines_each = monitor, clock, engines_each
        self._question = question(expressions(monitor, percentiles))
        self.model_name: str | None = monitor.model_name
        self.namespace: str | None = monitor.namespace

    @property
    def sources(self) -> tuple[str, ...]:
        """The server's host:port."""
        return (self._source,)

    def close(self) -> None:
        """Nothing is kept open."""
        self._endpoint.session.close()

    def read(self) -> Observed:
        """Ask. What goes wrong is told in `troubles`; then nothing, or less, is known of the fleet."""
        asked_s, asked_unix_s = self._clock.steady_s(), self._clock.unix_s()
        samples = self._ask(self._question)
        took_s = self._clock.steady_s() - asked_s
        if isinstance(samples, Trouble):
            return Observed(self._clock.unix_s(), self._monitor.window_s, troubles=(samples,))
        told = {_figure(sample): sample.value for sample in samples}
        now_unix_s = told.get("now")
        if now_unix_s is None:
            text = "an answer without the time; is this a Prometheus server?"
            return Observed(self._clock.unix_s(), self._monitor.window_s, troubles=(self._trouble("garbage", text),))
        dead = _unscraped(samples)
        troubles = [*self._clocks(now_unix_s - asked_unix_s, took_s), *self._freshness(told), *dead]
        fleets = [sample.labels for sample in samples if _figure(sample) == MODELS]
        models = sorted({labels.get("model_name", "") for labels in fleets})
        fault = self._unusable(told, models)
        if fault is not None:
            return Observed(now_unix_s, self._monitor.window_s, dead_targets=len(dead), troubles=(*troubles, fault))
        self.model_name = next(iter(models), None) or self.model_name
        troubles += self._namespaces({labels.get("namespace", "") for labels in fleets})
        figures: dict[str, Any] = {name: told.get(name) for name in _FIELDS}
        filled_s = self._filled_s(told)
        for name in RATES:
            rate = figures[name]
            known = rate is not None and filled_s is not None
            figures[name] = rate * self._monitor.window_s / filled_s if known else None
        figures["replicas"] = (told["engines"] or 0.0) / self._engines_each
        for key, name in OWN.items():
            answer = self._own(key)
            if isinstance(answer, Trouble):
                troubles.append(answer)
            else:
                figures[name] = answer
        latencies = {
            name: value * MS_PER_S
            for name, value in told.items()
            if value is not None and name.partition(".")[0] in LATENCIES.values()
        }
        restarts = round(told.get("restarts") or 0)
        if restarts:
            text = f"{restarts} restart{'s' if restarts > 1 else ''} within the window"
            troubles.append(self._trouble("restarted", text))
        seen = Observed(
            now_unix_s,
            self._monitor.window_s if filled_s is None else filled_s,
            **figures,
            latencies_ms=latencies,
            model_name=next(iter(models), None) or None,
            dead_targets=len(dead),
            restarts=restarts,
            troubles=tuple(troubles),
        )
        return believable(seen, self._source)

    def _unusable(self, told: Mapping[str, float | None], models: Sequence[str]) -> Trouble | None:
        """Why the figures are those of no fleet, or of more than one, or of none that is now."""
        if told.get("engines") is None:
            series = f"no {names.RUNNING}{selector(self._monitor)}{self._other_models()}"
            text = f"Prometheus answers, but no replica is up: {series}; does it scrape the fleet, with these labels?"
            return Trouble(FLEET, "missing", text)  # not of the server, which is well
        if len(models) > 1:
            return two_models(models)
        if (told.get("jobs") or 1.0) > 1:
            return self._trouble("impossible", "two scrape jobs read the same replicas: requests would count twice")
        negative = [field for field in _FIELDS if field not in SIGNED and (told.get(field) or 0.0) < 0]
        if negative:
            return self._trouble("impossible", f"{negative[0]} is {told[negative[0]]:g}")
        if (told.get("newest_age_s") or 0.0) > self._monitor.window_s * MOST_SILENT:
            return self._trouble("stale", "half the window or more has no readings: figures are left out")
        return None

    def _other_models(self) -> str:
        """Of a model that is not there: those that are. Asked for only then."""
        if self._monitor.model_name is None:
            return ""
        every = selector(self._monitor.model_copy(update={"model_name": None}))
        samples = self._ask(f"count by (model_name) ({names.RUNNING}{every})")
        found = [] if isinstance(samples, Trouble) else sorted({one.labels.get("model_name", "") for one in samples})
        shown = ", ".join(name or "(none)" for name in found[:MOST_MODELS])
        return f" (there are series of {shown}{' …' if len(found) > MOST_MODELS else ''})" if found else ""

    def _clocks(self, ahead_s: float, took_s: float) -> list[Trouble]:
        if -SKEW_S <= ahead_s <= SKEW_S + took_s:
            return []
        text = f"its clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
        return [self._trouble("clock", f"{text}; the window is taken by its own")]

    def _freshness(self, told: Mapping[str, float | None]) -> list[Trouble]:
        oldest_s, limit_s = told.get("oldest_age_s"), STALE_INTERVALS * self._monitor.interval_s
        troubles = []
        if oldest_s is not None and oldest_s > limit_s:
            rule = f"more than {STALE_INTERVALS} x monitor.interval_s (={self._monitor.interval_s:g}) ago"
            troubles.append(self._trouble("stale", f"a replica was last scraped {oldest_s:.0f} s ago, {rule}"))
        if self._filled_s(told) is None:
            reach = f"series reach back {told['covered_s']:.0f} s of {self._monitor.window_s:g} s"
            text = f"{reach}: rates are left out until there are {LEAST_SAMPLES} samples"
            troubles.append(self._trouble("missing", text))
        return troubles

    def _filled_s(self, told: Mapping[str, float | None]) -> float | None:
        oldest_s, newest_s, samples = (told.get(name) for name in ("covered_s", "newest_age_s", "samples"))
        return filled_s(self._monitor.window_s, oldest_s, newest_s, samples, resolution_s(self._monitor))

    def _namespaces(self, found: AbstractSet[str]) -> list[Trouble]:
        """Take over the fleet's namespace; where there are several, say so."""
        if len(found) == 1:
            self.namespace = next(iter(found)) or None
        if len(found) < 2:
            return []
        shown = ", ".join(sorted(name or "(none)" for name in found)[:5])
        text = f"series of {len(found)} namespaces are summed: {shown}; is it one fleet? If not, say which one"
        return [Trouble(NAMESPACE_KEY, "impossible", text)]

    def _own(self, key: str) -> float | Trouble | None:
        """What one of the user's own queries gives: one number, or None where it gives nothing."""
        text = getattr(self._monitor, key)
        if text is None:
            return None
        samples = self._ask(text)
        if isinstance(samples, Trouble):
            return Trouble(f"monitor.{key}", samples.reason, samples.text)
        if len(samples) > 1:
            text = f"gives {len(samples)} series, must be one; put sum() around it"
            return Trouble(f"monitor.{key}", "impossible", text)
        value = samples[0].value if samples else None
        if value is None:
            return Trouble(f"monitor.{key}", "missing", "gives no number")
        if value < 0:
            return Trouble(f"monitor.{key}", "impossible", f"gives {value:g}, must be at least 0")
        return value

    def _ask(self, text: str) -> list[Sample] | Trouble:
        path = f"{PATH}?{urlencode({'query': text})}"
        patience_s = min(ANSWER_S, self._monitor.interval_s * 2 / 3)
        try:
            if len(path) > LONGEST_URL:
                answer = self._endpoint.post(PATH, {"query": text}, patience_s)
            else:
                answer = self._endpoint.get(path, patience_s)
        except EndpointError as error:
            return trouble_of(self._source, error)
        return samples_of(answer, self._source)

    def _trouble(self, reason: str, text: str) -> Trouble:
        return Trouble(self._source, reason, text)


def _unscraped(samples: Sequence[Sample]) -> list[Trouble]:
    """The fleet's targets whose last scrape failed, each a trouble of its own: the server is well."""
    names = [(one.labels.get("instance", ""), one.labels.get("pod", "")) for one in samples if _figure(one) == DOWN]
    return [
        Trouble(instance or pod or FLEET, "down", f"Prometheus cannot scrape {pod or 'it'}: up is 0")
        for instance, pod in sorted(names)
    ]


def _figure(sample: Sample) -> str:
    return sample.labels.get(FIGURE, "")
