"""All replicas asked at once for their own /metrics, again and again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

from planner.errors import InputError
from planner.live.endpoint import Endpoint, connect
from planner.live.fleet.clock import Clock
from planner.live.fleet.past import Past, Span
from planner.live.fleet.reading import (
    MORE_HITS,
    Reading,
    checked,
    more_hits_than_queries,
    read_replica,
    two_models,
)
from planner.live.fleet.sums import PERCENTILES, figures
from planner.live.metrics import Scrape
from planner.observed import FLEET, Observed, Trouble, believable
from planner.scenario.monitor import Monitor

MOST_AT_ONCE = 16  # more threads read no faster, and scrapes of the exporter itself would wait for them
SCRAPE_S = 5.0  # or less: two thirds of the interval
KEY = "monitor.endpoints"
SEVERAL = "its counters fell at {} of {} readings; is it a balancer? Give each replica's own address"


class Endpoints:
    """Replicas by address, with their pasts. `read` is for one thread alone.

    Replicas that answered last are asked first, so that silent ones, of which each holds up a place for seconds, do
    not keep them waiting. One whose answer is still awaited from the time before is not asked again.
    """

    def __init__(
        self,
        monitor: Monitor,
        clock: Clock,
        percentiles: Sequence[float] = PERCENTILES,
        engines_each: int = 1,
        environment: Callable[[str], str | None] = os.environ.get,
    ) -> None:
        self._monitor, self._clock, self._percentiles = monitor, clock, percentiles
        self._engines_each = engines_each
        self._replicas = _connected(monitor.endpoints, environment)
        self._pasts = {source: Past(monitor.window_s, monitor.interval_s / 2) for source in self._replicas}
        self._awaited: dict[str, Future[tuple[Scrape | Trouble, float]]] = {}
        self._order = list(self._replicas)
        self._pool = ThreadPoolExecutor(min(len(self._replicas), MOST_AT_ONCE), "scrape")
        self.model_name: str | None = monitor.model_name
        self.namespace: str | None = monitor.namespace

    @property
    def sources(self) -> tuple[str, ...]:
        """host:port of every replica, in the order given."""
        return tuple(self._replicas)

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read(self) -> Observed:
        """Ask everybody; rates are over the window that ends now, or since the first reading where that is later."""
        readings, troubles = self._readings()
        models = sorted(frozenset[str]().union(*(reading.models for reading in readings.values())))
        if len(models) > 1:
            return self._observed({}, 0.0, [*troubles, two_models(models)])
        found = models[0] if models else None
        self.model_name = found or self.model_name
        spans: dict[str, Span] = {}
        for source, reading in list(readings.items()):
            restarted, span = self._pasts[source].add(reading), self._pasts[source].span()
            if span is not None and span.several:
                del readings[source]
                troubles.append(Trouble(source, "impossible", SEVERAL.format(span.restarts, span.readings)))
                continue
            if restarted:
                troubles.append(Trouble(source, "restarted", "its counters began anew; counted from there on"))
            if span is not None and more_hits_than_queries(span.increases):
                del readings[source]
                troubles.append(Trouble(source, "impossible", MORE_HITS))
                continue
            if span is not None:
                spans[source] = span
        told = figures(list(readings.values()), list(spans.values()), self._percentiles, self._engines_each)
        told["model_name"] = found
        return self._observed(told, max((span.seconds for span in spans.values()), default=0.0), troubles)

    def _observed(self, told: dict[str, Any], window_s: float, troubles: Sequence[Trouble]) -> Observed:
        asked = len(self._replicas)
        seen = Observed(self._clock.unix_s(), window_s, asked=asked, troubles=tuple(troubles), **told)
        return believable(seen, FLEET)

    def _readings(self) -> tuple[dict[str, Reading], list[Trouble]]:
        """By source, of those that answered in time."""
        patience_s = min(SCRAPE_S, self._monitor.interval_s * 2 / 3)
        late = [source for source in self._order if source in self._awaited]
        asked = {source: self._ask(source, patience_s) for source in self._order if source not in self._awaited}
        self._awaited |= asked
        wait(self._awaited.values(), max(patience_s + 0.1, self._monitor.interval_s * 0.9))
        readings: dict[str, Reading] = {}
        found: dict[str, Trouble] = {}
        for source in self._order:
            future = self._awaited[source]
            if future.cancel() or not future.done():
                found[source] = Trouble(source, "slow", "no answer in time; is the server overloaded?")
                if future.cancelled():
                    del self._awaited[source]
                continue
            answer, at_s = future.result()
            del self._awaited[source]
            if source in late:  # it answers the question of the time before
                found[source] = Trouble(source, "slow", "it answered a whole interval late")
                continue
            judged = answer if isinstance(answer, Trouble) else checked(answer, source, self._monitor.model_name, at_s)
            if isinstance(judged, Trouble):
                found[source] = judged
            else:
                readings[source] = judged
        self._order.sort(key=lambda source: source in found)
        return {source: readings[source] for source in self._replicas if source in readings}, [
            found[source] for source in self._replicas if source in found
        ]

    def _ask(self, source: str, patience_s: float) -> Future[tuple[Scrape | Trouble, float]]:
        endpoint = self._replicas[source]

        def scraped() -> tuple[Scrape | Trouble, float]:
            at_s = self._clock.steady_s()
            try:
                return read_replica(endpoint, source, self._monitor.model_name, patience_s), at_s
            except Exception as error:  # one replica's nonsense must not cost the figures of all others
                return Trouble(source, "garbage", f"cannot be read ({type(error).__name__})"), at_s

        return self._pool.submit(scraped)


def _connected(urls: Sequence[str], environment: Callable[[str], str | None]) -> dict[str, Endpoint]:
    """Endpoints by host:port. Raises InputError for what is no address, and for one that stands there twice: it would
    count twice.
    """
    if not urls:
        raise InputError(KEY, None, "names nobody", "http://127.0.0.1:8000")
    found: dict[str, Endpoint] = {}
    for index, url in enumerate(urls):
        key = f"{KEY}[{index}]"
        endpoint = connect(url.strip().rstrip("/").removesuffix("/metrics"), option=key, environment=environment)
        endpoint.session.headers["Connection"] = "close"  # vLLM drops idle connections within 5 s: a race otherwise
        source = source_name(endpoint)
        if source in found:
            raise InputError(key, url, "stands there twice: its requests would count twice")
        found[source] = endpoint
    return found


def source_name(endpoint: Endpoint) -> str:
    """host:port/root, as the label of a source."""
    parts = urlsplit(endpoint.url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{port}{parts.path}"
