"""The `uncertainty` key: what it means when little is given, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner import Scenario
from planner.errors import ScenarioError
from planner.scenario import Uncertainty, dotted_keys

GIVEN: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 60.0},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 600, "output_tokens": 120}]},
    "slo": {"mean_tpot_ms": "<=20"},
    "prices": {"gpu_hour_usd": 3.0},
    "revenue": {"ads": {"usd_per_query": 0.002}},
}
TRIANGLE = [
    {"between": ["peak_qps", "revenue"], "rho": 0.9},
    {"between": ["peak_qps", "price"], "rho": 0.9},
    {"between": ["revenue", "price"], "rho": -0.9},
]
CVS = {"peak_qps_cv": 0.1, "revenue_cv": 0.1, "price_cv": 0.1}


def asked(uncertainty: Any, **changes: Any) -> Uncertainty:
    found = Scenario.from_dict(GIVEN | changes | {"uncertainty": uncertainty}).uncertainty
    assert found is not None
    return found


def test_without_a_cv_the_step_time_alone_varies() -> None:
    assert asked({}).varied == ("step_time",)
    assert asked({}).samples == 2000


def test_a_cv_of_zero_is_an_input_that_does_not_vary() -> None:
    assert asked({"step_time_cv": 0, "peak_qps_cv": 0.2, "price_cv": 0}).varied == ("peak_qps",)


def test_correlations_stand_in_the_order_of_the_inputs_that_vary() -> None:
    given = asked(CVS | {"correlations": [{"between": ["revenue", "peak_qps"], "rho": 0.3}]})
    assert given.varied == ("step_time", "peak_qps", "revenue", "price")
    expected = np.eye(4)
    expected[1, 2] = expected[2, 1] = 0.3
    assert given.correlation_matrix() == pytest.approx(expected)


def test_a_perfect_correlation_is_possible() -> None:
    """A least eigenvalue of exactly 0 is still positive semi-definite, whatever rounding says."""
    given = asked(CVS | {"correlations": [{"between": ["revenue", "price"], "rho": 1}]})
    assert np.linalg.eigvalsh(given.correlation_matrix())[0] == pytest.approx(0.0, abs=1e-12)


def test_the_scenario_reads_its_own_uncertainty_back() -> None:
    scenario = Scenario.from_dict(GIVEN | {"uncertainty": CVS | {"samples": 300.0, "correlations": TRIANGLE[:1]}})
    assert Scenario.from_dict(scenario.as_dict()) == scenario
    assert scenario.with_values({"peak_qps_cv": "0.5"}).uncertainty.cv("peak_qps") == 0.5  # type: ignore[union-attr]


def test_the_schema_lists_the_keys() -> None:
    assert {"uncertainty.samples", "uncertainty.step_time_cv", "uncertainty.correlations[].rho"} <= set(dotted_keys())


REFUSED: list[tuple[str, Any, str]] = [
    ("a cv below 0", {"peak_qps_cv": -0.1}, "uncertainty.peak_qps_cv (=-0.1): must be >= 0"),
    ("a cv of nothing known", {"peak_qps_cv": float("inf")}, "uncertainty.peak_qps_cv (=inf): must be"),
    ("a cv that is no number", {"price_cv": float("nan")}, "uncertainty.price_cv (=nan): must be"),
    ("a cv as per cent", {"price_cv": 20}, "uncertainty.price_cv (=20): must be <= 10"),
    ("few draws", {"samples": 99}, "uncertainty.samples (=99): must be >= 100"),
    ("half a draw", {"samples": 100.5}, "uncertainty.samples (=100.5): must be a whole number"),
    ("nothing varies", {"step_time_cv": 0, "price_cv": 0}, "uncertainty.step_time_cv (=0): nothing varies"),
    ("a misspelt key", {"peak_qp_cv": 0.1}, "uncertainty.peak_qp_cv (=0.1): unknown key; nearest: peak_qps_cv"),
    (
        "an unknown input",
        CVS | {"correlations": [{"between": ["price", "revnue"], "rho": 0}]},
        "uncertainty.correlations[0].between[1] (=revnue): must be one of",
    ),
    (
        "an input with itself",
        CVS | {"correlations": [{"between": ["price", "price"], "rho": 0.5}]},
        "uncertainty.correlations[0].between (=[price, price]): must name two different inputs",
    ),
    (
        "three inputs",
        CVS | {"correlations": [{"between": ["price", "revenue", "peak_qps"], "rho": 0.5}]},
        "uncertainty.correlations[0].between",
    ),
    (
        "more than all",
        CVS | {"correlations": [{"between": ["price", "revenue"], "rho": 1.1}]},
        "uncertainty.correlations[0].rho (=1.1): must be <= 1",
    ),
    (
        "a pair twice",
        CVS | {"correlations": [TRIANGLE[0], {"between": ["revenue", "peak_qps"], "rho": 0.1}]},
        "uncertainty.correlations[1].between (=[revenue, peak_qps]): this pair is given twice",
    ),
    (
        "an input that does not vary",
        {"price_cv": 0.1, "correlations": [{"between": ["price", "revenue"], "rho": 0.5}]},
        "uncertainty.correlations[0].between (=[price, revenue]): revenue does not vary: give revenue_cv > 0",
    ),
    (
        "like both, and these unlike each other",
        CVS | {"correlations": TRIANGLE},
        "uncertainty.correlations (=[{between: [peak_qps, revenue], rho: 0.9}, {between: [peak_…): "
        "cannot hold together: the matrix is not positive semi-definite (least eigenvalue -0.8)",
    ),
]


@pytest.mark.parametrize(("uncertainty", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_drawn_is_refused_in_one_line(uncertainty: Any, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        asked(uncertainty)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_revenue_varies_only_where_there_is_some() -> None:
    bare = {key: value for key, value in GIVEN.items() if key != "revenue"}
    with pytest.raises(ScenarioError, match=r"^uncertainty\.revenue_cv \(=0\.1\): there is no revenue to vary"):
        Scenario.from_dict(bare | {"uncertainty": {"revenue_cv": 0.1}})


def test_a_price_varies_only_where_there_is_one() -> None:
    bare = {key: value for key, value in GIVEN.items() if key != "prices"}
    with pytest.raises(ScenarioError, match=r"^uncertainty\.price_cv \(=0\.1\): there is no price to vary"):
        Scenario.from_dict(bare | {"uncertainty": {"price_cv": 0.1}})


def test_a_closed_loop_has_no_rate_that_could_vary() -> None:
    with pytest.raises(ScenarioError, match="needs open arrivals, whose rate can vary; these are closed"):
        asked({"step_time_cv": 0.1}, traffic={"arrivals": {"closed": {"concurrency": 4}}})


def test_samples_of_a_file_cannot_be_made_longer() -> None:
    samples = {"histogram": {"file": "lengths.csv", "column": "out"}}
    query = {"stages": [{"name": "answer", "prompt_tokens": 600, "output_tokens": samples}]}
    with pytest.raises(ScenarioError, match=r"^uncertainty\.output_tokens_cv \(=0\.1\): the output tokens of stage"):
        asked({"output_tokens_cv": 0.1}, query=query)
    assert asked({"peak_qps_cv": 0.1}, query=query).varied == ("step_time", "peak_qps")
