"""Days of a fleet as an answer: its hours add up, its bill is a sum, what cannot be run is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from click.testing import CliRunner

import planner.deployment.days as runs
from planner.cli.app import cli
from planner.days import Days, simulate_days
from planner.deployment import simulate
from planner.errors import InputError, ScenarioError, UnsupportedError
from planner.scenario import Scenario
from planner.sizing import capacity

DAY = tuple([0.25] * 6 + [0.5] * 2 + [1.0] * 10 + [0.5] * 6)
SCALED = {"target": {"requests": 4}, "max_replicas": 6}
PRICE, COMPUTE_SHARE, RETRIEVAL = 2.0, 0.8, 0.001


def scenario(**values: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "a bot",
        "model": "llama-3.1-8b",
        "hardware": "l4-24gb",
        "engine": {"quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
        "traffic": {"peak_qps": 1.0, "day": DAY},
        "query": {
            "stages": [
                {"name": "answer", "prompt_tokens": {"uniform": [100, 400]}, "output_tokens": {"uniform": [2, 90]}}
            ]
        },
        "slo": {"p95_ttft_ms": "<=800", "p95_tpot_ms": "<=60"},
        "fleet": {"replicas": 2},
        "prices": {"gpu_hour_usd": PRICE, "compute_share": COMPUTE_SHARE, "retrieval_usd_per_query": RETRIEVAL},
    }
    return Scenario.from_dict(data).with_values(values)


@pytest.fixture(scope="module")
def static() -> Days:
    return simulate_days(scenario(), days=1)


@pytest.fixture(scope="module")
def scaled() -> Days:
    return simulate_days(
        scenario(**{"fleet.autoscaler": SCALED, "fleet.startup_s": 120, "traffic.peak_qps": 4.0}), days=1
    )


def test_hours_follow_the_day(static):
    rows = static.as_dict()["days"]
    assert list(range(24)) == [row["hour"] for row in rows]
    assert list(DAY) == [row["rate_qps"] for row in rows]
    for row in rows:
        assert abs(row["queries"] - row["user_queries"]) < 5 * math.sqrt(row["user_queries"])
        assert row["queries"] == row["answered"] == row["simulated"]
        assert 0 < row["ttft_ms"]["p50"] <= row["ttft_ms"]["p99"]
        assert {"mean": 2.0, "min": 2, "max": 2} == row["replicas"]
        assert 0 < row["utilisation"] <= 1
    busy = [row["utilisation"] for row in rows]
    assert max(busy[:6]) < min(busy[8:18])


def test_the_bill_is_a_sum(static):
    """2 GPUs · 24 h · $2 ÷ 0.8 + $0.001 of retrieval for each of the day's queries."""
    document = static.as_dict()
    users = 3600 * sum(DAY)
    usd = 2 * 24 * PRICE / COMPUTE_SHARE + RETRIEVAL * users
    totals = document["totals"]
    assert usd == pytest.approx(totals["usd"]) == pytest.approx(sum(row["usd"] for row in document["days"]))
    assert usd / users == pytest.approx(totals["usd_per_query"])
    assert 48.0 == pytest.approx(totals["gpu_hours"])
    assert users == pytest.approx(totals["user_queries"])
    assert [1.0, 2.0, 2] == [totals["slo_hours_share"], totals["mean_replicas"], totals["peak_replicas"]]


def test_an_answer_cache_thins_the_load_and_not_the_users(static):
    cached = simulate_days(scenario(**{"query.response_cache": {"hit_rate": 0.4}}), days=1).as_dict()["totals"]
    totals = static.as_dict()["totals"]
    assert totals["user_queries"] == pytest.approx(cached["user_queries"])
    assert 0.6 == pytest.approx(cached["queries"] / totals["queries"], rel=0.03)
    saved = 0.4 * RETRIEVAL * totals["user_queries"]
    assert totals["usd"] - saved == pytest.approx(cached["usd"])


def test_the_perfect_scaler_is_sized_for_each_rate(static):
    document = static.as_dict()
    perfect = document["perfect"]
    levels = {level["rate_qps"]: level["replicas"] for level in perfect["levels"]}
    assert [0.25, 0.5, 1.0] == list(levels)
    assert [levels[row["rate_qps"]] for row in document["days"]] == [
        row["perfect_replicas"] for row in document["days"]
    ]
    assert perfect["gpu_hours"] == sum(row["perfect_replicas"] for row in document["days"])
    assert [row["perfect"]["mean"] for row in document["days"]] == [row["perfect_replicas"] for row in document["days"]]
    bought = RETRIEVAL * 3600 * sum(DAY)
    assert perfect["usd"] == pytest.approx(perfect["gpu_hours"] * PRICE / COMPUTE_SHARE + bought)
    assert perfect["static"]["replicas"] == max(levels.values()) == perfect["peak_replicas"]
    assert perfect["static"]["usd"] == pytest.approx(24 * perfect["peak_replicas"] * PRICE / COMPUTE_SHARE + bought)


