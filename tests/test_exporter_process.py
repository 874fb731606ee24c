"""`planner export` as a process: what its port says, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from fleet_fakes import exposition
from live_server import Fake, closed_port, fake_server
from prometheus_client.parser import text_string_to_metric_families

import planner
from planner.cli.app import cli
from planner.cli.output import json_text

ROOT = Path(__file__).parents[1]
READY = re.compile(r"planner export: (http://127\.0\.0\.1:\d+)/metrics  (.*)")
START_S, STOP_S = 90.0, 20.0


@dataclass
class Exporter:
    url: str
    ready_line: str
    process: subprocess.Popen[str]

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, timeout=10, headers=headers)

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """The exit code, and what was said on standard error."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_S)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@contextmanager
def exporter(*arguments: str) -> Iterator[Exporter]:
    command = [sys.executable, "-m", "planner", "export", *arguments, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = READY.match(line)
        assert found is not None, f"{line!r} {process.poll()} {process.stderr.read() if not line else ''}"
        yield Exporter(found[1], found[2], process)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plan of the demo: five small replicas."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    made = planner.plan(planner.Scenario.load(ROOT / "examples" / "demo.yaml"), requests=1000, worlds=10)
    path.write_text(json_text(made.as_dict()))
    return str(path)


@pytest.fixture
def replica() -> Iterator[Fake]:
    """Half a request per second since it was started."""
    begun_s = time.monotonic()
    with fake_server() as server:
        server.answers["/metrics"] = lambda: (200, {}, exposition(0.5 * (time.monotonic() - begun_s)))
        yield server


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.1)


def test_a_fleet_is_watched_from_its_first_reading_to_ctrl_c(plan: str, replica: Fake):
    options = ("--model-name", "org/m", "--interval", "1", "--window", "60", "--limit", "15%")
    with exporter(plan, "--endpoint", replica.url, *options) as running:
        assert running.ready_line == "Demo, a support bot, 5 x l4-24gb planned, 1 endpoint read every 1 s"
        assert running.get("/-/healthy").status_code == 200
        until(lambda: running.get("/-/ready").status_code == 200)
        scrape = running.get("/metrics")
        told = {
            sample.name: sample
            for family in text_string_to_metric_families(scrape.text)
            for sample in family.samples
            if sample.labels.get("cost_basis", "allocation") == "allocation"
        }
        qps, bill = told["llm_queries_per_second"].value, told["llm_total_hourly_cost"].value
        assert qps == pytest.approx(0.5, rel=0.3)
        assert told["llm_cost_per_query"].value == pytest.approx(bill / qps / 3600, rel=1e-6)
        assert told["llm_drift_limit_fraction"].value == 0.15
        assert told["llm_cost_per_query"].labels["model_name"] == "org/m"

        document = running.get("/api/snapshot")
        assert (document.status_code, document.headers["content-type"]) == (200, "application/json")
        answer: dict[str, Any] = json.loads(document.text)
        assert (answer["schema_version"], answer["capacity"]["replicas"]["planned"]) == (1, 5)
        assert int(document.headers["age"]) < 60

        page = running.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "Demo, a support bot" in page.text
        for seen in (scrape, document, page, running.get("/nothing")):
            assert seen.headers["cache-control"] == "no-store"
            assert seen.headers["x-content-type-options"] == "nosniff"
            assert seen.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert running.get("/nothing").status_code == 404
        assert requests.post(f"{running.url}/metrics", timeout=10).status_code == 405
        openmetrics = running.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert openmetrics.text.endswith("# EOF\n")
        code, said = running.stop(signal.SIGINT)
        assert (code, said.split()) == (130, ["interrupted"])


def test_nobody_there_is_said_and_not_ready_and_sigterm_ends_it(plan: str):
    port = closed_port()
    with exporter(plan, "--endpoint", f"http://127.0.0.1:{port}", "--interval", "1", "--window", "10") as running:
        until(lambda: "llm_exporter_poll_seconds" in running.get("/metrics").text)
        text = running.get("/metrics").text
        assert f'source="127.0.0.1:{port}"}} 0.0' in text
        assert "llm_cost_per_query{" not in text
        ready = running.get("/-/ready")
        assert (ready.status_code, ready.text) == (503, "no reading so far has told what the fleet does\n")
        answer = running.get("/api/snapshot")
        assert (answer.status_code, answer.json()["troubles"][0]["reason"]) == (503, "down")
        assert running.get("/").status_code == 200
        code, said = running.stop(signal.SIGTERM)
    assert (code, said.splitlines()) == (
        0,
        [f"planner: 127.0.0.1:{port}: down: connection refused; is the server running, and on this port?"],
    )


def test_what_is_refused(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one, both = ("--endpoint", "http://h:1"), ("--endpoint", "http://h:1", "--prometheus", "http://h:2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, words in (
            ((plan, *one, "--port", port), f"port (={port}): cannot listen on 127.0.0.1: Address already in use"),
            ((plan, *one, "--host", "no-such-host.invalid"), "host (=no-such-host.invalid): cannot be found"),
            ((plan,), "monitor: is required: say where the fleet tells what it does, or give --prometheus URL"),
            ((plan, *both), "give only one of --prometheus, --endpoint"),
            ((plan, "--endpoint", "h"), "monitor.endpoints[0]: must be http://HOST:PORT"),
            ((plan, "--prometheus", "http://h/?q"), "monitor.prometheus_url: must hold no ? and no #"),
            ((plan, *one, "--interval", "0.1"), "monitor.interval_s (=0.1)"),
            ((plan, *one, "--window", "20"), "window_s (=20.0): must be at least twice interval_s (=15)"),
            ((plan, *one, "--limit", "0"), "0 must be above 0"),
            ((plan, *one, "--set", "peak_qps=3"), "is a finished plan"),
            ((str(tmp_path / "none.json"), *one), "no such file"),
        ):
            free = () if "--port" in arguments else ("--port", "0")
            with pytest.raises(SystemExit) as ended:
                cli.main(["export", *arguments, *free])
            said = capsys.readouterr()
            assert (ended.value.code, said.out, words in said.err) == (2, "", True), said.err
            assert len(said.err.splitlines()) == 1


def test_an_open_door_is_warned_of(plan: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["export", plan, "--host", "0.0.0.0", "--port", "0"])
    assert "planner: warning: listening on 0.0.0.0: whoever reaches it" in capsys.readouterr().err
