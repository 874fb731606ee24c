"""What is seen of a load test while it runs: how far its records are, and the server's gauges."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner.cli.output import Progress
from planner.errors import EndpointError, PlannerError
from planner.live import Endpoint, Scrape, scrape
from planner.records import RunHeader, decode_line
from planner.vllm_metrics import RUNNING, WAITING

SAMPLE_S = 1.0


def waiting(progress: Progress | None, url: str, most_s: float) -> Callable[[float], None] | None:
    """Tells how long the server has been waited for."""
    if progress is None:
        return None
    return lambda waited_s: progress(f"waiting for {url}", round(waited_s), round(most_s))


class Rows:
    """How many requests the growing file of records tells of; only what is new is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.ended, self.failed, self.total = path, 0, 0, 0, 0

    def read(self) -> None:
        """Take in what was appended since."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except OSError:
            return
        new = new[: new.rfind(b"\n") + 1]
        if self.offset == 0 and new:
            self._header(new)
        self.offset += len(new)
        self.ended += new.count(b'"record":"request"')
        self.failed += new.count(b'"error":"')

    def words(self, latest: Scrape | None) -> str:
        """What the bar says."""
        parts = ["load test" if self.total else "starting the load tester"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if latest is not None:
            for name, word in ((RUNNING, "running"), (WAITING, "waiting")):
                if name in latest.totals:
                    parts.append(f"{latest.totals[name]:.0f} {word}")
        return ", ".join(parts)

    def _header(self, new: bytes) -> None:
        with contextlib.suppress(PlannerError):
            header = decode_line(new.split(b"\n", 1)[0], 1)
            if isinstance(header, RunHeader):
                self.total = header.queries * header.width


class Watch:
    """The server's gauges, read every second from a thread of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.latest: Scrape | None = None
        self.seen: list[Scrape] = []
        self.stop = threading.Event()

    @contextmanager
    def running(self, has_metrics: bool) -> Iterator[None]:
        """Sample while the block runs; a server without metrics is left alone."""
        thread = threading.Thread(target=self._sample, daemon=True) if has_metrics else None
        if thread:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            if thread:
                thread.join(SAMPLE_S * 5)

    def _sample(self) -> None:
        while not self.stop.wait(SAMPLE_S):
            with contextlib.suppress(EndpointError):
                self.latest = scrape(self.endpoint, SAMPLE_S)
                self.seen.append(self.latest)

    def figures(self) -> dict[str, Any]:
        """Mean and maximum of what was seen; what was never seen is left out."""
        found: dict[str, Any] = {}
        for key, values in (
            ("running", [one.totals[RUNNING] for one in self.seen if RUNNING in one.totals]),
            ("waiting", [one.totals[WAITING] for one in self.seen if WAITING in one.totals]),
            ("kv_cache_usage", [max(one.kv_usage) for one in self.seen if one.kv_usage]),
        ):
            if values:
                found[key] = {"mean": sum(values) / len(values), "max": max(values)}
        return found