def test_a_service_level_that_no_fleet_holds_leaves_the_perfect_scaler_out():
    document = simulate_days(scenario(**{"slo": {"p95_ttft_ms": "<=1"}}), days=1).as_dict()
    assert "even an idle fleet misses p95_ttft_ms" in document["perfect"]["reason"]
    assert [None, None] == [document["perfect"]["usd"], document["beside_static"]]
    assert 0.0 == document["totals"]["slo_hours_share"]
    assert all(row["perfect_replicas"] is None for row in document["days"])


def test_without_limits_and_prices_nothing_is_judged_or_billed():
    bare = scenario(**{"slo": None, "prices": None})
    document = simulate_days(bare, days=1).as_dict()
    assert {None} == {row["slo_met"] for row in document["days"]} | {row["usd"] for row in document["days"]}
    assert [None, None] == [document["totals"]["usd"], document["totals"]["slo_hours_share"]]
    assert "no limits given" in str(simulate_days(bare, days=1))


def test_a_scaled_fleet_follows_the_load(scaled):
    document = scaled.as_dict()
    rows, totals = document["days"], document["totals"]
    assert "whole" == document["way"]
    assert totals["queries"] == totals["answered"]
    assert rows[3]["replicas"]["mean"] < rows[12]["replicas"]["mean"]
    for row in rows:
        assert 1 <= row["replicas"]["min"] <= row["replicas"]["mean"] <= row["replicas"]["max"] <= 6
        assert row["paid_replicas"] >= row["replicas"]["mean"] - 1e-9
    assert totals["gpu_hours"] == pytest.approx(sum(row["paid_replicas"] for row in rows))
    bill = totals["gpu_hours"] * PRICE / COMPUTE_SHARE + RETRIEVAL * totals["user_queries"]
    assert bill == pytest.approx(totals["usd"])
    assert len(document["scaling"]) == totals["scalings"] > 2
    assert all(1 <= change["replicas"] <= 6 for change in document["scaling"])
    assert any(row["what"] == "fleet.autoscaler" for row in document["provenance"])


def test_the_same_seed_repeats_to_the_bit():
    given = scenario(**{"fleet.autoscaler": SCALED})
    assert simulate_days(given, days=1, seed=3).as_dict() == simulate_days(given, days=1, seed=3).as_dict()


@pytest.mark.parametrize(
    ("changes", "way", "because"),
    [
        ({}, "whole", "two replicas that are asked for their load"),
        ({"fleet.replicas": 1}, "streams", "one engine: nobody to ask"),
        ({"fleet.routing": "random"}, "streams", "replicas that know nothing of one another"),
        ({"fleet.routing": "random", "query.stages[0].calls": 2}, "whole", "a query's calls meet again"),
        ({"fleet.routing": "random", "traffic.timeout_s": 60}, "whole", "a deadline looks at the whole query"),
        ({"fleet.routing": "random", "fleet.autoscaler": SCALED}, "whole", "an autoscaler looks at all of them"),
        ({"query.stages[0].turns": 2}, "samples", "sessions are simulated at one rate"),
    ],
)
def test_how_days_are_simulated(changes, way, because):
    document = simulate_days(scenario(**{"traffic.peak_qps": 0.2, **changes}), days=1).as_dict()
    assert way == document["way"], because
    assert 24 == len(document["days"])
    assert 1.0 == document["totals"]["slo_hours_share"]


