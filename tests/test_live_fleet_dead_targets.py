"""Targets of a Prometheus server that are dead: whose they are, for how long they are told, and as what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fleet_fakes import Hands, fake_prometheus, figures
from live_server import no_environment
from test_live_fleet_coverage import computed

from planner import vllm_metrics as names
from planner.live.fleet.prometheus import Prometheus
from planner.live.fleet.promql import DOWN, expressions
from planner.observed import read_observed
from planner.scenario.monitor import Monitor
from tests.promtool import needs_promtool

NOW = Hands().unix_s

UP = 'up{{job="{job}",instance="{name}:8000",namespace="{space}"}}'
OF = names.RUNNING + '{{job="{job}",instance="{name}:8000",namespace="{space}",model_name="{model}"}}'
DEAD = [  # (model_name, namespace, those that are named, because)
    (None, "prod", {"dead:8000", "never:8000", "others:8000"}, "all that the fleet's job scrapes is the fleet"),
    ("m", "prod", {"dead:8000"}, "beside another model a target that never told its model may be of that"),
    ("other", "prod", {"others:8000"}, "the other model's own"),
    (None, "test", set(), "another namespace"),
]


@needs_promtool
@pytest.mark.parametrize(("model_name", "namespace", "expected", "because"), DEAD)
def test_targets_that_prometheus_cannot_scrape_are_named(
    tmp_path: Path, model_name: str | None, namespace: str, expected: set[str], because: str
):
    """Five targets of one job and one of another: well, dead for half an hour, never well, another model's, …"""
    series = {}
    for name, model, up, told in (
        ("well", "m", "1x240", "1x240"),
        ("dead", "m", "1x120 0x119", "1x120 _x119"),
        ("never", None, "0x240", ""),
        ("others", "other", "1x220 0x19", "1x220 stale"),
    ):
        series[UP.format(job="vllm", name=name, space="prod")] = up
        if model:
            series[OF.format(job="vllm", name=name, space="prod", model=model)] = told
    series[UP.format(job="node", name="elsewhere", space="prod")] = "0x240"
    series[UP.format(job="vllm", name="calm", space="test")] = "1x240"
    series[OF.format(job="vllm", name="calm", space="test", model="m")] = "1x240"
    monitor = Monitor(prometheus_url="http://h:1", model_name=model_name, namespace=namespace)
    found = computed(tmp_path, series, 15, 3600, {DOWN: expressions(monitor, ())[DOWN]})
    assert expected == {re.findall(r'instance="([^"]*)"', labels)[0] for labels in found["labels"]}, because


@needs_promtool
def test_a_target_that_lived_for_minutes_between_two_hours_is_told_of_too(tmp_path: Path):
    """Beside another model, from 3,900 s to 4,500 s; it is 6,600 s now."""
    series = {}
    for name, model, up, told in (
        ("well", "m", "1x110", "1x110"),
        ("brief", "m", "_x65 1x9 0x35", "_x65 1x9 _x35"),
        ("others", "other", "1x110", "1x110"),
    ):
        series[UP.format(job="vllm", name=name, space="prod")] = up
        series[OF.format(job="vllm", name=name, space="prod", model=model)] = told
    monitor = Monitor(prometheus_url="http://h:1", model_name="m")
    found = computed(tmp_path, series, 60, 6600, {DOWN: expressions(monitor, ())[DOWN]})
    assert ["brief:8000"] == [re.findall(r'instance="([^"]*)"', labels)[0] for labels in found["labels"]]


AWAY_S = 5 * 3600


@needs_promtool
@pytest.mark.parametrize("model_name", [None, "m"])
@pytest.mark.parametrize("beside", [None, "other"])
def test_a_target_that_has_been_dead_for_hours_is_told_as_long_as_it_is_a_target(
    tmp_path: Path, model_name: str | None, beside: str | None
):
    """Of a job of one model every dead target is the fleet's; beside another model those that told of this one."""
    job = {"job": "vllm", "space": "prod"}
    ticks, lived = (AWAY_S + 5400) // 60, 90
    series = {}
    targets = [("well", "m", False), ("dead", "m", True), ("never", None, True), ("others", beside, True)]
    for name, model, dies in targets:
        series[UP.format(name=name, **job)] = f"1x{lived} 0x{ticks}" if dies and model else f"{int(not dies)}x{ticks}"
        if model:
            series[OF.format(name=name, model=model, **job)] = f"1x{lived} _x{ticks}" if dies else f"1x{ticks}"
    if beside is None:
        del series[UP.format(name="others", **job)]
    monitor = Monitor(prometheus_url="http://h:1", model_name=model_name, namespace="prod")
    found = computed(tmp_path, series, 60, AWAY_S + 5400, {DOWN: expressions(monitor, ())[DOWN]})
    told = {re.findall(r'instance="([^":]*)', labels)[0] for labels in found["labels"]}
    if beside is None:
        assert {"dead", "never"} == told
    else:
        assert ({"dead"} if model_name else {"dead", "never", "others"}) == told


def test_a_dead_target_is_a_trouble_of_its_own_and_the_server_is_well():
    with fake_prometheus(200, figures(NOW, down=({"instance": "10.0.0.7:8000", "pod": "vllm-1"}, {}))) as server:
        seen = Prometheus(Monitor(prometheus_url=server.url), Hands().clock, environment=no_environment).read()
    assert [
        ("fleet", "down", "Prometheus cannot scrape it: up is 0"),
        ("10.0.0.7:8000", "down", "Prometheus cannot scrape vllm-1: up is 0"),
    ] == [(one.source, one.reason, one.text) for one in seen.troubles]
    assert 2.0 == seen.replicas
    assert 2 == seen.dead_targets == read_observed(seen.as_dict()).dead_targets


def test_without_dead_targets_their_number_is_zero_and_of_a_fleet_that_is_gone_it_is_told():
    gone = {"engines": None, "down": ({"instance": "10.0.0.7:8000"},)}
    for changed, expected in (({}, 0), (gone, 1)):
        with fake_prometheus(200, figures(NOW, **changed)) as server:
            seen = Prometheus(Monitor(prometheus_url=server.url), Hands().clock, environment=no_environment).read()
        assert expected == seen.dead_targets
