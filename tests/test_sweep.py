"""A sweep is one plan for every point, with the points that fail kept."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from planner.cli.app import cli
from planner.cli.sweep import split_values
from planner.errors import MisfitError, ScenarioError, UnknownNameError, UnsupportedError
from planner.report.charts import image, sweep_chart
from planner.report.tables import sweep_table
from planner.scenario import Scenario
from planner.studies import sweep as room
from planner.studies.sweep import sweep

SCENARIO = Scenario.from_dict(
    {
        "version": 1,
        "name": "sweep of a stand-in",
        "model": "llama-3.1-8b",
        "hardware": "h100",
        "traffic": {"peak_qps": 5},
        "query": {"stages": [{"name": "answer", "prompt_tokens": 100, "output_tokens": 50}]},
        "slo": {"p99_ttft_ms": "<=1000"},
    }
)


@dataclass
class _Plan:
    document: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return self.document


@pytest.fixture
def plans(monkeypatch):
    """A stand-in for `plan`: one GPU for every 10 queries/s, at most 8; an A10G holds no replica at all."""
    noted: list[dict[str, Any]] = []

    def plan(scenario, **options):
        rate, hardware = scenario.traffic.peak_qps, scenario.hardware[0]
        noted.append({"rate": rate, "hardware": hardware, **options})
        if hardware == "a10g-24gb":
            raise MisfitError("hardware", hardware, "does not hold the model")
        gpus = int(np.ceil(rate / 10))
        if gpus > 8:
            reasons = ["p99_ttft_ms is 2000 > 1000", None, "does not fit"]
            return _Plan({"feasible": False, "alternatives": [{"reason": reason} for reason in reasons]})
        return _Plan(
            {
                "feasible": True,
                "model": {"name": "llama-3.1-8b", "hf_repo": None},
                "fleet": {
                    "hardware": hardware,
                    "gpus": gpus,
                    "replicas": gpus,
                    "engine": {"quantization": "bf16", "tensor_parallel_size": 1},
                },
                "at_peak": {"utilisation": 0.5},
                "cost": {"usd_per_hour": 3.0 * gpus, "usd_per_query": 0.001 * gpus},
                "revenue": {"usd_per_query": 0.04},
                "margin": {"usd_per_query": 0.04 - 0.001 * gpus, "fraction": 0.9, "cost_share_of_revenue": 0.1},
            }
        )

    monkeypatch.setattr(room, "plan", plan)
    return noted


def test_every_pair_of_values_is_planned_with_the_same_seed_the_first_key_outermost(plans):
    result = sweep(SCENARIO, {"peak_qps": [20, 40], "hardware": ["h100", "h200"]}, seed=3, requests=9)
    assert [(20, "h100"), (20, "h200"), (40, "h100"), (40, "h200")] == [(at["rate"], at["hardware"]) for at in plans]
    assert {(3, 9)} == {(at["seed"], at["requests"]) for at in plans}
    assert [2, 2, 4, 4] == [point["gpus"] for point in result.as_dict()["points"]]
    assert {"traffic.peak_qps": 20, "hardware": "h200"} == result.as_dict()["points"][1]["values"]


def test_a_point_where_nothing_fits_stays_with_its_reason(plans):
    points = sweep(SCENARIO, {"peak_qps": [20, 400]}).as_dict()["points"]
    assert [True, False] == [point["feasible"] for point in points]
    assert (None, None, "p99_ttft_ms is 2000 > 1000 (and 1 more candidates)") == (
        points[1]["gpus"],
        points[1]["usd_per_query"],
        points[1]["reason"],
    )
    assert points[0]["reason"] is None


def test_the_only_candidate_that_cannot_work_is_a_point_where_nothing_fits(plans):
    point = sweep(SCENARIO, {"hardware": ["a10g-24gb"]}).as_dict()["points"][0]
    assert (False, "hardware (=a10g-24gb): does not hold the model") == (point["feasible"], point["reason"])


@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("prices.gpu_hour_usd.rate_card", "spot", "has no offer for h200-sxm-141gb"),
        UnsupportedError("hardware", "h200-sxm-141gb", "is not modelled"),
    ],
)
def test_a_point_without_price_or_model_stays_with_its_reason(monkeypatch, error):
    def plan(scenario, **_):
        if scenario.hardware == ("h200",):
            raise error
        return _Plan({"feasible": False, "alternatives": []})

    monkeypatch.setattr(room, "plan", plan)
    points = sweep(SCENARIO, {"hardware": ["h100", "h200"]}).as_dict()["points"]
    assert [(False, None), (False, str(error))] == [(point["feasible"], point["reason"]) for point in points]


REFUSED = [
    ({}, "vary", "nothing to vary"),
    ({"peak_qps": []}, "traffic.peak_qps", "no value"),
    ({"a": [1], "b": [1], "c": [1]}, "vary", "three keys"),
    ({"peak_qps": [1], "traffic.peak_qps": [2]}, "vary", "the same key by two names"),
    ({"peak_qps": [20, -1]}, "traffic.peak_qps", "a value out of range"),
    ({"peak_qsp": [20]}, "peak_qsp", "an unknown key"),
]


@pytest.mark.parametrize(("vary", "key", "because"), REFUSED)
def test_bad_input_is_refused_before_the_first_plan(plans, vary, key, because):
    with pytest.raises(ScenarioError) as caught:
        sweep(SCENARIO, vary)
    assert key == caught.value.key, because
    assert [] == plans


def test_a_misspelt_gpu_is_refused_before_the_first_plan(plans):
    with pytest.raises(UnknownNameError, match="h1000"):
        sweep(SCENARIO, {"hardware": ["h100", "h1000"]})
    assert [] == plans


def test_progress_counts_points_and_names_the_values(plans):
    told = []
    sweep(SCENARIO, {"peak_qps": [20, 40]}, progress=lambda *step: told.append(step))
    assert [("planning peak_qps=20", 0, 2), ("planning peak_qps=40", 1, 2)] == told


def test_text_values_are_read_as_yaml_once(plans):
    document = sweep(SCENARIO, {"peak_qps": ["20", "4e1"], "name": ['"7"']}).as_dict()
    assert [[20, 40.0], ["7"]] == [varied["values"] for varied in document["vary"]]


def test_the_table_has_a_column_for_each_varied_key_and_one_row_a_point(plans):
    table = sweep(SCENARIO, {"peak_qps": [20, 40, 400]}).table()
    assert [20, 40, 400] == table["traffic.peak_qps"].tolist()
    assert [True, True, False] == table["feasible"].tolist()
    assert table["gpus"].isna().tolist() == [False, False, True]


def test_the_printed_table_shows_fleet_money_and_reasons(plans):
    columns, rows = sweep_table(sweep(SCENARIO, {"peak_qps": [20, 400]}).as_dict())
    shown = [dict(zip(columns, row, strict=True)) for row in rows]
    assert ("20", "2", "$0.00200", "$0.0380", "50%", "") == tuple(
        shown[0][name] for name in ("peak_qps", "GPUs", "USD/query", "margin USD/query", "busy", "")
    )
    assert ("-", "no fleet fits: p99_ttft_ms is 2000 > 1000 (and 1 more candidates)") == (
        shown[1]["GPUs"],
        shown[1][""],
    )


# --- the picture ---


def _lines(figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    """Label → (x, y) of a panel's lines; crosses are collected under "x"."""
    found: dict[str, tuple[list[float], list[float]]] = {"x": ([], [])}
    for line in figure.axes[panel].lines:
        at = list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))
        if line.get_marker() == "x":
            found["x"] = (found["x"][0] + at[0], found["x"][1] + at[1])
        else:
            found[str(line.get_label())] = at
    return found