def test_hours_that_are_sampled_are_those_of_the_whole_run(monkeypatch, static):
    """Means within 3 % (900 queries and more); the busiest rate whole; all figures with their error."""
    monkeypatch.setattr(runs, "MOST_WHOLE", 4000)
    document = simulate_days(scenario(), days=1).as_dict()
    assert "samples" == document["way"]
    for row, expected in zip(document["days"], static.as_dict()["days"], strict=True):
        assert expected["ttft_ms"]["mean"] == pytest.approx(row["ttft_ms"]["mean"], rel=0.03)
        assert expected["utilisation"] == pytest.approx(row["utilisation"], rel=0.08)
        assert row["whole"] == (row["rate_qps"] == 1.0)
        assert row["slo"][0]["error_ms"] > 0
    assert static.as_dict()["totals"]["usd"] == pytest.approx(document["totals"]["usd"])


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "days", "key", "says"),
    [
        ({}, 0, "days", "must be 1 to 7"),
        ({}, 8, "days", "must be 1 to 7"),
        ({"traffic": {"arrivals": {"closed": {"concurrency": 4}}}}, 1, "traffic.arrivals", "open arrivals"),
        ({"hardware": ["l4-24gb", "h100-sxm-80gb"]}, 1, "hardware", "takes one value"),
        ({"traffic.peak_qps": None}, 1, "traffic.peak_qps", "is required"),
        ({"fleet.autoscaler": SCALED, "query.stages[0].turns": 3}, 1, "query.stages[0].turns", "sessions"),
        ({"fleet.autoscaler": SCALED, "engine.data_parallel_size": 2}, 1, "engine.data_parallel_size", "ranks"),
        ({"fleet.autoscaler": SCALED, "traffic.peak_qps": 60}, 7, "days", "at most 1e+07 calls; nearest: 2"),
        ({"fleet.autoscaler": SCALED, "traffic.peak_qps": 6000}, 1, "days", "nearest: a fleet and its load"),
    ],
)
def test_what_days_cannot_be(changes, days, key, says):
    with pytest.raises(InputError) as error:
        simulate_days(scenario(**changes), days=days)
    assert key == error.value.key
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("fleet", "key", "says"),
    [
        ({"autoscaler": {}}, "fleet.autoscaler", "exactly one of: target, schedule"),
        ({"autoscaler": {**SCALED, "schedule": [1] * 24}}, "fleet.autoscaler.schedule", "exactly one of"),
        ({"autoscaler": {"target": {"requests": 4}}}, "fleet.autoscaler.max_replicas", "required beside target"),
        ({"autoscaler": {"target": {}, "max_replicas": 2}}, "fleet.autoscaler.target", "exactly one of: queue"),
        (
            {"autoscaler": {"target": {"queue": 1, "requests": 4}, "max_replicas": 2}},
            "fleet.autoscaler.target.requests",
            "exactly one of",
        ),
        ({"autoscaler": {"schedule": [1] * 23}}, "fleet.autoscaler.schedule", "24"),
        ({"autoscaler": {"schedule": [5] * 24, "max_replicas": 4}}, "fleet.autoscaler.schedule", "max_replicas (=4)"),
        ({"autoscaler": SCALED, "min_replicas": 7}, "fleet.min_replicas", "may reach (=6)"),
        ({"autoscaler": SCALED, "replicas": 7}, "fleet.replicas", "may reach (=6)"),
        ({"autoscaler": SCALED, "spare_replicas": 1}, "fleet.spare_replicas", "must be 0"),
        ({"autoscaler": {**SCALED, "interval": 5}}, "fleet.autoscaler.interval", "nearest: interval_s"),
        ({"autoscaler": {**SCALED, "tolerance": 1.5}}, "fleet.autoscaler.tolerance", "< 1"),
    ],
)
def test_an_autoscaler_that_makes_no_sense(fleet, key, says):
    with pytest.raises(ScenarioError) as error:
        scenario(fleet=fleet)
    assert key == error.value.key
    assert says in str(error.value)


@pytest.mark.parametrize("answer", [simulate, capacity])
@pytest.mark.parametrize("key", ["fleet.autoscaler", "traffic.rates"])
def test_other_verbs_name_the_one_that_follows_the_hours(answer, key):
    changes: dict[str, Any] = {"fleet.autoscaler": SCALED}
    if key == "traffic.rates":
        changes = {"traffic": {"rates": {"file": "rates.csv"}}}
    with pytest.raises(UnsupportedError, match="simulate --days") as error:
        answer(scenario(**changes))
    assert key == error.value.key


# --- the verb ---


def command(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["simulate", *arguments])


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "bot.yaml"
    given = scenario(**{"traffic.peak_qps": 0.2, "fleet.autoscaler": SCALED}).as_dict()
    path.write_text(json.dumps(given), encoding="utf-8")
    return str(path)


def test_the_verb_prints_hours_and_draws_them(file, tmp_path):
    picture = tmp_path / "day.png"
    answer = command(file, "--days", "1", "--picture", str(picture))
    assert 0 == answer.exit_code, answer.output
    for words in ("every limit HOLDS in every hour", "Hour by hour", "23:00", "perfect", "static", "GPU-hours"):
        assert words in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 110
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_of_several_days_there_is_a_line_each(file):
    answer = command(file, "--days", "2", "--set", "slo={p95_ttft_ms: '<=1'}")
    assert 0 == answer.exit_code, answer.output
    assert "the limits FAIL in 48 of 48 hours" in answer.stdout
    assert "day 1, 00:00: p95 TTFT" in answer.stdout
    assert "and 40 more" in answer.stdout


def test_the_verb_gives_one_json_document(file):
    answer = command(file, "--days", "1", "--json", "--seed", "5")
    document = json.loads(answer.stdout)
    assert [1, 5, 24] == [document["schema_version"], document["seed"], len(document["days"])]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--picture", "day.png"), "--picture needs --days"),
        (("--days", "1", "--requests", "5000"), "--days is a length of its own"),
        (("--days", "1", "--duration", "60"), "--days is a length of its own"),
        (("--days", "9"), "1<=x<=7"),
        (("--days", "1", "--picture", "day.gif"), "must end in .png or .svg"),
    ],
)
def test_options_that_do_not_go_together(file, arguments, says):
    answer = command(file, *arguments)
    assert 2 == answer.exit_code
    assert says in answer.stderr
