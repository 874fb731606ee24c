"""The exporter's bench: 100 replicas that one process plays, read every second, and scraped meanwhile.

    python -m tools.bench_exporter [REPLICAS]

Prints how long a scrape of the exporter takes, how long a reading of all replicas, and what share of one core the
exporter spends. The replicas' metrics are as long as vLLM's; the comparison with the plan is left out: it simulates,
and takes what it takes on a thread of its own.

The slowest scrapes are those that meet a reading, whose threads hold the interpreter: with a text kept ready in place
of one written for each scrape the middle fell from 3.1 to 1.8 ms, and the 99th percentile stayed at some 30.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import requests
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from planner import vllm_metrics as names
from planner.exporter.collector import exposition
from planner.exporter.poller import Poller
from planner.exporter.snapshot import PlanFacts
from planner.live.fleet import fleet_reader
from planner.observed import Observed
from planner.scenario.monitor import Monitor
from planner.units import MS_PER_S

REPLICAS, SCRAPES, INTERVAL_S, SECONDS, RENDERED = 100, 200, 1.0, 20.0, 50
MODEL = "bench/model"


class Exported(NamedTuple):
    """What was seen of one run. `rendered_ms` is a scrape without the port, `cpu_share` the exporter's of one core."""

    replicas: int
    lines: int
    scrape_p50_ms: float
    scrape_p99_ms: float
    rendered_ms: float
    poll_p50_s: float
    poll_most_s: float
    cpu_share: float


class _Comparison:
    """Stands for a Drift as large as a real one."""

    def __init__(self, observed: Observed) -> None:
        rows = [{"name": name, "planned": 1.0, "actual": 1.0, "ratio": 1.0} for name in observed.latencies_ms]
        self.document = {"cost": {"usd_per_query": 0.001}, "quantities": rows}


def measure(replicas: int = REPLICAS) -> Exported:
    """Run it once."""
    with subprocess.Popen(
        [sys.executable, "-m", "tools.bench_exporter", "--play", str(replicas)], stdout=subprocess.PIPE, text=True
    ) as played:
        try:
            assert played.stdout is not None
            ports = [int(port) for port in played.stdout.readline().split()]
            return _measured([f"http://127.0.0.1:{port}" for port in ports])
        finally:
            played.kill()


def _measured(urls: list[str]) -> Exported:
    """The exporter in this process, as the command runs it, and one client on a thread beside it."""
    from planner.emulator import listen
    from planner.exporter.server import build_app, serve

    monitor = Monitor(endpoints=tuple(urls), interval_s=INTERVAL_S, window_s=10.0)
    facts = PlanFacts("bench", MODEL, "", "h100-sxm-80gb", "round_robin", "known", len(urls))
    poller = Poller(fleet_reader(monitor), _Comparison, facts, monitor, log=lambda line: print(line, file=sys.stderr))
    found: list[Exported] = []
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def client() -> None:
            try:
                found.append(_scraped(url, poller))
            finally:
                signal.raise_signal(signal.SIGTERM)

        poller.start()
        serve(build_app(poller.snapshot, time.time), listener, threading.Thread(target=client, daemon=True).start)
        poller.stop()
    if not found:
        sys.exit("bench: the exporter did not answer")
    return found[0]


def _scraped(url: str, poller: Poller) -> Exported:
    """Have a process of its own scrape for `SECONDS`, so that the client's work is not the exporter's."""
    while requests.get(f"{url}/-/ready", timeout=5).status_code != 200:
        time.sleep(0.1)
    begun_s, cpu_s, polls_s = time.monotonic(), _cpu_s(), []
    command = [sys.executable, "-m", "tools.bench_exporter", "--scrape", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        while client.poll() is None:
            polls_s.append(poller.snapshot().poll_s or 0.0)
            time.sleep(INTERVAL_S)
        assert client.stdout is not None
        lines, *took_ms = json.load(client.stdout)
    share = (_cpu_s() - cpu_s) / (time.monotonic() - begun_s)
    snapshot = poller.snapshot()
    if snapshot.answered != snapshot.asked:
        sys.exit(f"bench: {snapshot.answered} of {snapshot.asked} replicas answered: {snapshot.troubles[:1]}")
    begun_s = time.perf_counter()
    for _ in range(RENDERED):
        exposition(snapshot, time.time(), "")
    rendered_ms = (time.perf_counter() - begun_s) * MS_PER_S / RENDERED
    p50, p99 = (float(value) for value in np.percentile(took_ms, [50, 99]))
    return Exported(snapshot.asked, lines, p50, p99, rendered_ms, float(np.median(polls_s)), max(polls_s), share)


def scrape(url: str) -> None:
    """Scrape for `SECONDS` and print the lines of an exposition and the milliseconds of each scrape."""
    session, until_s, lines, took_ms = requests.Session(), time.monotonic() + SECONDS, 0, []
    while time.monotonic() < until_s:
        asked_s = time.perf_counter()
        lines = session.get(f"{url}/metrics", timeout=5).text.count("\n")
        took_ms.append((time.perf_counter() - asked_s) * MS_PER_S)
        time.sleep(SECONDS / SCRAPES)
    print(json.dumps([lines, *took_ms]))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the replicas ---


def play(count: int) -> None:
    """Answer GET anything on `count` ports with vLLM's metrics, whose counters grow; print the ports."""
    registry = CollectorRegistry()
    labels = (MODEL, "0")
    grow = []
    for name, text in names.GAUGES.items():
        Gauge(name, text, names.LABELS, registry=registry).labels(*labels).set(0.5)
    for name, text in names.COUNTERS.items():
        grow.append(Counter(name, text, names.LABELS, registry=registry).labels(*labels).inc)
    success = Counter(names.SUCCESS, names.SUCCESS_HELP, (*names.LABELS, "finished_reason"), registry=registry)
    grow += [success.labels(*labels, reason).inc for reason in names.REASONS]
    buckets = names.token_buckets(131_072)
    for name, (text, bounds) in names.HISTOGRAMS.items():
        histogram = Histogram(name, text, names.LABELS, registry=registry, buckets=bounds or buckets)
        grow.append(histogram.labels(*labels).observe)
    body = [b""]

    async def serve() -> None:
        servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(count)]
        print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
        while True:
            for one in grow:
                one(1.0)
            body[0] = generate_latest(registry)
            await asyncio.sleep(0.2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body[0]) + body[0])
        await writer.drain()
        writer.close()

    asyncio.run(serve())


def main() -> None:
    """Play the replicas, or measure and print."""
    if sys.argv[1:2] == ["--play"]:
        play(int(sys.argv[2]))
        return
    if sys.argv[1:2] == ["--scrape"]:
        scrape(sys.argv[2])
        return
    seen = measure(int(sys.argv[1]) if len(sys.argv) > 1 else REPLICAS)
    print(f"{seen.replicas} replicas, read every {INTERVAL_S:g} s, one exposition of {seen.lines} lines")
    print(f"scrape        p50 {seen.scrape_p50_ms:.1f} ms, p99 {seen.scrape_p99_ms:.1f} ms")
    print(f"              {seen.rendered_ms:.1f} ms of it to write the text")
    print(f"reading all   p50 {seen.poll_p50_s:.3f} s, most {seen.poll_most_s:.3f} s")
    print(f"CPU           {seen.cpu_share:.1%} of one core")


if __name__ == "__main__":
    main()
