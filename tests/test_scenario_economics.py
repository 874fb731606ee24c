"""`planner economics SCENARIO`: the answer as a document, as text and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from planner import Scenario, plan
from planner.cli.app import cli
from planner.errors import PlannerError, ScenarioError
from planner.studies.scenario_economics import ScenarioEconomics, economics
from tests.simulated_records import BASE as RECORDED
from tests.simulated_records import write_records

REQUESTS = 2000
BASE: dict[str, Any] = {
    "version": 1,
    "name": "A small search",
    "model": "llama-3.1-8b",
    "hardware": ["l4-24gb", "l40s-48gb"],
    "engine": {"quantization": ["bf16", "fp8"], "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 40.0, "day": [0.5] * 12 + [1.0] * 12},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 500, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 80, "cv": 0.5}},
            }
        ],
        "response_cache": {"hit_rate": 0.25},
    },
    "slo": {"p90_ttft_ms": "<=2000", "p90_tpot_ms": "<=90"},
    "prices": {"gpu_hour_usd": {"rate_card": "on-demand"}},
    "revenue": {
        "ads": {"usd_per_query": 0.002, "commercial_share": 0.4},
        "abandonment": {"metric": "e2e", "after_ms": 1000, "per_100ms": 0.01},
    },
}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario.from_dict(BASE)


@pytest.fixture(scope="module")
def answer(scenario: Scenario) -> ScenarioEconomics:
    return economics(scenario, requests=REQUESTS, bases=True)


def test_the_document_has_the_plans_money_and_every_study(scenario: Scenario, answer: ScenarioEconomics):
    document, planned = answer.as_dict(), plan(scenario, requests=REQUESTS, worlds=0).as_dict()
    for key in ("model", "fleet", "cost", "revenue", "margin", "break_even"):
        assert planned[key] == document[key]
    assert {"pays", "shorter_answers", "smaller_models", "skip_llm"} == set(document["levers"])
    assert document["best_slo"]["best"]["margin_usd_per_day"] >= document["best_slo"]["own"]["margin_usd_per_day"]
    assert ["list price", "FLOP", "simulated"] == [basis["name"] for basis in document["bases"]]
    assert json.loads(json.dumps(document, allow_nan=False))["feasible"]


def test_what_the_studies_assume_stands_among_the_origins(answer: ScenarioEconomics):
    rows = [row for row in answer.as_dict()["provenance"] if row["kind"] == "assumed"]
    told = {row["what"] for row in rows}
    assert {
        "cost basis: list price",
        "cost basis: FLOP",
        "cost basis: simulated",
        "lever: smaller models",
        "lever: no model for queries without ads",
        "best service level: users who leave",
    } <= told
    assert all(row["source"] for row in rows)


def test_the_text_says_each_answer_once_within_a_terminals_width(answer: ScenarioEconomics):
    text = str(answer)
    for title in (
        "Revenue at risk",
        "The service level worth asking for",
        "Shorter answers",
        "Smaller models",
        "Queries that are not worth the model",
        "Four ways to say what the model calls of a query cost",
        "From list price to FLOP",
        "From FLOP to simulated",
    ):
        assert text.count(title) == 1, title
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("A small search\n")
    assert text.index("A query costs") < text.index("Revenue at risk")
    assert any(line.endswith("planned") for line in text.splitlines())
    assert any(line.endswith(("best", "best, planned")) for line in text.splitlines())
    assert "60.0 % that carry no ads" in text
    assert "A query with ads earns" in text
    assert "By each hour's own latencies, simulated at a few loads of the day." in " ".join(text.split())
    assert "None" not in text
    assert "nan" not in text


def test_without_reconcile_no_basis_is_worked_out(scenario: Scenario):
    document = economics(scenario, requests=REQUESTS).as_dict()
    assert document["bases"] == document["gaps"] == document["denominators"] == []


def test_without_abandonment_the_text_says_which_key_is_missing(scenario: Scenario):
    text = str(economics(scenario.with_values({"revenue.abandonment": None}), requests=REQUESTS))
    assert text.count("revenue.abandonment") == 2
    assert "Each further 100 ms" not in text


EARNING = [
    ({"subscription": {"usd_per_month": 20, "queries_per_month": 5000}}, "A query of a subscriber earns $0.00400"),
    ({"api": {"usd_per_million_input": 1, "usd_per_million_output": 4}}, "A query sold by the token earns $0.000"),
    ({"per_word": {"usd_per_1000_words": 0.01, "words_per_1000_tokens": 750}}, "A query sold by the word earns $0.000"),
]


@pytest.mark.parametrize(("revenue", "said"), EARNING, ids=[next(iter(row[0])) for row in EARNING])
def test_the_text_says_what_earns(scenario: Scenario, revenue: dict[str, Any], said: str):
    text = " ".join(str(economics(scenario.with_values({"revenue": revenue}), requests=REQUESTS)).split())
    assert said in text
    assert "with ads" not in text


def test_the_same_seed_gives_the_same_answer_to_the_bit(scenario: Scenario):
    one, two = (json.dumps(economics(scenario, requests=REQUESTS, seed=3).as_dict()) for _ in range(2))
    assert one == two


def test_a_scenario_that_no_fleet_fits_says_why(scenario: Scenario):
    answer = economics(scenario.with_values({"fleet.max_gpus": 1}), requests=REQUESTS)
    assert not answer.feasible
    assert "NO FLEET FITS" in str(answer)
    assert answer.as_dict()["levers"] is None


def test_without_a_price_there_is_nothing_to_hold_against(scenario: Scenario):
    with pytest.raises(ScenarioError, match=r"prices\.gpu_hour_usd: is required"):
        economics(scenario.with_values({"prices": None}), requests=REQUESTS)


# --- the command ---


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(BASE))
    return str(path)


def ran(*arguments: str) -> tuple[int, str]:
    """Exit code, and standard output or the message of the error."""
    result = CliRunner().invoke(cli, ["economics", *arguments])
    if isinstance(result.exception, PlannerError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_the_command_prints_the_answer(file: str):
    code, text = ran(file, "--requests", str(REQUESTS), "--set", "peak_qps=20")
    assert code == 0
    assert "serve 20 queries/s" in text or "serves 20 queries/s" in text


def test_the_command_prints_json_with_its_bases(tmp_path: Path):
    path = tmp_path / "recorded.yaml"
    path.write_text(json.dumps(RECORDED | {"prices": {"gpu_hour_usd": 2.0}}))
    records = write_records(tmp_path / "run.jsonl", Scenario.from_dict(RECORDED))
    given = ["--records", str(records), "--mfu", "0.4", "--list-price", "0.2,0.8", "--provider-margin", "0.3"]
    code, text = ran(str(path), "--json", "--reconcile", "--requests", str(REQUESTS), *given)
    assert code == 0
    document = json.loads(text)
    assert ["list price", "FLOP", "measured", "simulated"] == [basis["name"] for basis in document["bases"]]
    assert 0.0008 == pytest.approx(document["bases"][0]["usd_per_1k_output"])
    factors = {factor["name"]: factor["value"] for factor in document["gaps"][0]["factors"]}
    assert factors["seller's margin"] == pytest.approx(0.7)


def test_a_scenario_that_no_fleet_fits_exits_with_one(file: str):
    assert ran(file, "--requests", str(REQUESTS), "--set", "fleet.max_gpus=1")[0] == 1


# arguments after the file, what the message says, because
BAD = [
    (["--mfu", "0.4"], "--mfu: needs --reconcile", "it would change nothing"),
    (["--list-price", "1,2"], "--list-price: needs --reconcile", "likewise"),
    (["--provider-margin", "0.3"], "--provider-margin: needs --reconcile", "likewise"),
    (["--reconcile", "--provider-margin", "30"], "--provider-margin 30: must be a share", "per cent for a share"),
    (["--reconcile", "--provider-margin", "nan"], "--provider-margin nan: must be a share", "no number"),
    (["--reconcile", "--mfu", "1.4"], "--mfu 1.4: must be above 0 and at most 1", "a share"),
    (["--reconcile", "--mfu", "nan"], "--mfu nan: must be above 0", "no number"),
    (["--reconcile", "--list-price", "1"], "--list-price 1: must be two prices", "in and out"),
    (["--reconcile", "--list-price", "1,-2"], "must be two prices above 0", "a price below 0"),
    (["--reconcile", "--list-price", "a,b"], "must be two prices above 0", "no numbers"),
    (["--reconcile", "--list-price", "1,inf"], "must be two prices above 0", "not finite"),
    (["--requests", "10"], "must be at least 1000", "too few for an interval"),
    (["--set", "prices=null"], "prices.gpu_hour_usd: is required", "nothing to hold against"),
    (["--set", "peak_qps=-1"], "traffic.peak_qps", "a bad value of the scenario"),
]


@pytest.mark.parametrize(("arguments", "message", "because"), BAD)
def test_bad_input_is_one_line(file: str, arguments: list[str], message: str, because: str):
    code, text = ran(file, *arguments)
    assert code == 2, because
    assert message in text, because
    assert "Traceback" not in text


@pytest.mark.parametrize("option", [["--reconcile"], ["--mfu", "0.3"], ["--seed", "0"], ["--requests", "2000"]])
def test_a_case_takes_no_option_of_a_scenario(option: list[str]):
    code, text = ran("two-stage-search-summarizer", *option)
    assert code == 2
    assert f"{option[0]}: is of a scenario" in text


def test_a_shipped_example_is_a_scenario_and_a_shipped_case_a_case():
    code, text = ran("demo", "--requests", "1000")
    assert code == 0
    assert "Demo, a support bot" in text
    code, text = ran("two-stage-search-summarizer")
    assert code == 0
    assert "Smaller models" not in text
