"""A Prometheus server asked: the question, recorded and made-up answers, and everything that can be wrong with them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_fakes import MODEL, Hands, fake_prometheus, figures, raw_server, vector
from live_server import KEY, closed_port, no_environment

from planner import vllm_metrics as names
from planner.errors import InputError
from planner.live.fleet import read_fleet
from planner.live.fleet.prometheus import Prometheus
from planner.live.fleet.promql import duration, expressions, question, selector
from planner.live.fleet.sums import PERCENTILES
from planner.observed import Observed, read_observed
from planner.scenario.monitor import Monitor
from tests.promtool import needs_promtool

RECORDED = Path(__file__).parent / "data" / "prometheus_answer.json"  # Prometheus 2.42, two replicas of one model
NOW = Hands().unix_s


def monitor(url: str, **more: Any) -> Monitor:
    return Monitor.model_validate({"prometheus_url": url, **more})


def read(answer: str, status: int = 200, hands: Hands | None = None, **more: Any) -> Observed:
    with fake_prometheus(status, answer) as server:
        return Prometheus(monitor(server.url, **more), (hands or Hands()).clock, environment=no_environment).read()


def test_a_recorded_answer_is_read():
    hands = Hands(unix_s=1795404615.0)
    seen = read(RECORDED.read_text(), hands=hands)
    assert seen.ended_unix_s == 1795404615.749  # the server's clock rules
    assert (seen.replicas, seen.asked, seen.running, seen.waiting) == (2.0, None, 6.0, 2.0)
    assert seen.requests_per_s == pytest.approx(19.8317, abs=1e-4)
    assert (seen.kv_usage_mean, seen.kv_usage_max, seen.prefix_hit_rate, seen.busy_share) == (0.4, 0.4, 0.25, 0.75)
    assert seen.prompt_tokens == pytest.approx(298.874, abs=1e-3)
    assert len(seen.latencies_ms) == 4 * 5
    assert seen.latencies_ms["tpot_ms.mean"] == pytest.approx(30.0)
    assert seen.latencies_ms["tpot_ms.p99"] == pytest.approx(49.75)
    assert (seen.queries_per_s, seen.revenue_usd_per_s, seen.cost_usd_per_hour) == (None, None, None)


def test_the_question_is_one_and_goes_by_post():
    with fake_prometheus(200, figures(NOW)) as server:
        reader = Prometheus(monitor(server.url), Hands().clock, environment=no_environment)
        reader.read()
    assert [method for method, _ in server.asked] == ["POST"]
    assert server.asked[0][1] == question(expressions(monitor(server.url), PERCENTILES))
    assert reader.model_name == MODEL


NAMESPACES = [  # (found, named, told, words of a trouble, because)
    (("prod",), None, "prod", "", "the fleet's own"),
    (("prod", "test"), None, None, "series of 2 namespaces are summed: prod, test;", "one fleet in two, or two fleets"),
    (("prod", ""), None, None, "are summed: (none), prod;", "a fleet in one, and one without"),
    (("prod",), "prod", "prod", "", "as asked for"),
    (("",), None, None, "", "no namespaces at all"),
]


@pytest.mark.parametrize(("found", "named", "told", "words", "because"), NAMESPACES)
def test_a_fleet_is_named_as_its_series_are(
    found: tuple[str, ...], named: str | None, told: str | None, words: str, because: str
):
    with fake_prometheus(200, figures(NOW, namespaces=found)) as server:
        asked = monitor(server.url, namespace=named)
        reader = Prometheus(asked, Hands().clock, environment=no_environment)
        seen = reader.read()
    said = [(one.source, one.reason, words in one.text) for one in seen.troubles]
    assert said == ([("monitor.namespace", "impossible", True)] if words else []), because
    assert (seen.model_name, seen.requests_per_s) == (MODEL, 4.5)
    assert (reader.model_name, reader.namespace) == (MODEL, told), because


def test_a_fleet_that_is_down_is_no_fault_of_the_server():
    seen = read(figures(NOW, engines=None))
    assert [("fleet", "missing")] == [(one.source, one.reason) for one in seen.troubles]
    assert seen.troubles[0].text.startswith("Prometheus answers, but no replica is up")


OTHERS = [  # (models of the server's series, words, because)
    (("b", "a"), "(there are series of a, b); does it scrape", "by name"),
    (tuple("gfedcba"), "(there are series of a, b, c, d, e …); does it scrape", "five at most"),
    ((), ',namespace="prod"}; does it scrape', "nothing is scraped at all"),
]


@pytest.mark.parametrize(("models", "words", "because"), OTHERS)
def test_a_model_that_is_not_there_is_told_with_those_that_are(models: tuple[str, ...], words: str, because: str):
    others = f"count by (model_name) ({names.RUNNING}" + '{namespace="prod"})'
    with fake_prometheus(200, figures(NOW, engines=None, models=())) as server:
        server.answers[others] = (200, vector(*(({"model_name": name}, 1.0) for name in models)))
        asked = monitor(server.url, model_name="x", namespace="prod")
        seen = Prometheus(asked, Hands().clock, environment=no_environment).read()
        assert [others] == [query for _, query in server.asked[1:]]
    assert [("fleet", "missing")] == [(one.source, one.reason) for one in seen.troubles]
    assert words in seen.troubles[0].text, because


def test_models_are_asked_for_only_where_one_is_named_and_not_there():
    for changed, named in (({"engines": None}, None), ({}, MODEL)):
        with fake_prometheus(200, figures(NOW, **changed)) as server:
            Prometheus(monitor(server.url, model_name=named), Hands().clock, environment=no_environment).read()
            assert 1 == len(server.asked)


@pytest.mark.parametrize("url", ["prometheus", "", "http://", "http://[", "http://u@h:1/?a"])
def test_an_address_that_is_none_is_answered_with_prometheus_own_port(url: str):
    with pytest.raises(InputError, match=r"monitor.prometheus_url") as caught:
        Prometheus(monitor(url or " "), Hands().clock, environment=no_environment)
    assert "8000" not in str(caught.value)


def test_more_hits_than_look_ups_are_left_out_and_the_window_can_be_read_again():
    seen = read(figures(NOW, prefix_hit_rate=1.5))
    assert (seen.prefix_hit_rate, seen.requests_per_s) == (None, 4.5)
    assert ["prefix_hit_rate is 1.5, a share: it is left out"] == [one.text for one in seen.troubles]
    assert seen == read_observed(seen.as_dict())


def test_matchers_are_escaped():
    named = monitor("http://h:1", model_name='a"b\\c\nd', namespace="prod")
    assert selector(named) == '{model_name="a\\"b\\\\c\\nd",namespace="prod"}'
    assert selector(monitor("http://h:1")) == "{}"
    assert duration(0.5) == "500ms"


@needs_promtool
def test_promtool_takes_every_expression(tmp_path: Path):
    named = monitor("http://h:1", model_name='a"b\\c', namespace="prod", window_s=60.5)
    told = expressions(named, PERCENTILES)
    rules = [{"record": f"figure{place}", "expr": text} for place, text in enumerate([*told.values(), question(told)])]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "figures", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


FAULTS = [  # (changed figures, reason, words, blind, because)
    (
        {"engines": None},
        "missing",
        "no vllm:num_requests_running{}",
        True,
        "nothing is scraped",
    ),
    ({"models": ("a", "b")}, "impossible", "several models answer: a, b", True, "two fleets"),
    ({"jobs": 2}, "impossible", "would count twice", True, "a PodMonitor beside a ServiceMonitor"),
    ({"requests_per_s": -1}, "impossible", "requests_per_s is -1", True, "no rate is negative"),
    ({"oldest_age_s": 40.0}, "stale", "last scraped 40 s ago", False, "one replica is old, not all"),
    ({"newest_age_s": 200.0, "oldest_age_s": 200.0}, "stale", "figures are left out", True, "half the window is empty"),
    (
        {"covered_s": 20.0, "samples": 2},
        "missing",
        "reach back 20 s of 300 s: rates are left out until there are 3 samples",
        True,
        "Prometheus has just begun",
    ),
    ({"restarts": 2}, "restarted", "2 restarts", False, "and still all is told"),
]


@pytest.mark.parametrize(("changed", "reason", "words", "blind", "because"), FAULTS)
def test_figures_that_are_not_those_of_the_fleet_now(
    changed: dict[str, Any], reason: str, words: str, blind: bool, because: str
):
    seen = read(figures(NOW, **changed))
    troubles = {trouble.reason: trouble.text for trouble in seen.troubles}
    assert words in troubles.get(reason, ""), f"{because}: {troubles}"
    assert seen.blind == blind, because
    assert seen.restarts == changed.get("restarts", 0)


def test_a_whole_answer_has_no_troubles_and_nothing_told_is_none():
    seen = read(figures(NOW, prompt_tokens="NaN", running=None))
    assert seen.troubles == ()
    assert (seen.requests_per_s, seen.prompt_tokens, seen.running) == (4.5, None, None)
    assert seen.latencies_ms == {"ttft_ms.p99": 250.0}
    assert not seen.blind


CLOCKS = [(0.0, None), (4.9, None), (-4.9, None), (60.0, "60 s ahead of"), (-3600.0, "3600 s behind")]


@pytest.mark.parametrize(("ahead_s", "words"), CLOCKS)
def test_clocks_that_disagree_are_told_and_the_servers_rules(ahead_s: float, words: str | None):
    seen = read(figures(NOW + ahead_s))
    assert seen.ended_unix_s == NOW + ahead_s
    assert [trouble.reason for trouble in seen.troubles] == ([] if words is None else ["clock"])
    assert words is None or words in seen.troubles[0].text


NO_ANSWERS = [  # (status, body, reason, words)
    (200, "<html>", "garbage", "is this a Prometheus server?"),
    (200, "{}", "garbage", "no answer of Prometheus' API"),
    (200, "[" * 100_000, "garbage", "no answer of Prometheus' API"),
    (200, vector(), "garbage", "without the time"),
    (404, "no such page", "down", "HTTP 404; is this a Prometheus server?"),
    (503, "starting", "down", "HTTP 503"),
    (401, "", "down", "HTTP 401; put a token into the environment as PROMETHEUS_TOKEN"),
    (400, '{"status":"error","errorType":"bad_data","error":"parse error"}', "garbage", "it says: parse error"),
]


@pytest.mark.parametrize(("status", "body", "reason", "words"), NO_ANSWERS)
def test_answers_that_tell_nothing(status: int, body: str, reason: str, words: str):
    seen = read(body, status)
    assert seen.blind
    assert [trouble.reason for trouble in seen.troubles] == [reason]
    assert words in seen.troubles[0].text


OWN = [  # (answer, status, figure, reason, words)
    (vector(({}, 7.5)), 200, 7.5, None, ""),
    ('{"status":"success","data":{"resultType":"scalar","result":[1,"42"]}}', 200, 42.0, None, ""),
    (
        vector(({"a": "1"}, 1), ({"a": "2"}, 2)),
        200,
        None,
        "impossible",
        "gives 2 series, must be one",
    ),
    (vector(), 200, None, "missing", "gives no number"),
    (vector(({}, "NaN")), 200, None, "missing", "gives no number"),
    (vector(({}, -2)), 200, None, "impossible", "gives -2, must be at least 0"),
    ('{"status":"success","data":{"resultType":"matrix","result":[]}}', 200, None, "garbage", "gives a matrix"),
    ('{"status":"error","error":"1:7: parse error"}', 400, None, "garbage", "it says: 1:7: parse error"),
]


@pytest.mark.parametrize(("answer", "status", "figure", "reason", "words"), OWN)
def test_the_users_own_queries(answer: str, status: int, figure: float | None, reason: str | None, words: str):
    with fake_prometheus(200, figures(NOW)) as server:
        server.answers["own"] = (status, answer)
        asked = monitor(server.url, queries_promql="own")
        seen = Prometheus(asked, Hands().clock, environment=no_environment).read()
    assert ("GET", "own") in server.asked
    assert seen.queries_per_s == figure
    assert seen.requests_per_s == 4.5  # the rest is told all the same
    assert [(trouble.source, trouble.reason) for trouble in seen.troubles] == (
        [] if reason is None else [("monitor.queries_promql", reason)]
    )
    assert reason is None or words in seen.troubles[0].text


def test_the_token_comes_from_its_own_variable_and_goes_into_no_text():
    environment = {"PROMETHEUS_TOKEN": KEY, "OPENAI_API_KEY": "sk-another"}
    with fake_prometheus(401, "") as server:
        seen = Prometheus(monitor(server.url), Hands().clock, environment=environment.get).read()
    assert server.tokens == [f"Bearer {KEY}"]
    assert KEY not in repr(seen)
    with pytest.raises(InputError, match=r"monitor.prometheus_url: must hold no user.*PROMETHEUS_TOKEN"):
        Prometheus(monitor("http://me:secret@h:9090"), Hands().clock)


def test_a_server_that_is_not_there_hangs_or_sends_elsewhere():
    gone = Prometheus(monitor(f"http://127.0.0.1:{closed_port()}"), Hands().clock).read()
    assert [trouble.reason for trouble in gone.troubles] == ["down"]
    with raw_server(lambda connection: time.sleep(5.0)) as url:
        silent = Prometheus(monitor(url, interval_s=1.0), Hands().clock).read()
    assert [trouble.reason for trouble in silent.troubles] == ["slow"]
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with raw_server(lambda connection: connection.sendall(away)) as url:
        sent = Prometheus(monitor(url), Hands().clock).read()
    assert [trouble.reason for trouble in sent.troubles] == ["garbage"]
    assert "give monitor.prometheus_url the address" in sent.troubles[0].text


def test_one_window_is_asked_once_and_two_models_are_refused():
    with fake_prometheus(200, figures(NOW)) as server:
        seen = read_fleet(monitor(server.url), window_s=120.0, clock=Hands().clock)
        assert (seen.window_s, len(server.asked)) == (120.0, 1)
        assert "[120000ms]" in server.asked[0][1]
        server.everything = (200, figures(NOW, models=("a", "b")))
        with pytest.raises(InputError, match=r"monitor.model_name: several models answer: a, b"):
            read_fleet(monitor(server.url), clock=Hands().clock)
