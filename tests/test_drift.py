"""A fleet whose truth is known is simulated, and drift must name what was changed and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from drift_specimens import demo, demo_model, document, truth, window

from planner import Scenario, capacity
from planner.drift import Drift, drift, fleet_model, own_limit
from planner.drift.model import MOST_KEPT, STEP, FleetModel, Simulated
from planner.drift.queries import Shape
from planner.errors import InputError
from planner.metrics.names import CAUSES
from planner.planned import planned

LONGER = {
    "query.stages[0].prompt_tokens": {"lognormal": {"mean": 390, "cv": 0.8}},
    "query.stages[0].output_tokens": {"lognormal": {"mean": 52, "cv": 0.6}},
}
NEGLIGIBLE = 0.02  # of the cost


@pytest.fixture(scope="module")
def model() -> FleetModel:
    return demo_model()


def simulated(model: FleetModel) -> Simulated:
    assert model.simulated is not None
    return model.simulated


def shares(found: Drift) -> dict[str, float]:
    return {part["cause"]: part["share"] for part in found.document["parts"]}


def part(found: Drift, cause: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in found.document["parts"] if row["cause"] == cause)
    return row


TRUTHS: list[tuple[dict[str, Any], dict[str, tuple[float, float]], str]] = [
    ({}, {}, "the plan's own fleet, under another seed"),
    ({"qps": 0.7}, {"traffic": (0.42, 0.44)}, "1 / 0.7 − 1"),
    ({"usd": 1.2}, {"price": (0.19, 0.21)}, "a fifth more for a GPU-hour"),
    ({"replicas": 7}, {"utilisation": (0.39, 0.41)}, "seven replicas for the work of five"),
    ({"values": LONGER}, {"token_lengths": (0.25, 0.45)}, "30 % more tokens, and the limit on TPOT binds sooner"),
    ({"step": 1.3, "replicas": 9}, {"step_speed": (0.5, 2.5)}, "steps of 1.3 times the time leave less slack"),
    ({"hit_rate": 0.3}, {"response_hit_rate": (-0.37, -0.34)}, "L(1, 1) · ln 0.7: less work, beside idle GPUs"),
    (
        {"values": {"query.stages[0].shared_prefix.tokens": 64}},
        {"prefix_hit_rate": (-0.35, -0.1)},
        "a fifth of the prompt is cached",
    ),
]


@pytest.mark.parametrize(("changes", "expected", "because"), TRUTHS)
def test_a_changed_truth_is_named_and_nothing_else(
    model: FleetModel, changes: dict[str, Any], expected: dict[str, tuple[float, float]], because: str
) -> None:
    """Utilisation is what the fleet's size leaves beside the work, so it moves against the work that changed."""
    found = drift(demo(), truth(demo(), **changes), model)
    whole = found.document["total"]["fraction"]
    assert math.isclose(math.fsum(shares(found).values()), whole, abs_tol=1e-9), because
    for cause, share in shares(found).items():
        low, high = expected.get(cause, (-NEGLIGIBLE, NEGLIGIBLE))
        if cause != "utilisation" or cause in expected:
            assert low <= share <= high, f"{cause} {share:.3f}: {because}"
    if not expected:
        assert abs(shares(found)["utilisation"]) <= NEGLIGIBLE


def test_causes_together_are_told_apart(model: FleetModel) -> None:
    """Each cause's factor is near what it is alone, whatever else moved."""
    found = drift(demo(), truth(demo(), LONGER, qps=0.8, step=1.1, usd=0.9), model)
    factors = {row["cause"]: row["factor"] for row in found.document["parts"]}
    alone = drift(demo(), truth(demo(), LONGER), model)
    assert part(alone, "token_lengths")["factor"] == pytest.approx(factors["token_lengths"], rel=0.02)
    assert 1 / 0.8 == pytest.approx(factors["traffic"])
    assert 0.9 == pytest.approx(factors["price"])
    assert 1.0 == factors["prefix_hit_rate"]
    base, slow = simulated(model).capacity_qps(Shape(), 1.0, 5), simulated(model).capacity_qps(Shape(), 1.1, 5)
    assert base is not None
    assert slow is not None
    assert base / slow == pytest.approx(factors["step_speed"], rel=0.12)  # longer queries leave other slack


@pytest.mark.parametrize("step", [0.8, 1.15, 1.6])
def test_step_time_is_found_from_the_mean_itl(model: FleetModel, step: float) -> None:
    """At a load that the slowed fleet carries; ITL is simulated under another seed than the search uses."""
    note = part(drift(demo(), truth(demo(), qps=0.5, step=step, replicas=6), model), "step_speed")["note"]
    found = float(note.split("takes ")[1].split(" times")[0])
    assert step == pytest.approx(found, rel=0.02)


def test_the_work_of_an_unchanged_query_repeats_to_a_per_cent(model: FleetModel) -> None:
    """The ratio of two capacities, asked of other seeds: what attribution cannot tell from chance."""
    known = simulated(model)
    changed = Shape(1.02**10, 1.02**10)
    ratios = []
    for first in (100, 200, 300):
        other = Simulated(**{**vars(known), "seeds": tuple(range(first, first + 4)), "memory": {}})
        base, longer = other.capacity_qps(Shape(), 1.0, 5), other.capacity_qps(changed, 1.0, 5)
        assert base is not None
        assert longer is not None
        ratios.append(base / longer)
    assert max(ratios) / min(ratios) < 1.02


