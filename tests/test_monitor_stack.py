"""A real Prometheus, an emulated fleet under a known load, the exporter between them: what they say is what was sent.

Beside the fleet runs another one, of another model and under another load, scraped by the same Prometheus. The load has
constant arrivals and fixed token counts, so that every figure follows from the scenario by hand. Needs Debian's package
prometheus; skipped where it is missing, unless TEST_PROMETHEUS is set.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
import yaml

from dashboards import build
from planner.metrics.alerts import alert_groups
from planner.metrics.burn_rates import SLOWER
from planner.vllm_metrics import SUCCESS_TOTAL
from tests.monitor_reading import figures, scraped, until, without_fleet
from tools.monitor import stack
from tools.monitor.prometheus import ask, value, write_config

REQUIRED = "TEST_PROMETHEUS"
PLANNED_QPS, SENT_QPS = 8.0, 6.4
PROMPT, SHARED, PLANNED_ANSWER, SENT_ANSWER = 320, 64, 40, 48
MODEL, OTHER = "first/model", "second/model"
OTHER_QPS, OTHER_ANSWER, OTHER_REPLICAS = 2.0, 20, 1
REVENUE_USD = 0.004
INTERVAL_S, WINDOW_S, SETTLE_S = 1.0, 16.0, 24.0
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
    """A running stack: addresses, the plan, and what stops Prometheus and starts one that knows nothing."""

    prometheus: str
    exporter: str
    other: str  # the other model's exporter
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
    replicas = document["fleet"]["replicas"]
    rules = folder / "alerts.yml"
    rules.write_text(yaml.safe_dump({"groups": alert_groups(SLO)}), encoding="utf-8")
    with ExitStack() as running:
        url, config = f"http://127.0.0.1:{port}", folder / "prometheus.yml"

        def emulated(model: str, count: int) -> str:
            words = ["emulate", "demo", "--port", "0", "--replicas", str(count), "--served-model-name", model]
            log = folder / f"fleet-{count}.log"
            return running.enter_context(stack.verb([*words, *settings(PLANNED_QPS, PLANNED_ANSWER)], log))

        def exported(model: str) -> str:
            words = ["export", str(plan), "--prometheus", url, "--model-name", model, "--port", "0"]
            words += ["--interval", f"{INTERVAL_S:g}", "--window", f"{WINDOW_S:g}"]
            return running.enter_context(stack.verb(words, folder / f"exporter-{model[:5]}.log"))

        def loaded(fleet: str, name: str, qps: float, answer: int) -> None:
            words = ["loadtest", "demo", "--host", fleet, "--warmup", "0", "--duration", "600"]
            words += ["--out", str(folder / f"{name}.jsonl"), *settings(qps, answer)]
            running.enter_context(stack.process([*stack.PLANNER, *words], folder / f"{name}.log"))

        fleets = [emulated(MODEL, replicas), emulated(OTHER, OTHER_REPLICAS)]
        exporter = exported(MODEL)
        jobs = {"vllm": [place(one) for one in fleets], "planner": [place(exporter)]}
        write_config(config, jobs, INTERVAL_S, [rules])
        server = running.enter_context(ExitStack())

        def start() -> None:
            shutil.rmtree(folder / "data", ignore_errors=True)
            server.enter_context(stack.prometheus(config, folder / "data", port, folder / "prometheus.log"))

        start()
        loaded(fleets[0], "load", SENT_QPS, SENT_ANSWER)
        loaded(fleets[1], "other", OTHER_QPS, OTHER_ANSWER)
        until(lambda: value(url, "llm_queries_per_second"), 90.0)
        settled_s = time.monotonic() + SETTLE_S
        other = exported(OTHER)  # meanwhile
        until(lambda: "llm_headroom_fraction" in figures(other), 90.0)
        time.sleep(max(settled_s - time.monotonic(), 0.0))
        yield Watched(url, exporter, other, document, server.close, start)


def place(url: str) -> str:
    return url.removeprefix("http://")


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


def test_a_model_beside_another_in_one_prometheus_has_its_own_figures(watched):
    assert {MODEL, OTHER} == {
        labels["model_name"] for labels, _ in ask(watched.prometheus, "vllm:num_requests_running")
    }
    found = figures(watched.other)
    assert OTHER_QPS == pytest.approx(found["llm_queries_per_second"], rel=0.1)
    assert OTHER_REPLICAS == found['llm_replicas{state="running"}'] < of(watched, 'llm_replicas{state="running"}')
    assert OTHER_ANSWER == pytest.approx(found['llm_actual_quantity{quantity="output_tokens"}'], rel=0.01)
    one = watched.plan["cost"]["usd_per_hour"] / watched.plan["fleet"]["replicas"]
    assert OTHER_REPLICAS * one == pytest.approx(found["llm_total_hourly_cost"])
    assert 0 == found['llm_exporter_troubles_total{reason="impossible"}']
    assert f'llm_queries_per_second{{model_name="{OTHER}",namespace=""}}' in scraped(watched.other)
    calls = f'sum(rate({SUCCESS_TOTAL}{{model_name="{MODEL}"}}[{WINDOW_S:g}s]))'
    assert SENT_QPS == pytest.approx(of(watched, calls), rel=0.05)  # the load was on both all the while
    slow = {labels["model_name"] for labels, _ in ask(watched.prometheus, f"{SLOWER}5m")}
    assert {MODEL, OTHER} == slow


def test_without_prometheus_figures_go_and_from_one_that_starts_with_nothing_right_ones_come_back(watched):
    """Last of this file: it stops what the others ask. The new one's window fills under a load that never ended: till
    then a figure is absent, or right; a load that is told too low would make a query look dear.
    """
    watched.stop_prometheus()
    gone = until(lambda: "llm_cost_per_query{" not in (text := scraped(watched.exporter)) and text, 3 * WINDOW_S)
    assert "llm_exporter_source_up{" in gone
    assert "llm_exporter_snapshot_age_seconds" in gone
    assert "llm_drift_usd_per_query{" not in gone
    assert "llm_replicas{" not in "".join(line for line in gone.splitlines() if 'state="running"' in line)
    watched.start_prometheus()
    until(lambda: "llm_cost_per_query{" in scraped(watched.exporter), 90.0)
    bill, end_s, seen = watched.plan["cost"]["usd_per_hour"], time.monotonic() + WINDOW_S + 5.0, []
    while time.monotonic() < end_s:
        found = figures(watched.exporter)
        seen.append((found.get("llm_queries_per_second"), found.get('llm_cost_per_query{cost_basis="allocation"}')))
        time.sleep(0.5)
    rates, costs = ([one for one in column if one is not None] for column in zip(*seen, strict=True))
    assert [] == [rate for rate in rates if not 0.85 * SENT_QPS < rate < 1.2 * SENT_QPS]
    assert [] == [cost for cost in costs if not 0.8 < cost * 3600 * SENT_QPS / bill < 1.2]
    assert SENT_QPS == pytest.approx(rates[-1], rel=0.05)


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


def test_a_replica_that_turns_into_a_web_page_is_told_and_counts_no_longer(watched, tmp_path):
    """Two replicas are read directly; one of them ends and something else listens in its place."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(watched.plan))
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
