"""The fleets that days are held against: a perfect scaler that follows every step, a static one, all on one basis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.days import simulate_days
from planner.days.answer import _remarks
from planner.days.bills import Basis, beside_static, hour_usd, perfect_document
from planner.days.perfect import Level, Perfect, _hours
from planner.economics import Commitment
from planner.errors import UnsupportedError
from planner.scenario import Scenario
from planner.simulation.autoscaler import Wishes
from planner.summary.day_facts import worth
from planner.workload import Rates, Reaching
from tests.gpu_hours import mix_prices, own_prices

PRICE, RETRIEVAL = 2.0, 0.001
SCALED = {"target": {"requests": 4}, "max_replicas": 4}


def scenario(base: Path | None = None, **values: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "a bot",
        "model": "llama-3.1-8b",
        "hardware": "l4-24gb",
        "engine": {"quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
        "traffic": {"peak_qps": 1.0},
        "query": {
            "stages": [{"name": "answer", "prompt_tokens": 200, "output_tokens": {"uniform": [2, 90]}}],
            "response_cache": {"hit_rate": 0.2, "usd_per_hit": 0.0001, "usd_per_hour": 0.5},
        },
        "slo": {"p95_ttft_ms": "<=800", "p95_tpot_ms": "<=60"},
        "prices": {"gpu_hour_usd": PRICE, "compute_share": 0.8, "retrieval_usd_per_query": RETRIEVAL},
    }
    return Scenario.from_dict(data, base).with_values(values)


def recorded(folder: Path, rows: list[tuple[float, float]], **values: Any) -> Scenario:
    text = "\n".join(["seconds,qps", *(f"{at_s},{qps}" for at_s, qps in rows)])
    (folder / "rates.csv").write_text(text, encoding="utf-8")
    return scenario(folder, **{"traffic": {"rates": {"file": "rates.csv"}}, **values})


# --- steps within the hour ---

# 1 query/s needs a replica, 4 need 2, 10 need 6; between them along a line, rounded up.
LEVELS = [Level(1.0, 1.0, 1), Level(4.0, 4.0, 2), Level(10.0, 10.0, 6)]


@pytest.mark.parametrize(
    ("start_s", "qps", "share", "floor", "expected", "because"),
    [
        ([0.0], [4.0], [1.0], 1, [2.0, 2.0], "an even load"),
        ([0.0, 900.0], [10.0, 1.0], [1.0, 1.0], 1, [2.25, 1.0], "a quarter-hour of 6, the rest of 1"),
        ([0.0, 1800.0, 5400.0], [4.0, 10.0, 1.0], [1.0] * 3, 1, [4.0, 3.5], "a step across the full hour"),
        ([0.0], [5.0], [1.0], 1, [3.0, 3.0], "2 + 4/6 replicas between two levels: 3"),
        ([0.0], [10.0], [0.4], 1, [2.0, 2.0], "what the response cache answers needs nobody"),
        ([0.0, 3600.0], [4.0, 0.0], [1.0, 1.0], 1, [2.0, 1.0], "without load the floor alone"),
        ([0.0, 3600.0], [4.0, 1.0], [1.0, 1.0], 3, [3.0, 3.0], "never below the floor"),
    ],
)
def test_a_perfect_scaler_follows_the_steps(start_s, qps, share, floor, expected, because):
    load = Reaching(Rates(np.array(start_s), np.array(qps), 7200.0), np.array(share)).hourly()
    found = Perfect(tuple(LEVELS), _hours(load, LEVELS, floor))
    assert expected == pytest.approx([found.mean(0), found.mean(1)]), because
    assert [1.0, 1.0] == pytest.approx([sum(part for _, part in hour) for hour in found.hours])


def test_static_is_sized_for_the_largest_step_and_not_for_the_hours_mean(tmp_path):
    """Ten minutes of each hour at 12 queries/s, the rest at 0.5: the mean is a fifth of the most."""
    rows = [(3600.0 * hour + at_s, qps) for hour in range(24) for at_s, qps in ((0.0, 12.0), (600.0, 0.5))]
    longer = {"query.stages[0].output_tokens": {"uniform": [200, 400]}, "fleet.replicas": 3}
    document = simulate_days(recorded(tmp_path, rows, **longer), days=1).as_dict()
    perfect, row = document["perfect"], document["days"][7]
    levels = {level["rate_qps"]: level["replicas"] for level in perfect["levels"]}
    assert [0.5, 12.0] == pytest.approx(list(levels))
    assert [0.4, 9.6] == pytest.approx([level["reaching_qps"] for level in perfect["levels"]])
    few, many = levels.values()
    assert many > few
    assert many == perfect["static"]["replicas"] == perfect["peak_replicas"] == row["perfect_replicas"]
    assert [few, many] == [row["perfect"]["min"], row["perfect"]["max"]]
    mean = many / 6 + few * 5 / 6
    assert mean == pytest.approx(row["perfect"]["mean"]) == pytest.approx(perfect["mean_replicas"])
    assert 24 * mean == pytest.approx(perfect["gpu_hours"])


# --- one basis ---


@pytest.mark.parametrize(
    ("prices", "because"),
    [
        ({"gpu_hour_usd": PRICE}, "a plain price"),
        (
            {
                "commitments": [
                    {"kind": "reserved", "share": 0.5, "gpu_hour_usd": 1.0},
                    {"kind": "on_demand", "share": 0.5, "gpu_hour_usd": 3.0},
                ]
            },
            "half of it reserved",
        ),
    ],
)
def test_a_fleet_that_runs_as_the_static_one_pays_as_the_static_one(prices, because):
    """As many replicas as the static fleet, all the time: one bill, with retrieval and the response cache in both."""
    given = scenario(**{"prices": {**prices, "retrieval_usd_per_query": RETRIEVAL}, "traffic.peak_qps": 6.0})
    replicas = simulate_days(given, days=1).as_dict()["perfect"]["static"]["replicas"]
    document = simulate_days(given.with_values({"fleet.replicas": replicas}), days=1).as_dict()
    assert document["totals"]["usd"] == pytest.approx(document["perfect"]["static"]["usd"]), because
    assert document["totals"]["usd"] == pytest.approx(document["perfect"]["usd"]), because
    users = document["totals"]["user_queries"]
    bought = users * (0.8 * RETRIEVAL + 0.2 * 0.0001) + 24 * 0.5
    assert bought == pytest.approx(document["totals"]["bought_usd"])
    assert None is document["beside_static"]


MIX = mix_prices(Commitment("reserved", 0.5, 1.0), Commitment("on_demand", 0.5, 3.0))


@pytest.mark.parametrize(
    ("prices", "booked", "most", "usd", "because"),
    [
        (MIX, [(8, 1.0)], 8, 4 * 1.0 + 4 * 3.0, "all of it: half reserved, half on demand"),
        (MIX, [(6, 1.0)], 8, 4 * 1.0 + 2 * 3.0, "what is reserved is that of 8 for 6 too"),
        (MIX, [(2, 1.0)], 8, 4 * 1.0, "what is reserved is paid for whatever runs"),
        (MIX, [(2, 0.5), (8, 0.5)], 8, 4 * 1.0 + 2 * 3.0, "beyond it by the step, not by the mean"),
        (own_prices(), [(8, 1.0)], 8, None, "hardware that is owned is owned whatever runs"),
    ],
)
def test_an_hour_of_replicas(prices, booked, most, usd, because):
    basis = Basis(prices, 1, most, (0.25,))
    found = hour_usd(basis, 0, booked)
    assert found is not None
    if usd is not None:
        assert usd + 0.25 == pytest.approx(found), because
    else:
        half = hour_usd(basis, 0, [(booked[0][0] / 2, 1.0)])
        assert half is not None
        assert 0.5 * found < half < found, because


def test_perfect_and_static_have_the_contracts_of_the_fleet_that_was_run():
    """Of 8 replicas 4 are reserved; the perfect scaler runs 2, then 6. Static is 6, all the time."""
    perfect = Perfect((), (((2, 1.0),), ((6, 1.0),)))
    found = perfect_document(perfect, Basis(MIX, 2, 8, (1.0, 2.0)))
    assert 2 * (4.0 + 4.0 + 2 * 3.0) + 3.0 == pytest.approx(found["usd"])
    assert 2 * (2 * (4.0 + 2 * 3.0)) + 3.0 == pytest.approx(found["static"]["usd"])
    larger = perfect_document(perfect, Basis(MIX, 2, 4, (1.0, 2.0)))
    assert 2 * 2 * (3 * 1.0 + 3 * 3.0) + 3.0 == pytest.approx(larger["static"]["usd"])


# --- what it is worth ---


def document(ours: float, theirs: float, best: float, missed: int = 0, usd: bool = True) -> dict[str, Any]:
    def fleet(paid: float) -> dict[str, Any]:
        return {"usd": paid if usd else None, "gpu_hours": paid}

    found: dict[str, Any] = {
        "totals": fleet(ours),
        "perfect": {**fleet(best), "static": {"replicas": 7, **fleet(theirs)}},
    }
    rows = [{"slo_met": hour >= missed} for hour in range(24)]
    return {**found, "days": rows, "beside_static": beside_static(found["totals"], found["perfect"])}


@pytest.mark.parametrize(
    ("given", "says", "not_said"),
    [
        (document(90, 100, 60), "costs 10.0 % less than a static fleet of 7 replicas", "MORE"),
        (document(90, 100, 60), "$90.00 instead of $100.00. That is 25.0 % of what a perfect scaler would save", "but"),
        (document(120, 100, 60), "costs 20.0 % MORE than a static fleet of 7 replicas", "That is"),
        (document(120, 100, 60), "A perfect scaler would pay $60.00", "but the limits"),
        (document(100, 100, 60), "costs as much as a static fleet", "instead of"),
        (document(100, 100, 100), "A perfect scaler would save nothing", "That is"),
        (document(90, 100, 60, missed=3), "but the limits fail in 3 hours, and the static fleet is sized", "MORE"),
        (document(90, 100, 60, usd=False), "90 GPU-hours instead of 100 GPU-hours", "$"),
        ({**document(90, 100, 60), "beside_static": None}, "", "static"),
    ],
)
def test_the_answer_says_what_the_autoscaler_is_worth(given, says, not_said):
    text = worth(given)
    assert says in text
    assert not_said not in text


def test_a_costly_autoscaler_is_said_to_be_one():
    """Told to run four replicas whatever comes, of which one would do."""
    scaler = {"schedule": [4] * 24}
    answer = simulate_days(scenario(**{"fleet.autoscaler": scaler}), days=1)
    found = answer.as_dict()["beside_static"]
    assert found["more_share"] > 0.5
    assert None is found["of_perfect_saving_share"]
    assert "MORE than a static fleet of 1 replica" in " ".join(str(answer).split())


@pytest.mark.parametrize(
    ("wishes", "says", "because"),
    [
        (Wishes(), [], "nothing was wanted"),
        (Wishes(((0.0, 2), (900.0, 3))), [], "a start of 300 s is done before the next wish"),
        (
            Wishes(((0.0, 2), (100.0, 3), (200.0, 2))),
            ["longer than the 100 s that lie between two changes"],
            "it is not",
        ),
        (Wishes(given_up=3), ["stopped before they served: 3 (paid for, of no use)"], "nobody waited for them"),
        (Wishes(unfinished=2), ["still started when the last hour ended, and never served: 2"], "the run is over"),
        (Wishes(held_back=5), ["no place beside those that still drained: 5"], "no place"),
    ],
)
def test_remarks_on_what_came_of_the_wishes(wishes, says, because):
    found = _remarks(scenario(**{"fleet.startup_s": 300}), wishes)
    assert len(says) == len(found), because
    for part, remark in zip(says, found, strict=True):
        assert part in remark


# --- admission ---


@pytest.mark.parametrize("changes", [{"fleet.routing": "random"}, {"fleet.autoscaler": SCALED}])
def test_who_finds_no_room_is_rejected_hour_by_hour(changes):
    """Room for three each, one replica or up to four of them; an hour of 9 queries/s, the others of 0.45."""
    day = [0.05] * 10 + [1.0] + [0.05] * 13
    room = {"fleet.admission": {"max_requests_per_replica": 3}, "query.response_cache": None}
    given = scenario(**{"traffic.peak_qps": 9.0, "traffic.day": day, **room, **changes})
    answer = simulate_days(given, days=1)
    rows, totals = answer.as_dict()["days"], answer.as_dict()["totals"]
    assert "whole" == answer.as_dict()["way"]
    assert all(row["queries"] == row["answered"] + row["rejected"] for row in rows)
    assert rows[10]["rejected"] > 0.1 * rows[10]["queries"]
    assert sum(row["rejected"] for row in rows) == totals["rejected"]
    assert not rows[10]["slo_met"]
    assert "found no room (fleet.admission), and failed" in " ".join(str(answer).split())


def test_admission_beside_data_parallel_ranks_is_refused_by_name():
    given = scenario(**{"fleet.admission": {"max_requests_per_replica": 3}, "engine.data_parallel_size": 2})
    with pytest.raises(UnsupportedError) as error:
        simulate_days(given, days=1)
    assert "fleet.admission" == error.value.key


def test_failures_beside_days_are_refused_by_name():
    given = scenario(**{"fleet.failures": [{"stop": {"replicas": 1, "at_s": 10}}], "fleet.replicas": 2})
    with pytest.raises(UnsupportedError) as error:
        simulate_days(given, days=1)
    assert "fleet.failures" == error.value.key