def test_answers_are_remembered(model: FleetModel) -> None:
    """Conditions within a cell of the grid are asked for once: nothing new is kept of the capacities."""
    observed = truth(demo(), LONGER)
    first = drift(demo(), observed, model)
    before = {key for key in simulated(model).memory if key[0] in ("capacity", "wanted", "prefix")}  # type: ignore[index]
    again = drift(demo(), observed, model)
    after = {key for key in simulated(model).memory if key[0] in ("capacity", "wanted", "prefix")}  # type: ignore[index]
    assert before == after
    assert first.document == again.document
    assert 0.0 < STEP < 0.02


def test_the_answer_longest_unused_is_forgotten(model: FleetModel) -> None:
    """A poller meets new conditions for months: the memory stays bounded, what is asked again stays."""
    small = Simulated(**{**vars(simulated(model)), "memory": {}})
    for number in range(MOST_KEPT + 50):
        small.kept(("number", number), lambda: number)  # noqa: B023  # called at once
        assert "first" == small.kept("asked again", lambda: "first")
    assert MOST_KEPT == len(small.memory)
    assert ("number", 0) not in small.memory
    assert "first" == small.kept("asked again", lambda: "made anew")


# --- what the fleet carries ---


def test_capacity_follows_the_replicas_that_run(model: FleetModel) -> None:
    few, many = (drift(demo(), truth(demo(), replicas=count), model).document["capacity"] for count in (5, 8))
    assert few["qps"] * 1.5 < many["qps"] < few["qps"] * 1.8
    assert many["headroom_fraction"] == pytest.approx(many["qps"] / 30.0 - 1)
    assert {"planned": 5, "running": 8.0, "wanted": 5} == many["replicas"]


def test_spare_replicas_are_not_counted_on() -> None:
    """Six run, one of them spare: they carry what five do."""
    spare = planned(document(fleet__spare_replicas=1))
    assert (6, 5) == (spare.replicas, spare.serving)
    five, six = (drift(plan, window(plan), fleet_model(plan)).document["capacity"]["qps"] for plan in (demo(), spare))
    assert five == pytest.approx(six)


def test_the_point_answer_is_near_the_one_with_confidence(model: FleetModel) -> None:
    """`capacity` accepts a load by the upper end of an interval, so that it stays below the point estimate."""
    sure = capacity(demo().pinned.with_values({"fleet.replicas": 5}), requests=4000).as_dict()["max_rate_qps"]
    point = simulated(model).capacity_qps(Shape(), 1.0, 5)
    assert point is not None
    assert 0.9 * point < sure < 1.02 * point


def test_slower_steps_want_more_replicas_than_run(model: FleetModel) -> None:
    found = drift(demo(), truth(demo(), step=1.2), model)
    assert found.document["capacity"]["replicas"]["wanted"] > 5
    assert found.document["capacity"]["headroom_fraction"] < 0
    assert "THE LOAD IS MORE THAN THE FLEET CARRIES" in str(found)


def test_savings_are_of_what_the_fleet_would_cost_without(model: FleetModel) -> None:
    """A response cache that answers 30 % spares 30 / 70 of the bill of 4 $/h."""
    found = drift(demo(), truth(demo(), {"query.stages[0].shared_prefix.tokens": 96}, hit_rate=0.3), model)
    prefix, response = found.document["savings"]
    assert {"cache": "response", "fraction": 0.3, "usd_per_hour": 4.0 * 3 / 7} == pytest.approx(response)
    assert 0.1 < prefix["fraction"] < 0.5
    assert prefix["usd_per_hour"] == pytest.approx(4.0 * prefix["fraction"] / (1 - prefix["fraction"]))


# --- the limit ---


def test_the_limit_is_the_plans_own_confidence() -> None:
    """The upper end of the mean ITL's 80 % band; without bands, 10 %."""
    at_peak = demo().at_peak
    band = at_peak["band80"]["itl_ms.mean"]
    assert own_limit(demo()) == pytest.approx(band[1] / at_peak["itl_ms"]["mean"] - 1)
    bare = demo().__class__(**{**vars(demo()), "at_peak": {"itl_ms": {"mean": 40.0}}})
    narrow = demo().__class__(**{**vars(demo()), "at_peak": at_peak | {"band80": {"itl_ms.mean": [1.0, 1.001]}}})
    assert 0.10 == own_limit(bare) == own_limit(narrow)


def test_compensating_parts_are_not_within_a_limit(model: FleetModel) -> None:
    """Longer queries on a fleet worked harder cost the same, and have used up its headroom."""
    found = drift(demo(), truth(demo(), LONGER), model, limit=0.1)
    assert 0.0 == pytest.approx(found.document["total"]["fraction"], abs=1e-9)
    assert not found.within
    broken = [row["cause"] for row in found.document["parts"] if row["holds"] is False]
    assert ["token_lengths", "utilisation"] == broken


@pytest.mark.parametrize("limit", [0.0, -0.1, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(model: FleetModel, limit: float) -> None:
    with pytest.raises(InputError, match="limit"):
        drift(demo(), window(demo()), model, limit=limit)


def test_a_model_of_another_plan_is_refused(model: FleetModel) -> None:
    other = demo(traffic__peak_qps=40)
    with pytest.raises(ValueError, match="another plan"):
        drift(other, window(other), model)


def test_every_cause_has_its_part_in_order(model: FleetModel) -> None:
    found = drift(demo(), window(demo()), model)
    assert list(CAUSES) == [row["cause"] for row in found.document["parts"]]
    assert Scenario.from_dict(demo().document["scenario"]).name == found.document["scenario_name"]
