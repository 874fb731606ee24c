"""A real Prometheus, an emulated fleet under a known load, the exporter between them: what they say is what was sent.

The load has constant arrivals and fixed token counts, so that every figure follows from the scenario by hand. Needs
Debian's package prometheus; skipped where it is missing, unless TEST_PROMETHEUS is set.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from dashboards import build
from planner.metrics.alerts import alert_groups
from tools.monitor import stack
from tools.monitor.prometheus import ask, value, write_config

ROOT = Path(__file__).parents[1]
REQUIRED = "TEST_PROMETHEUS"
PLANNED_QPS, SENT_QPS = 8.0, 6.4
PROMPT, SHARED, PLANNED_ANSWER, SENT_ANSWER = 320, 64, 40, 48
REVENUE_USD = 0.004
INTERVAL_S, WINDOW_S, SETTLE_S = 1.0, 20.0, 45.0
SETTINGS = (
    "traffic.arrivals=constant",
    "fleet.spare_replicas=1",
    f"query.stages[0].prompt_tokens={PROMPT}",
    f"query.stages[0].shared_prefix={{tokens: {SHARED}}}",
    "engine.quantization=fp8",
)
SLO = [("p95_ttft_ms", 800.0), ("p95_tpot_ms", 60.0)]
# Queries that a minute of this fleet cannot answer, by what is in them, and why.
NOT_YET = {
    "offset 1d": "nothing was measured yesterday",
    "offset 1w": "nothing was measured a week ago",
    "[1d": "a day has not passed",
    "[24h": "a day has not passed",
    "llm_calibration_age_seconds": "the plan is not calibrated",
    "ALERTS": "no alert has fired",
    "llm_exporter_troubles_total": "no reading has failed",
    'cache="response"': "there is no response cache",
    "p99_": "the scenario limits p95",
    "mean_": "the scenario limits p95",
    "e2e_ms": "the scenario does not limit it",
    "itl_ms": "the scenario does not limit it",
}


class Watched(NamedTuple):
    """A running stack: addresses, the plan, and what stops and starts Prometheus."""

    fleet: str
    prometheus: str
    exporter: str
    plan: dict
    stop_prometheus: Callable[[], None]
    start_prometheus: Callable[[], None]


def planner(*words: str) -> None:
    subprocess.run([*stack.PLANNER, *words], check=True, stdout=subprocess.DEVNULL, timeout=120)


def settings(qps: float, answer: int) -> list[str]:
    changed = (*SETTINGS, f"traffic.peak_qps={qps}", f"query.stages[0].output_tokens={answer}")
    return [f"--set={one}" for one in changed]


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Watched]:
    if shutil.which("prometheus") is None:
        missing = "no Prometheus: apt-get install prometheus"
        assert not os.environ.get(REQUIRED), missing
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("monitor")
    plan, port = folder / "plan.json", stack.free_port()
    planner("plan", "demo", "--requests", "2000", "--out", str(plan), *settings(PLANNED_QPS, PLANNED_ANSWER))
    document = json.loads(plan.read_text())
    replicas = str(document["fleet"]["replicas"])
    rules = folder / "alerts.yml"
    rules.write_text(yaml.safe_dump({"groups": alert_groups(SLO)}), encoding="utf-8")
    with ExitStack() as running:
        emulated = ["emulate", "demo", "--port", "0", "--replicas", replicas]
        fleet = running.enter_context(
            stack.verb([*emulated, *settings(PLANNED_QPS, PLANNED_ANSWER)], folder / "fleet.log")
        )
        url = f"http://127.0.0.1:{port}"
        words = ["export", str(plan), "--prometheus", url, "--port", "0"]
        words += ["--interval", f"{INTERVAL_S:g}", "--window", f"{WINDOW_S:g}"]
        exporter = running.enter_context(stack.verb(words, folder / "exporter.log"))
        config = folder / "prometheus.yml"
        jobs = {"vllm": [fleet.removeprefix("http://")], "planner": [exporter.removeprefix("http://")]}
        write_config(config, jobs, INTERVAL_S, [rules])
        server = running.enter_context(ExitStack())

        def start() -> None:
            server.enter_context(stack.prometheus(config, folder / "data", port, folder / "prometheus.log"))

        start()
        load = ["loadtest", "demo", "--host", fleet, "--warmup", "0", "--duration", "600"]
        load += ["--out", str(folder / "load.jsonl"), *settings(SENT_QPS, SENT_ANSWER)]
        running.enter_context(stack.process([*stack.PLANNER, *load], folder / "load.log"))
        until(lambda: value(url, "llm_queries_per_second"), 90.0)
        time.sleep(SETTLE_S)
        yield Watched(fleet, url, exporter, document, server.close, start)


def until(told: Callable[[], object], seconds: float) -> object:
    """What `told` says once it says anything but None, False or nothing."""
    deadline = time.monotonic() + seconds
    while not (answer := told()):
        assert time.monotonic() < deadline, f"nothing within {seconds:g} s"
        time.sleep(0.5)
    return answer


def of(watched: Watched, expression: str) -> float:
    found = value(watched.prometheus, expression)
    assert found is not None, expression
    return found


def part(watched: Watched, cause: str) -> float:
    return of(watched, f'llm_drift_usd_per_query{{cause="{cause}"}}')


def test_load_and_replicas_are_those_that_were_sent_and_started(watched):
    assert SENT_QPS == pytest.approx(of(watched, "llm_queries_per_second"), rel=0.05)
    assert watched.plan["fleet"]["replicas"] == of(watched, 'llm_replicas{state="running"}')
    assert watched.plan["fleet"]["replicas"] == of(watched, 'llm_replicas{state="planned"}')


def test_cost_revenue_and_margin_of_a_query_follow_from_the_bill_and_the_load(watched):
    bill = watched.plan["cost"]["usd_per_hour"]
    assert bill == pytest.approx(of(watched, "llm_total_hourly_cost"))
    cost = of(watched, 'llm_cost_per_query{cost_basis="allocation"}')
    assert bill / 3600 / SENT_QPS == pytest.approx(cost, rel=0.05)
    assert REVENUE_USD == pytest.approx(of(watched, "llm_revenue_per_query"))
    assert 1000 * REVENUE_USD == pytest.approx(of(watched, "llm_query_rpm"))
    margin = 'llm_revenue_per_query - on (model_name) llm_margin_per_query{cost_basis="allocation"}'
    assert cost == pytest.approx(of(watched, margin), rel=0.05)
    tokens = bill / 3600 / SENT_QPS / (PROMPT + SENT_ANSWER) * 1e6
    assert tokens == pytest.approx(of(watched, 'llm_cost_per_million_tokens{cost_basis="allocation"}'), rel=0.05)


def test_the_hit_rate_is_the_shared_part_of_a_prompt(watched):
    found = of(watched, 'llm_actual_quantity{quantity="prefix_cache_hit_rate"}')
    assert SHARED / PROMPT == pytest.approx(found, abs=0.01)


def test_drift_is_told_by_its_causes_and_they_add_up(watched):
    planned = of(watched, "llm_planned_cost_per_query")
    bill = watched.plan["cost"]["usd_per_hour"]
    assert bill / 3600 / PLANNED_QPS == pytest.approx(planned)
    total = of(watched, 'llm_cost_per_query{cost_basis="allocation"}') - planned
    assert total == pytest.approx(of(watched, "sum(llm_drift_usd_per_query)"), rel=0.1)
    assert total == pytest.approx(part(watched, "traffic"), rel=0.2)  # fewer share the same bill
    assert part(watched, "token_lengths") > 0.05 * planned  # longer answers are more work
    assert part(watched, "utilisation") < 0  # which the same fleet does
    quantities = {
        name: of(watched, f'llm_actual_to_plan_ratio{{quantity="{name}"}}')
        for name in ("output_tokens", "prompt_tokens")
    }
    assert {"output_tokens": SENT_ANSWER / PLANNED_ANSWER, "prompt_tokens": 1.0} == pytest.approx(quantities, rel=0.01)
    assert abs(part(watched, "step_speed")) < 0.15 * planned  # the emulator takes the simulator's own step times
    assert abs(part(watched, "prefix_hit_rate")) < 0.05 * planned


def test_every_query_of_every_panel_and_alert_is_answered_or_known_not_to_be_yet(watched):
    model = ask(watched.prometheus, "llm_plan_info")[0][0]["model_name"]
    namespace = {"$namespace": "", "$model": model, "$__rate_interval": "15s"}
    empty = []
    for board, panel, expr in build.queries(namespace):
        if not ask(watched.prometheus, expr) and not any(word in expr for word in NOT_YET):
            empty.append(f"{board} · {panel}: {expr}")
    assert [] == empty
    for group in alert_groups(SLO):
        for rule in group["rules"]:
            ask(watched.prometheus, rule["expr"])  # raises on what Prometheus refuses
    states = rule_states(watched.prometheus)
    assert {rule["alert"] for group in alert_groups(SLO) for rule in group["rules"] if "alert" in rule} == set(states)
    assert {"ok"} == {health for _, health in states.values()}


def rule_states(prometheus: str) -> dict[str, tuple[str, str]]:
    """State and health of every alert that the server has loaded."""
    with urllib.request.urlopen(f"{prometheus}/api/v1/rules?type=alert", timeout=10) as response:
        groups = json.load(response)["data"]["groups"]
    return {rule["name"]: (rule["state"], rule["health"]) for group in groups for rule in group["rules"]}


def scraped(exporter: str) -> str:
    with urllib.request.urlopen(f"{exporter}/metrics", timeout=5) as response:
        return response.read().decode()


def test_without_prometheus_figures_go_and_the_exporter_stays_and_they_come_back(watched):
    """Last of this file: it stops what the others ask."""
    watched.stop_prometheus()
    gone = until(lambda: "llm_cost_per_query{" not in (text := scraped(watched.exporter)) and text, 3 * WINDOW_S)
    assert "llm_exporter_source_up{" in gone
    assert "llm_exporter_snapshot_age_seconds" in gone
    assert "llm_drift_usd_per_query{" not in gone
    assert "llm_replicas{" not in "".join(line for line in gone.splitlines() if 'state="running"' in line)
    watched.start_prometheus()
    until(lambda: "llm_cost_per_query{" in scraped(watched.exporter), 90.0)


@contextmanager
def garbage(port: int) -> Iterator[None]:
    """A web server that answers everything with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><body>it works</body></html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def test_a_replica_that_turns_into_a_web_page_is_told_and_counts_no_longer(tmp_path):
    """Two replicas are read directly; one of them ends and something else listens in its place."""
    plan = tmp_path / "plan.json"
    planner("plan", "demo", "--requests", "2000", "--out", str(plan), *settings(PLANNED_QPS, PLANNED_ANSWER))
    with ExitStack() as running:
        port = stack.free_port()
        other = running.enter_context(stack.verb(["emulate", "demo", "--port", "0"], tmp_path / "other.log"))
        with stack.verb(["emulate", "demo", "--port", str(port)], tmp_path / "one.log") as one:
            words = ["export", str(plan), "--endpoint", one, "--endpoint", other, "--port", "0"]
            words += ["--interval", "1", "--window", "10"]
            exporter = running.enter_context(stack.verb(words, tmp_path / "exporter.log"))
            until(lambda: 'state="running"} 2.0' in scraped(exporter), 30.0)
        with garbage(port):
            text = until(lambda: 'state="running"} 1.0' in (text := scraped(exporter)) and text, 30.0)
            assert 'reason="garbage"' in text
            assert f'llm_exporter_source_up{{source="127.0.0.1:{port}"}} 0.0' in without_fleet(text)
        assert "Traceback" not in (tmp_path / "exporter.log").read_text()


def test_a_taken_port_is_said_before_anything_is_started():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "tools.monitor", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    said = f"monitor: FAILED, port {port} is taken, by another make monitor? "
    assert (1, "", True) == (done.returncode, done.stdout, done.stderr.startswith(said))


def test_an_interrupted_run_leaves_no_process_and_no_traceback():
    command = [sys.executable, "-m", "tools.monitor", "--port", "0"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    assert "planning …\n" == child.stdout.readline()
    time.sleep(1.0)  # the plan is under way
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert (130, "\nmonitor: stopped\n") == (child.returncode, said)
    assert not (ROOT / "build" / "monitor" / str(child.pid)).exists()


def without_fleet(text: str) -> str:
    """A scrape with the labels of the fleet taken off."""
    lines = []
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, after = rest.partition("}")
        kept = [one for one in labels.split(",") if not one.startswith(("model_name=", "namespace="))]
        lines.append(f"{name}{{{','.join(kept)}}}{after}" if brace else line)
    return "\n".join(lines)
