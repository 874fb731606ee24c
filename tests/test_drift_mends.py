"""What drift says would make a line true again is applied to the scenario, planned anew and held against the fleet."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from drift_specimens import demo, demo_model, document, truth, window
from test_drift import LONGER, part

from planner.cli.options import changes_of
from planner.drift import drift, fleet_model
from planner.drift.mends import setting, significant
from planner.drift.queries import scaled
from planner.planned import planned
from planner.scenario import Scenario


def settings_of(mend: str) -> dict[str, Any]:
    """The keys and values that a shell would hand to planner plan."""
    words = shlex.split(mend)
    assert ["--set"] * (len(words) // 2) == words[::2]
    return changes_of(words[1::2])


@pytest.mark.parametrize(
    ("changes", "cause", "key", "because"),
    [
        ({"qps": 0.6}, "traffic", "traffic.peak_qps", "18 of 30 queries/s"),
        ({"usd": 1.5}, "price", "prices.gpu_hour_usd", "1.20 $ instead of the rate card's 0.80"),
        ({"hit_rate": 0.4}, "response_hit_rate", "query.response_cache.hit_rate", "there was no cache"),
        ({"values": LONGER}, "token_lengths", "query.stages[0].prompt_tokens", "390 and 52 tokens"),
        (
            {"values": {"query.stages[0].shared_prefix.tokens": 64}},
            "prefix_hit_rate",
            "query.stages[0].shared_prefix.tokens",
            "64 tokens are shared",
        ),
    ],
)
def test_a_mended_plan_no_longer_drifts(changes: dict[str, Any], cause: str, key: str, because: str) -> None:
    observed = truth(demo(), **changes)
    before = drift(demo(), observed, demo_model(), limit=0.05)
    assert part(before, cause)["holds"] is False
    values = settings_of(part(before, cause)["mend"])
    assert key in values, because
    mended = planned(document(**{name.replace(".", "__"): value for name, value in values.items()}))
    after = drift(mended, observed, fleet_model(mended), limit=0.05)
    assert 0.02 > abs(part(after, cause)["share"]), because
    assert part(after, cause)["mend"] is None


def test_step_speed_is_mended_by_a_calibration() -> None:
    found = drift(demo(), truth(demo(), qps=0.5, step=1.3), demo_model(), limit=0.05)
    assert "planner calibrate" in part(found, "step_speed")["mend"]
    assert "--set calibration=" in part(found, "step_speed")["mend"]


def test_utilisation_is_mended_by_the_replicas_wanted() -> None:
    found = drift(demo(), truth(demo(), qps=0.5), demo_model(), limit=0.05)
    assert part(found, "utilisation")["mend"] is None  # the fleet is the plan's, its traffic is not
    bigger = drift(demo(), truth(demo(), replicas=9), demo_model(), limit=0.05)
    assert "run 5 replicas instead of 9" == part(bigger, "utilisation")["mend"]


@pytest.mark.parametrize(
    ("values", "expected", "because"),
    [
        ({"traffic.peak_qps": 18.0}, "--set traffic.peak_qps=18", "a plain number needs no quotes"),
        (
            {"query.stages[0].prompt_tokens": {"lognormal": {"mean": 390.0, "cv": 0.8}}},
            "--set 'query.stages[0].prompt_tokens={lognormal: {mean: 390, cv: 0.8}}'",
            "brackets and blanks are a shell's own",
        ),
        ({"query.stages[0].shared_prefix": None}, "--set 'query.stages[0].shared_prefix=null'", "null takes it away"),
        ({}, None, "nothing to set"),
    ],
)
def test_settings_are_written_for_a_shell(values: dict[str, Any], expected: str | None, because: str) -> None:
    assert expected == setting(values), because
    if expected is not None:
        assert set(values) == set(settings_of(expected))


@pytest.mark.parametrize(
    ("given", "ratio", "expected", "because"),
    [
        (100, 1.3, 130, "a number stays one"),
        (1, 0.2, 1, "no call is without tokens"),
        ({"uniform": [10, 30]}, 2.0, {"uniform": [20, 60]}, "both ends"),
        ({"lognormal": {"mean": 40, "cv": 0.6}}, 0.5, {"lognormal": {"mean": 20.0, "cv": 0.6}}, "its cv stays"),
        (
            {"normal": {"mean": 40, "sd": 10, "min": 5, "max": 90}},
            1.5,
            {"normal": {"mean": 60.0, "sd": 15.0, "min": 7, "max": 135}},
            "bounds move along, outwards to whole tokens",
        ),
    ],
)
def test_distributions_keep_their_shape(given: Any, ratio: float, expected: Any, because: str) -> None:
    stage = {"name": "answer", "prompt_tokens": given, "output_tokens": 10}
    scenario = Scenario.from_dict({"version": 1, "model": "llama-3.1-8b", "query": {"stages": [stage]}})
    assert expected == scaled(scenario.query.stages[0].prompt_tokens, ratio), because


@pytest.mark.parametrize(("value", "expected"), [(18.0004, 18.0), (0.0123456, 0.0123), (98765.0, 98800.0)])
def test_mends_have_three_significant_digits(value: float, expected: float) -> None:
    assert expected == significant(value)


def test_owned_hardware_has_no_single_price_to_set() -> None:
    """Several keys make that price: none is named, and the note says so."""
    own = {
        "prices__gpu_hour_usd": None,
        "prices__own": {"capex_usd_per_gpu": 9000, "life_years": 4, "staff_usd_per_year": 8760},
        "prices__energy": {"usd_per_kwh": 0.1},
    }
    plan = planned(document(**own))
    assert 1.0 == pytest.approx(plan.staff_usd_per_hour)
    twice = replace(window(plan), cost_usd_per_hour=2 * (plan.usd_per_hour or 0))
    price = part(drift(plan, twice, fleet_model(plan), limit=0.05), "price")
    assert (None, False) == (price["mend"], price["holds"])
    assert "several keys" in price["note"]


def test_a_fleet_of_the_size_wanted_is_not_to_be_resized() -> None:
    """One replica carries an eighth of the load: the plan is what no longer holds."""
    found = drift(demo(), truth(demo(), qps=0.125, replicas=1), demo_model(), limit=0.05)
    assert {"planned": 5, "running": 1.0, "wanted": 1} == found.document["capacity"]["replicas"]
    assert "as many replicas run as this load wants" in part(found, "utilisation")["mend"]