def test_the_chart_shows_gpus_and_cost_in_order_of_the_key_and_a_cross_where_nothing_fits(plans):
    figure = sweep_chart(sweep(SCENARIO, {"peak_qps": [400, 40, 20]}).as_dict())
    gpus, cost = _lines(figure, 0), _lines(figure, 1)
    (x, y), (_, usd) = (
        next(iter(v for k, v in gpus.items() if k != "x")),
        next(iter(v for k, v in cost.items() if k != "x")),
    )
    assert [20, 40, 400] == x
    np.testing.assert_array_equal([2, 4, np.nan], y)
    np.testing.assert_allclose([0.002, 0.004, np.nan], usd)
    assert ([400.0], [0.0]) == gpus["x"]


def test_a_second_key_makes_lines_and_the_numeric_key_lies_along_the_axis(plans):
    figure = sweep_chart(sweep(SCENARIO, {"hardware": ["h100", "h200"], "peak_qps": [20, 40]}).as_dict())
    lines = _lines(figure, 0)
    assert ([20, 40], [2, 4]) == lines["hardware = h100"]
    assert {"hardware = h100", "hardware = h200"} == {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_key_that_is_no_number_has_one_place_a_value_without_a_line_between(plans):
    figure = sweep_chart(sweep(SCENARIO, {"hardware": ["h200", "a10g-24gb", "h100"]}).as_dict())
    assert ["h200", "a10g-24gb", "h100"] == [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert {"None"} == {line.get_linestyle() for line in figure.axes[0].lines if line.get_marker() != "x"}


def test_without_prices_there_is_no_cost_panel(plans):
    document = sweep(SCENARIO, {"peak_qps": [20]}).as_dict()
    document["points"][0]["usd_per_query"] = None
    assert ["GPUs"] == [axis.get_ylabel() for axis in sweep_chart(document).axes]


def test_an_image_is_what_its_suffix_says_and_repeats_to_the_byte(plans):
    document = sweep(SCENARIO, {"peak_qps": [20, 400]}).as_dict()
    png, svg = (image(sweep_chart(document), form) for form in ("png", "svg"))
    assert imread(io.BytesIO(png)).std() > 0.05  # not an empty sheet
    assert b"<svg" in svg
    assert (png, svg) == tuple(image(sweep_chart(document), form) for form in ("png", "svg"))


# --- the verb ---


def test_the_verb_prints_a_table_and_writes_csv_and_picture(plans, tmp_path):
    table, picture = tmp_path / "sweep.csv", tmp_path / "sweep.svg"
    vary = ["--vary", "peak_qps=20,400", "--vary", "hardware=h100"]
    result = CliRunner().invoke(cli, ["sweep", "ai-search", *vary, "--csv", str(table), "--plot", str(picture)])
    assert (0, "") == (result.exit_code, result.stderr)
    assert result.stdout.splitlines()[1].split()[:4] == ["20", "h100", "2", "2"]
    assert [20, 400] == pd.read_csv(table)["traffic.peak_qps"].tolist()
    assert picture.read_text().startswith("<?xml")


def test_the_verbs_json_is_the_sweeps_document(plans):
    result = CliRunner().invoke(
        cli, ["sweep", "ai-search", "--vary", "hardware=h100,a10g-24gb", "--json", "--seed", "5"]
    )
    document = json.loads(result.stdout)
    assert (1, 5, [False, False]) == (
        document["schema_version"],
        document["seed"],
        [point["feasible"] for point in document["points"]],
    )


@pytest.mark.parametrize(
    ("text", "values", "because"),
    [
        ("1,2", ["1", "2"], "plain"),
        ("[a, b],c", ["[a, b]", "c"], "a list is one value"),
        ("{lognormal: {mean: 1, cv: 2}},5", ["{lognormal: {mean: 1, cv: 2}}", "5"], "so is a mapping"),
        ('"a,b",c', ['"a,b"', "c"], "and quoted text"),
        ("1,", ["1", ""], "an empty value is seen, and refused later"),
    ],
)
def test_values_are_split_at_commas_outside_brackets_and_quotes(text, values, because):
    assert values == split_values(text), because
