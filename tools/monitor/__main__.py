"""An emulated fleet under load, watched: exporter, Prometheus and the live page, on this machine alone.

    make monitor

The fleet is planned first; then users ask a little less than planned and answers are longer than planned, so that the
page has something to say. `--as-planned` sends the plan's own load. Runs until Ctrl-C, or for `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tools.monitor import stack
from tools.monitor.prometheus import value, write_config

ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "examples" / "demo.yaml"
OUT = ROOT / "build" / "monitor"
PEAK_QPS, FEWER, LONGER = 10.0, 0.85, 1.25
OUTPUT_TOKENS = 40  # mean of the example's answers
SCRAPE_S, WINDOW_S = 2.0, 30.0
FILLED_S = 55.0  # the load begins some seconds late, then a window and two readings
LOAD_S = 6 * 3600
PICTURE_HEIGHT = 1230  # the answer, the tiles and what moved the cost
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Start everything, say where to look, wait, stop everything."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    folder = OUT / str(os.getpid())  # of this run alone: another one beside it keeps its data
    try:
        _check_free(arguments.port)
        folder.mkdir(parents=True)
        _run(arguments, folder)
    except (stack.NotStartedError, subprocess.CalledProcessError) as error:
        logs = f"; logs: {folder.relative_to(ROOT)}" if folder.exists() else ""
        print(f"monitor: FAILED, {error}{logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmonitor: stopped", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    print("monitor: stopped", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _check_free(port: int) -> None:
    """Raise NotStartedError where somebody listens already, before anything is started."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            rule = "is taken, by another make monitor? Use make monitor PORT=9596, or PORT=0 for a free one"
            raise stack.NotStartedError(f"port {port} {rule}") from None


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    """Plan, start, watch; whatever ends it, what was started is stopped."""
    plan, port = folder / "plan.json", arguments.prometheus_port or stack.free_port()
    settings = [f"--set=traffic.peak_qps={PEAK_QPS:g}", "--set=fleet.spare_replicas=1"]
    print("planning …", flush=True)
    planning = [*stack.PLANNER, "plan", str(SCENARIO), "--out", str(plan), *settings]
    subprocess.run(planning, check=True, stdout=subprocess.DEVNULL, start_new_session=True)
    replicas = json.loads(plan.read_text())["fleet"]["replicas"]
    with ExitStack() as running:
        emulated = ["emulate", str(SCENARIO), "--port", "0", "--replicas", str(replicas)]
        fleet = running.enter_context(stack.verb(emulated, folder / "fleet.log"))
        prometheus = f"http://127.0.0.1:{port}"
        words = ["export", str(plan), "--prometheus", prometheus, "--port", str(arguments.port)]
        words += ["--interval", f"{SCRAPE_S:g}", "--window", f"{WINDOW_S:g}"]
        exporter = running.enter_context(stack.verb(words, folder / "exporter.log"))
        jobs = {"vllm": [_place(fleet)], "planner": [_place(exporter)]}
        config = folder / "prometheus.yml"
        write_config(config, jobs, SCRAPE_S)
        running.enter_context(stack.prometheus(config, folder / "data", port, folder / "prometheus.log"))
        running.enter_context(stack.process(_load(fleet, folder, arguments.as_planned), folder / "load.log"))
        print(f"fleet       {fleet}  ({replicas} emulated replicas)\nPrometheus  {prometheus}")
        print(f"live page   {exporter}/   metrics {exporter}/metrics\nCtrl-C stops everything.", flush=True)
        _watch(prometheus, arguments.seconds)
        if arguments.screenshot:
            _screenshot(exporter, arguments.screenshot, arguments.width)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make monitor", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, help="stop after so long (default: at Ctrl-C)")
    parser.add_argument("--as-planned", action="store_true", help="send the load that was planned for")
    parser.add_argument("--port", type=int, default=9595, help="of the live page (default: 9595; 0 takes a free one)")
    parser.add_argument("--prometheus-port", type=int, default=0, help="default: a free one")
    parser.add_argument("--screenshot", type=Path, help="write a picture of the live page at the end (needs Chromium)")
    parser.add_argument("--width", type=int, default=1280, help="of that picture, in pixels")
    return parser.parse_args()


def _load(fleet: str, folder: Path, as_planned: bool) -> list[str]:
    qps, tokens = (PEAK_QPS, OUTPUT_TOKENS) if as_planned else (FEWER * PEAK_QPS, LONGER * OUTPUT_TOKENS)
    words = [*stack.PLANNER, "loadtest", str(SCENARIO), "--host", fleet, "--warmup", "0", "--duration", str(LOAD_S)]
    words += ["--out", str(folder / "load.jsonl"), f"--set=traffic.peak_qps={qps:g}"]
    return [*words, f"--set=query.stages[0].output_tokens={{lognormal: {{mean: {tokens:g}, cv: 0.6}}}}"]


def _place(url: str) -> str:
    return url.split("://", 1)[1]


def _watch(prometheus: str, seconds: float | None) -> None:
    """A line every few seconds, until the time is over."""
    begun = time.monotonic()
    while seconds is None or time.monotonic() - begun < seconds:
        time.sleep(min(10.0, max(seconds - (time.monotonic() - begun), 0.1)) if seconds is not None else 10.0)
        cost = value(prometheus, 'llm_cost_per_query{cost_basis="allocation"}')
        planned = value(prometheus, "llm_planned_cost_per_query")
        qps = value(prometheus, "llm_queries_per_second")
        known = cost is not None and planned is not None and qps is not None
        told = f"{qps:.1f} queries/s, ${cost:.6f} a query, planned ${planned:.6f}" if known else "not known yet"
        filling = "  (the window fills: too few queries yet)" if time.monotonic() - begun < FILLED_S else ""
        print(f"{time.monotonic() - begun:5.0f} s  {told}{filling}", flush=True)


def _screenshot(exporter: str, file: Path, width: int) -> None:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise stack.NotStartedError("chromium is not installed: apt-get install chromium")
    command = [program, "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={file.absolute()}"]
    subprocess.run(
        [*command, f"--window-size={width},{PICTURE_HEIGHT}", f"{exporter}/"],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"wrote {file}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
