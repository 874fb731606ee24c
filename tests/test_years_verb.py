"""`planner economics SCENARIO --years N`: what it prints, what it refuses, and that it stops when told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from planner.cli.app import cli
from planner.studies import years as study
from planner.summary.layout import WIDTH
from planner.summary.years import years_text

SCENARIO = """
version: 1
name: small
model: llama-3.1-8b
hardware: l4-24gb
engine: {quantization: fp8, max_model_len: 4096, max_num_seqs: 48}
traffic: {peak_qps: 20}
query: {stages: [{name: answer, prompt_tokens: 300, output_tokens: 100}]}
slo: {p90_ttft_ms: "<=3000"}
prices: {gpu_hour_usd: 1.0}
revenue: {ads: {usd_per_query: 0.001}}
"""
DOCUMENT: dict[str, Any] = {
    "feasible": True,
    "scenario": {"name": "small", "traffic": {"peak_qps": 20}},
    "model": {"name": "m"},
    "fleet": {"gpus": 4, "replicas": 4, "hardware": "l4-24gb", "engine": {}},
    "rates": {
        "gpu_price_change": {"per_year": -0.184, "given": False},
        "traffic_change": {"per_year": 0.3, "given": True},
    },
    "years": [
        {
            "year": 0,
            "peak_qps": 20.0,
            "feasible": True,
            "reason": None,
            "gpus": 4,
            "gpu_hour_usd": 1.0,
            "usd_per_query": 0.0002,
            "usd_per_query_at_stated_decline": 0.0002,
            "margin_usd_per_query": 0.0008,
            "margin_fraction": 0.8,
            "break_even_rpm_usd": 0.2,
            "break_even_rpm_after_training_usd": None,
        },
        {"year": 1, "peak_qps": 26.0, "feasible": False, "reason": "fleet.max_gpus: too few (p90_ttft_ms 4000 > 3000)"},
    ],
    "decline": {
        "stated": {"factor_per_year": 10.0, "source": "case cost-decline, document 004"},
        "hardware": {"flop_per_usd_gain_per_year": 0.25, "source": "case hardware-trajectory, document 003"},
        "cost_per_year": 0.72,
        "gpu_price_per_year": 0.8,
        "gpus_per_query_per_year": 0.9,
        "beside_gpus_per_year": 1.0,
        "left_per_year": 0.1 / 0.72,
    },
    "provenance": [],
}


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["economics", *arguments])


# what, says, because
SAID = [
    ("a GPU-hour's price −18.4 % assumed", "a default is told apart"),
    ("the load +30.0 % given", "from what was asked"),
    ("0 20 4 $1.00 $0.000200 $0.000200 $0.000800 80.0 % $0.200", "a year: load, fleet, price, cost, margin, RPM"),
    ("1 26 no fleet fits", "a year without a fleet stays in the table"),
    ("year 1: fleet.max_gpus: too few (p90 TTFT 4000 > 3000 ms)", "and says why"),
    ("A new GPU is not a scaled old one", "the same GPU all along"),
    ("better hardware is a factor of 1.25", "the hardware's part of a tenth"),
    ("The other 8 are smaller models of equal quality", "10 ÷ 1.25"),
    ("× 0.800 the price of a GPU-hour, all in", "one part"),
    ("× 0.900 GPUs per query", "another"),
    ("× 0.720 the cost of a query", "their product"),
    ("× 0.139 not in this table", "what is left to a tenth"),
]


@pytest.mark.parametrize(("says", "because"), SAID)
def test_the_text_says(says: str, because: str) -> None:
    assert says in " ".join(years_text(DOCUMENT).split()), because


def test_what_is_absent_is_not_told() -> None:
    text = years_text(DOCUMENT)
    assert "after training" not in text  # no training bill
    assert "retrieval, beside" not in text  # × 1
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_widest_table_fits_a_page() -> None:
    row = DOCUMENT["years"][0] | {"break_even_rpm_after_training_usd": 0.30001, "gpu_hour_usd": 4.24512}
    text = years_text(DOCUMENT | {"years": [row | {"peak_qps": 1234.56, "gpus": 12_345}]})
    assert "after training" in text
    assert max(map(len, text.splitlines())) <= WIDTH + 8


def test_the_verb_prints_text_and_json_and_tells_progress(scenario: str) -> None:
    told = run(scenario, "--years", "2", "--requests", "1500", "--traffic-change", "0.5")
    assert told.exit_code == 0, told.stderr
    assert "the load            +50.0 %  given" in told.stdout
    answer = run(scenario, "--years", "2", "--requests", "1500", "--traffic-change", "0.5", "--json")
    document = json.loads(answer.stdout)
    assert [20.0, 30.0, 45.0] == [row["peak_qps"] for row in document["years"]]
    assert years_text(document) == told.stdout.rstrip("\n")


def test_where_no_fleet_fits_the_exit_code_is_1(scenario: str) -> None:
    told = run(scenario, "--years", "1", "--requests", "1500", "--set", "slo={p90_ttft_ms: <=1}")
    assert told.exit_code == 1
    assert "NO FLEET FITS" in told.stdout


# arguments after the scenario, says, because
REFUSED = [
    (("--years", "0"), "0 is not in the range 1<=x<=50", "no year"),
    (("--years", "51"), "51 is not in the range 1<=x<=50", "too many"),
    (("--years", "2", "--traffic-change", "nan"), "nan must be above -1 and finite", "no number"),
    (("--years", "2", "--speed-change", "-1"), "-1 must be above -1 and finite", "nothing would ever end"),
    (("--years", "2", "--gpu-price-change", "20%"), "'20%' is not a valid number", "a share"),
    (("--years", "2", "--gpu-price-change", "11"), "11 must be at most 10", "twelve times the price, every year"),
    (("--revenue-change", "0.1"), "--revenue-change: needs --years N", "a rate of no year"),
    (("--years", "2", "--reconcile"), "--reconcile: not together with --years", "another answer"),
    (("--years", "2", "--list-price", "1,2"), "--list-price: not together with --years", "another answer"),
    (("--years", "2", "--requests", "10"), "--requests 10: must be at least", "no confidence interval"),
]


@pytest.mark.parametrize(("arguments", "says", "because"), REFUSED)
def test_bad_input_is_one_line_and_exit_2(scenario: str, arguments: tuple[str, ...], says: str, because: str) -> None:
    told = run(scenario, *arguments)
    assert told.exit_code == 2, because
    assert says in told.stderr, because
    assert len(told.stderr.strip().splitlines()) == 1


def test_a_case_has_no_years() -> None:
    told = run("cost-decline", "--years", "2")
    assert told.exit_code == 2
    assert "--years: is of a scenario" in told.stderr


def test_an_interrupted_study_ends_with_130(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "search", interrupted)
    told = run(scenario, "--years", "2", "--requests", "1500")
    assert told.exit_code == 130
    assert "interrupted" in told.stderr
    assert "Traceback" not in told.stderr
