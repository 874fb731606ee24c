"""Alert rules: their thresholds by hand, what they refuse, and promtool's own tests of when they fire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards import build
from planner import vllm_metrics
from planner.errors import ScenarioError
from planner.metrics import names
from planner.metrics.alerts import alert_groups
from planner.metrics.burn_rates import SLOWER, WINDOWS
from planner.metrics.promql import bounds_around, quoted, series
from tests.promtool import PROMTOOL, needs_promtool

ROOT = Path(__file__).parent.parent
SLO = [("p99_ttft_ms", 1000.0), ("p99_tpot_ms", 50.0)]
ALL = [*SLO, ("p50_e2e_ms", 9000.0), ("mean_itl_ms", 30.0)]
TESTS = sorted((ROOT / "dashboards").glob("alerts*_test.yaml"))


def rules(slo=ALL, **given) -> list[dict]:
    return [rule for group in alert_groups(slo, **given) for rule in group["rules"]]


def alerts(slo=ALL, **given) -> list[dict]:
    return [rule for rule in rules(slo, **given) if "alert" in rule]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("metric", "limit_s", "expected", "because"),
    [
        ("ttft", 1.0, [(1.0, 1.0)], "a bound of vLLM's own"),
        ("tpot", 0.05, [(0.05, 1.0)], "a bound of vLLM's own"),
        ("tpot", 0.045, [(0.025, 0.2), (0.05, 0.8)], "four fifths of the way from 25 to 50 ms"),
        ("ttft", 1.75, [(1.0, 0.5), (2.5, 0.5)], "halfway from 1 to 2.5 s"),
        ("itl", 0.005, [(0.01, 0.5)], "halfway from 0, below which nothing is"),
        ("itl", 100.0, [(80.0, 1.0)], "above the last bound: what is beyond it counts as slow"),
        ("e2e", 7680.0, [(7680.0, 1.0)], "the last bound itself"),
    ],
)
def test_a_limit_is_counted_at_the_bounds_around_it(metric, limit_s, expected, because):
    found = bounds_around(metric, limit_s)
    assert [bound for bound, _ in expected] == [bound for bound, _ in found], because
    assert [weight for _, weight in expected] == pytest.approx([weight for _, weight in found]), because


@pytest.mark.parametrize(
    ("key", "fast", "slow", "missed", "because"),
    [
        ("p99_ttft_ms", 0.144, 0.06, 0.01, "14.4, 6 and 1 times the 1 % that may be slow"),
        ("p99.9_ttft_ms", 0.0144, 0.006, 0.001, "a tenth of that"),
        ("p95_ttft_ms", 0.525, 0.3, 0.05, "14.4 × 5 % is nearly all: halfway from 5 % to all instead"),
        ("p50_ttft_ms", 0.75, 0.75, 0.5, "no more than twice as many can be slow: halfway to all"),
    ],
)
def test_thresholds_are_burn_rates_times_the_allowed_share(key, fast, slow, missed, because):
    found = {rule["alert"]: rule["expr"] for rule in alerts([(key, 1000.0)]) if rule["labels"].get("slo")}
    for name, expected in (("LlmSloBurnFast", fast), ("LlmSloBurnSlow", slow), ("LlmSloMissed", missed)):
        thresholds = [float(one) for one in re.findall(r"> ([\d.e-]+)", found[name])]
        assert [expected, expected] == pytest.approx(thresholds), because


def test_a_percentile_has_a_recorded_share_for_each_window_and_a_mean_has_one_alert():
    assert len(WINDOWS) * 3 == len([rule for rule in rules() if "record" in rule])
    by_level = [(rule["labels"]["slo"], rule["alert"]) for rule in alerts() if "slo" in rule["labels"]]
    assert [("mean_itl_ms", "LlmSloMeanMissed")] == [one for one in by_level if one[0].startswith("mean")]
    assert 9 == len([one for one in by_level if one[0].startswith("p")])


def test_without_service_levels_the_rest_is_watched():
    assert ["llm-economics", "llm-fleet", "llm-plan", "llm-exporter"] == [group["name"] for group in alert_groups([])]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']} {rule['labels'].get('slo', '')}")
def test_an_alert_says_how_bad_it_is_what_to_do_and_where_that_is_written(rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    said = rule["annotations"]
    assert 10 < len(said["summary"]) < 100
    assert len(said["description"]) > 60
    assert "runbook_url" not in said, "what is no address is not called one"
    page, heading = re.fullmatch(r'see (\S+), "(\w+)"', said["runbook"]).groups()
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert rule["alert"] == heading in [found.strip() for found in headings]
    assert re.fullmatch(r"\d+[mh]", rule["for"])


def test_every_metric_in_a_rule_exists():
    histograms = {f"{name}_{end}" for name in vllm_metrics.HISTOGRAMS for end in ("bucket", "sum", "count")}
    known = {*histograms, *(metric.name for metric in names.METRICS), *(SLOWER + window for window in WINDOWS)}
    asked = {
        name
        for rule in rules()
        for name in re.findall(r"\b(?:llm_\w+|llm:\w+:\w+|vllm:\w+)", re.sub(r'"[^"]*"', "", rule["expr"]))
    }
    assert len(asked) > 20
    assert set() == asked - known


def test_a_selector_is_on_every_series_and_on_what_is_recorded():
    chosen = {"model_name": 'a"b\\c\n', "team": "search"}
    text = ", ".join(f"{label}={quoted(value)}" for label, value in chosen.items())
    for rule in rules(selector=chosen):
        read = re.findall(
            r"\b(?:llm_\w+|llm:\w+:\w+|vllm:\w+)(?:\{|\b)", re.sub(r'"(?:[^"\\]|\\.)*"', "", rule["expr"])
        )
        assert rule["expr"].count(f"{{{text}") == len(read) > 0
        assert "record" not in rule or chosen.items() <= rule["labels"].items()


@pytest.mark.parametrize(
    ("slo", "selector", "expected"),
    [
        ([("p99_tftt_ms", 1.0)], {}, "p99_tftt_ms"),
        ([("p100_ttft_ms", 1.0)], {}, "below 100"),
        ([("p99_ttft_ms", 0.0)], {}, "above 0"),
        ([("p99_ttft_ms", float("nan"))], {}, "above 0"),
        ([("p99_ttft_ms", float("inf"))], {}, "finite"),
        (SLO, {"name-space": "a"}, "name-space"),
        (SLO, {"a=b} or up{": "a"}, "no label"),
    ],
)
def test_what_cannot_be_is_refused(slo, selector, expected):
    with pytest.raises(ScenarioError, match=re.escape(expected)):
        alert_groups(slo, selector=selector)


def test_spare_replicas_and_the_blind_time_are_the_plans():
    found = {rule["alert"]: rule["expr"] for rule in alerts(spare_replicas=2, blind_s=900)}
    assert found["LlmReplicasMissing"].endswith('(llm_replicas{state="planned"}) - 2)')
    assert found["LlmExporterBlind"].endswith(" > 900")
    assert series("up", {}) == "up"


def test_the_rule_file_is_as_built():
    assert build.alerts() == build.ALERTS.read_text(encoding="utf-8"), "run python -m dashboards.build"


def test_every_alert_of_the_file_is_seen_to_fire_in_its_tests():
    written = yaml.safe_load((ROOT / "dashboards" / "alerts.yaml").read_text(encoding="utf-8"))
    fired = {
        re.search(r'alertname="(\w+)"', sample["labels"])[1]
        for file in TESTS
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for one in test.get("promql_expr_test", [])
        for sample in one["exp_samples"]
        if "alertname" in sample["labels"]
    } | {"LlmSourceDown"}  # by an alert_rule_test, with its words
    assert {rule["alert"] for group in written["groups"] for rule in group["rules"] if "alert" in rule} == fired


@needs_promtool
def test_promtool_finds_that_the_alerts_fire_when_they_must_and_not_when_they_must_not():
    checked = promtool("check", "rules", ROOT / "dashboards" / "alerts.yaml")
    assert 0 == checked.returncode, checked.stdout + checked.stderr
    tested = promtool("test", "rules", *TESTS)
    assert 0 == tested.returncode, tested.stdout + tested.stderr
    assert "SUCCESS" in tested.stdout


INTERPOLATED = """
rule_files: [rules.yaml]
tests:
  - interval: 1m
    input_series:
      - {series: 'llm_exporter_snapshot_age_seconds{namespace="n"}', values: '1+0x60'}
      - {series: 'vllm:request_time_per_output_token_seconds_count{namespace="n"}', values: '0+100x60'}
      - {series: 'vllm:request_time_per_output_token_seconds_bucket{namespace="n", le="0.025"}', values: '0+50x60'}
      - {series: 'vllm:request_time_per_output_token_seconds_bucket{namespace="n", le="0.05"}', values: '0+100x60'}
      - {series: 'vllm:inter_token_latency_seconds_count{namespace="n"}', values: '0+100x60'}
      - {series: 'vllm:inter_token_latency_seconds_sum{namespace="n"}', values: '0+3.1x60'}
    promql_expr_test:
      - expr: round(llm:requests_slower_than_slo:ratio_rate1h, 0.001)
        eval_time: 60m
        exp_samples: [{labels: '{namespace="n", slo="p99_tpot_ms"}', value: 0.1}]
      - expr: count by (alertname) (ALERTS{alertstate="firing"})
        eval_time: 60m
        exp_samples:
          - {labels: '{alertname="LlmSloBurnSlow"}', value: 1}
          - {labels: '{alertname="LlmSloMeanMissed"}', value: 1}
"""


@needs_promtool
def test_a_limit_between_bounds_is_interpolated_and_a_mean_is_judged(tmp_path):
    """45 ms is four fifths of 25 to 50 ms: half of the calls below 25 and half between leave a tenth above."""
    groups = alert_groups([("p99_tpot_ms", 45.0), ("mean_itl_ms", 30.0)], selector={"namespace": "n"})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (tmp_path / "test.yaml").write_text(INTERPOLATED)
    tested = promtool("test", "rules", tmp_path / "test.yaml")
    assert 0 == tested.returncode, tested.stdout + tested.stderr


@needs_promtool
def test_prometheus_reads_the_rules_of_hostile_labels(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": alert_groups(ALL, selector={"a": '"}\\\n{{ 新'})}))
    checked = promtool("check", "rules", tmp_path / "rules.yaml")
    assert 0 == checked.returncode, checked.stdout + checked.stderr
