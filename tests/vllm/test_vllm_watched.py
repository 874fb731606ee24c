"""`planner export` and `planner drift` beside a real vLLM under a load that is known to the request."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

import planner
from planner.cli.output import json_text
from planner.records import RequestRow, RunHeader
from tests.loadtest_process import PATIENCE_S, command, read_lines, started, wait_for_rows
from tools.vllm_cpu.server import VllmServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpu-tiny.yaml"
QPS, QUERIES, WINDOW_S, BLOCK = 3.0, 150, 30.0, 128
USD_PER_HOUR = 0.05
STAGE = "query.stages[0]"
CHANGES: dict[str, Any] = {
    "model": str(EXAMPLE.parent / "cpu-tiny" / "config.json"),
    "traffic.peak_qps": QPS,
    f"{STAGE}.prompt_tokens": {"uniform": [192, 320]},
    f"{STAGE}.shared_prefix": {"tokens": BLOCK},
    f"{STAGE}.output_tokens": {"uniform": [8, 24]},
}
EDGE_S = 2.5  # by which the two clocks, and a scrape and its date, may differ
CHANCE = 0.05  # of a mean: those that ended at the window's edges
Watched = dict[str, dict[str, Any]]


class Truth(NamedTuple):
    """The least and the most that a window may tell, by figure."""

    qps: tuple[float, float]
    prompt_tokens: float
    output_tokens: float
    hit_rate: float


@pytest.fixture(scope="module")
def watched(dense: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, Callable[..., Truth]]:
    """What exporter and drift said of one load, and what was sent in a window of it."""
    folder = tmp_path_factory.mktemp("watched")
    scenario = planner.Scenario.load(EXAMPLE).with_values(CHANGES)
    (folder / "scenario.yaml").write_text(json.dumps(scenario.model_dump(mode="json", exclude_none=True)))
    plan, records, kept = folder / "plan.json", folder / "r.jsonl", folder / "window.json"
    plan.write_text(json_text(planner.plan(scenario, requests=1000, worlds=0).as_dict()))
    run = [sys.executable, "-m", "planner"]
    asked = [str(plan), "--endpoint", dense.url, "--window", f"{WINDOW_S:g}"]
    load = command(str(folder / "scenario.yaml"), dense.url, records, "--requests", str(QUERIES), "--warmup-s", "0")
    with started([*run, "export", *asked, "--interval", "2", "--port", "0"]) as exporter:
        assert exporter.stdout is not None
        url = exporter.stdout.readline().split()[2].removesuffix("/metrics")
        with started(load) as sending:
            wait_for_rows(records, 10)
            with started([*run, "drift", *asked, "--json", "--save-observed", str(kept)]) as reading:
                exported = exported_at(url, time.time() + WINDOW_S)
                metrics = requests.get(f"{url}/metrics", timeout=10).text
                told, said = reading.communicate(timeout=PATIENCE_S)
            assert reading.returncode in (0, 1), said
            _, errors = sending.communicate(timeout=PATIENCE_S)
    assert sending.returncode == 0, errors
    lines = read_lines(records)
    (header,) = [line for line in lines if isinstance(line, RunHeader)]
    rows = [line for line in lines if isinstance(line, RequestRow)]
    assert {""} == {row.error for row in rows}
    begun_unix_s = datetime.fromisoformat(header.started_at).timestamp()

    def truth(document: dict[str, Any]) -> Truth:
        return of_window(rows, document["ended_unix_s"] - begun_unix_s, document["window_s"])

    found = {"drift": json.loads(told), "export": exported, "window": json.loads(kept.read_text())}
    assert 'reason="down"} 0.0' in metrics
    return found, truth


def exported_at(url: str, unix_s: float) -> dict[str, Any]:
    """The exporter's first document of a reading that ended then or later, however late it is compared."""
    while time.time() < unix_s + PATIENCE_S:
        time.sleep(1.0)
        answer = requests.get(f"{url}/api/snapshot", timeout=10)
        document: dict[str, Any] = answer.json()
        if answer.status_code == 200 and document["ended_unix_s"] >= unix_s:
            return document
    raise AssertionError(f"no comparison of a reading since {unix_s}: {document}")


def of_window(rows: list[RequestRow], ended_s: float, window_s: float) -> Truth:
    """What the records say of the seconds before `ended_s`."""
    counts = [
        sum(ended_s + shift_s - window_s < row.ended_s <= ended_s + shift_s for row in rows)
        for shift_s in (-EDGE_S, -EDGE_S / 2, 0.0, EDGE_S / 2, EDGE_S)
    ]
    within = [row for row in rows if ended_s - window_s < row.ended_s <= ended_s]
    prompts = [float(row.prompt_tokens or 0) for row in within]
    return Truth(
        ((min(counts) - 1) / window_s, (max(counts) + 1) / window_s),
        sum(prompts) / len(prompts),
        sum(float(row.output_tokens or 0) for row in within) / len(within),
        BLOCK * len(prompts) / sum(prompts),
    )


def actual(document: dict[str, Any], name: str) -> float:
    (row,) = [row for row in document["quantities"] if row["name"] == name]
    return float(row["actual"])


@pytest.mark.parametrize("who", ["drift", "export"])
def test_what_is_told_is_what_was_sent(watched: tuple[Watched, Callable[..., Truth]], who: str) -> None:
    """Queries per second to within those at the window's edges, token means and prefix hits to within 5 %."""
    found, truth_of = watched
    document = found[who]
    truth = truth_of(document)
    assert WINDOW_S * 0.6 <= document["window_s"] <= WINDOW_S + 3.0
    low, high = truth.qps
    assert low <= actual(document, "qps") <= high
    assert low > QPS / 2
    assert truth.prompt_tokens == pytest.approx(actual(document, "prompt_tokens"), rel=CHANCE)
    assert truth.output_tokens == pytest.approx(actual(document, "output_tokens"), rel=CHANCE)
    assert truth.hit_rate == pytest.approx(actual(document, "prefix_cache_hit_rate"), rel=CHANCE)
    assert USD_PER_HOUR / 3600 / high <= document["cost"]["usd_per_query"] <= USD_PER_HOUR / 3600 / low


@pytest.mark.parametrize("who", ["drift", "export"])
def test_one_replica_of_the_plans_model_is_seen(watched: tuple[Watched, Callable[..., Truth]], who: str) -> None:
    document = watched[0][who]
    assert [] == document["troubles"]
    assert {"asked": 1, "answered": 1} == document["sources"]
    assert 1.0 == document["capacity"]["replicas"]["running"]
    assert USD_PER_HOUR == pytest.approx(document["cost"]["usd_per_hour"])


def test_a_window_that_is_kept_has_what_vllm_tells(watched: tuple[Watched, Callable[..., Truth]]) -> None:
    window = watched[0]["window"]
    assert ("cpu-tiny", 0.0, 0) == (window["model_name"], window["failed_per_s"], window["restarts"])
    assert abs(window["waiting_growth_per_s"]) < 1.0
    for name in ("ttft_ms.mean", "itl_ms.mean", "e2e_ms.p95"):
        assert window["latencies_ms"][name] > 0
