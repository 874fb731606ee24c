"""Rates of a window that series do not fill yet: raised to what they are, by what Prometheus itself extrapolates."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_fakes import Hands, fake_prometheus, figures
from live_server import no_environment

from planner import vllm_metrics as names
from planner.live.fleet.coverage import filled_s
from planner.live.fleet.prometheus import Prometheus
from planner.live.fleet.promql import expressions, resolution_s
from planner.observed import Observed
from planner.scenario.monitor import Monitor
from tests.promtool import PROMTOOL, needs_promtool

NOW = Hands().unix_s
FILLED = [  # (window, oldest, newest, samples, seconds, because)
    (300.0, 300.0, 0.0, 21, 300.0, "a full window"),
    (300.0, 310.0, 10.0, 21, 300.0, "Prometheus looks back beyond it"),
    (300.0, 284.0, 0.0, 20, 300.0, "begun within 1.1 intervals of it: extrapolated to its beginning"),
    (300.0, 150.0, 0.0, 11, 157.5, "150 s and half an interval of 15 s"),
    (300.0, 160.0, 10.0, 11, 167.5, "the ten seconds since the last sample are extrapolated too"),
    (300.0, 30.0, 0.0, 3, 37.5, "three samples are enough"),
    (300.0, 15.0, 0.0, 2, None, "two are not: the next may well be another world"),
    (300.0, 5.0, 5.0, 1, None, "one is no rate"),
    (30.0, 15.0, 0.0, 2, 30.0, "of the shortest window two are all that there ever are"),
    (300.0, None, None, None, 300.0, "nobody tells"),
]


@pytest.mark.parametrize(("window_s", "oldest_s", "newest_s", "samples", "expected_s", "because"), FILLED)
def test_the_seconds_that_a_rate_tells_of(
    window_s: float,
    oldest_s: float | None,
    newest_s: float | None,
    samples: float | None,
    expected_s: float | None,
    because: str,
):
    assert expected_s == filled_s(window_s, oldest_s, newest_s, samples), because


def read(**changed: Any) -> Observed:
    with fake_prometheus(200, figures(NOW, **changed)) as server:
        monitor = Monitor(prometheus_url=server.url)
        return Prometheus(monitor, Hands().clock, environment=no_environment).read()


def test_rates_of_half_a_window_are_raised_and_means_are_not():
    half = {"covered_s": 142.5, "newest_age_s": 0.0, "samples": 10.5}
    seen = read(**half, failed_per_s=1.0, waiting_growth_per_s=-0.5, preemptions_per_s=0.25, busy_share=0.5)
    assert (9.0, 2.0, -1.0, 0.5) == pytest.approx(
        (seen.requests_per_s, seen.failed_per_s, seen.waiting_growth_per_s, seen.preemptions_per_s)
    )
    assert (100.0, 0.5, 6.0, {"ttft_ms.p99": 250.0}) == (
        seen.prompt_tokens, seen.busy_share, seen.running, seen.latencies_ms,
    )  # fmt: skip
    assert (150.0, ()) == (seen.window_s, seen.troubles)


# --- against Prometheus' own arithmetic ---


def computed(folder: Path, series: dict[str, str], interval_s: int, at_s: int, asked: dict[str, str]) -> dict[str, Any]:
    """What promtool computes: expecting nothing, it says what came instead. One number or None by name."""
    document = {
        "evaluation_interval": f"{interval_s}s",
        "tests": [
            {
                "interval": f"{interval_s}s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {"expr": f"label_replace({text}, 'name', '{name}', '', '')", "eval_time": f"{at_s}s"}
                    for name, text in asked.items()
                ],
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    found = re.findall(r'\{([^}]*name="(\w+)"[^}]*)\} ([-+.\dEeNaInf]+)', said)
    return {name: float(value) for _, name, value in found} | {"labels": [labels for labels, name, _ in found]}


RUN = f'{names.RUNNING}{{job="vllm",instance="a:8000",model_name="m"}}'
DONE = f'{names.SUCCESS_TOTAL}{{job="vllm",instance="a:8000",model_name="m",finished_reason="stop"}}'
QUEUE = f'{names.WAITING}{{job="vllm",instance="a:8000",model_name="m"}}'
WORLDS = [  # (samples before, samples, interval, seconds after the last, because)
    (0, 41, 15, 0, "a window that is full"),
    (0, 41, 15, 7, "and seven seconds later"),
    (3, 400, 1, 3, "and scraped every second"),
    (30, 11, 15, 0, "Prometheus began 150 s ago"),
    (30, 11, 15, 9, "and its last scrape was 9 s ago"),
    (37, 4, 15, 0, "45 s ago"),
    (55, 6, 10, 0, "50 s ago, scraping every 10 s"),
    (119, 3, 5, 3, "13 s ago, scraping every 5 s"),
]


OUTAGES = [  # (samples missed, samples since, interval of samples, window, seconds after the last, because)
    (18, 4, 15, 300.0, 0, "back for 45 s, and the last sample before was 315 s ago"),
    (17, 5, 15, 300.0, 7, "and seven seconds later"),
    (10, 12, 15, 300.0, 0, "back for 165 s"),
    (30, 4, 15, 300.0, 0, "an outage of more than five minutes"),
    (10, 4, 15, 300.0, 0, "an outage within the window: what was counted meanwhile is told by the counters"),
    (8, 3, 15, 60.0, 0, "a short window is all outage but for its end"),
    (12, 4, 10, 60.0, 3, "and scraped every 10 s"),
]


@needs_promtool
@pytest.mark.parametrize(("missed", "count", "interval_s", "window_s", "late_s", "because"), OUTAGES)
def test_ten_requests_a_second_are_ten_after_prometheus_was_away(
    tmp_path: Path, missed: int, count: int, interval_s: int, window_s: float, late_s: int, because: str
):
    """It keeps its data, and its selectors find samples of up to five minutes ago, of before the outage too."""
    monitor = Monitor(prometheus_url="http://h:1", interval_s=15.0, window_s=window_s)
    wanted = ("requests_per_s", "waiting_growth_per_s", "covered_s", "newest_age_s", "samples")
    asked = {name: expressions(monitor, ())[name] for name in wanted}
    ran = 40

    def counted(begin: int, each_s: int) -> str:
        again = begin + each_s * interval_s * (ran + missed)
        return f"{begin}+{each_s * interval_s}x{ran - 1} _x{missed} {again}+{each_s * interval_s}x{count - 1}"

    series = {RUN: f"1x{ran - 1} _x{missed} 1x{count - 1}", DONE: counted(10**6, 10), QUEUE: counted(10**4, 2)}
    found = computed(tmp_path, series, interval_s, (ran + missed + count - 1) * interval_s + late_s, asked)
    seconds = filled_s(window_s, found["covered_s"], found["newest_age_s"], found["samples"], resolution_s(monitor))
    assert seconds is not None
    assert 10.0 == pytest.approx(found["requests_per_s"] * window_s / seconds, rel=0.02), because
    assert 2.0 == pytest.approx(found["waiting_growth_per_s"] * window_s / seconds, rel=0.02), because


AT = '{{job="vllm",instance="{name}:8000",model_name="m"}}'
QUEUES = [  # (calm's queue, whether it restarts, growth a second, because)
    ("400x100", False, 0.0, "a queue that stands"),
    ("400-2x100", False, -2.0 / 15, "one that drains was served"),
    ("400x89 0x10", True, 0.0, "what waited at a restart is lost, and was not served"),
    ("0x89 15+15x10", True, 165 / 300, "what has come since is load"),
]


@needs_promtool
@pytest.mark.parametrize(("queue", "restarts", "expected_per_s", "because"), QUEUES)
def test_a_restart_takes_nothing_off_the_queue(
    tmp_path: Path, queue: str, restarts: bool, expected_per_s: float, because: str
):
    """One replica of two; before the other the queue grows by one a second."""
    tokens = "1000+9x89 0+9x10" if restarts else "1000+9x100"
    series = {}
    for name, waiting, generated in (("one", queue, tokens), ("other", "0+15x100", "1000+9x100")):
        at = AT.format(name=name)
        series |= {names.RUNNING + at: "1x100", names.WAITING + at: waiting}
        series[names.GENERATION_TOKENS_TOTAL + at] = generated
    monitor = Monitor(prometheus_url="http://h:1", interval_s=15.0, window_s=300.0)
    growth = {"growth": expressions(monitor, ())["waiting_growth_per_s"]}
    found = computed(tmp_path, series, 15, 1500, growth)
    assert 1.0 + expected_per_s == pytest.approx(found["growth"], rel=0.05), because


@needs_promtool
@pytest.mark.parametrize(("before", "count", "interval_s", "late_s", "because"), WORLDS)
def test_ten_requests_a_second_are_ten_however_long_prometheus_has_watched(
    tmp_path: Path, before: int, count: int, interval_s: int, late_s: int, because: str
):
    """A fleet that has run for long, so that its counters are large; a queue that grows by two a second."""
    asked = expressions(Monitor(prometheus_url="http://h:1", interval_s=15.0, window_s=300.0), ())
    wanted = ("requests_per_s", "waiting_growth_per_s", "covered_s", "newest_age_s", "samples")
    series = {
        RUN: f"_x{before} 1x{count - 1}",
        DONE: f"_x{before} {10**6}+{10 * interval_s}x{count - 1}",
        QUEUE: f"_x{before} {10**4}+{2 * interval_s}x{count - 1}",
    }
    if not before:
        series = {name: values.removeprefix("_x0 ") for name, values in series.items()}
    at_s = (before + count - 1) * interval_s + late_s
    found = computed(tmp_path, series, interval_s, at_s, {name: asked[name] for name in wanted})
    seconds = filled_s(300.0, found["covered_s"], found["newest_age_s"], found["samples"], 5.0)
    assert seconds is not None
    assert (seconds == 300.0) == (count * interval_s > 300), because
    assert 10.0 == pytest.approx(found["requests_per_s"] * 300.0 / seconds, rel=0.02), because
    assert 2.0 == pytest.approx(found["waiting_growth_per_s"] * 300.0 / seconds, rel=0.02), because
