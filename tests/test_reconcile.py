"""Four cost bases of one plan: what the simulation and a load test say, and that the gaps are explained."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import Scenario, plan
from planner.economics.bases import ListPrice
from planner.errors import DataFileError, InputError
from planner.records import RequestRow
from planner.simulation.outcome import Outcome
from planner.studies.chosen import pinned
from planner.studies.fleet_runs import FleetRuns, fleet_runs
from planner.studies.list_prices import public_price
from planner.studies.model_sizes import parameters
from planner.studies.reconcile import query_tokens, reconcile, served_peak
from tests.simulated_records import BASE, write_records

REQUESTS = 3000
MONEY: dict[str, Any] = {
    "prices": {"gpu_hour_usd": 2.0, "compute_share": 0.8, "retrieval_usd_per_query": 0.0001},
    "traffic": {"peak_qps": 1500.0, "day": [0.5] * 12 + [1.0] * 12},
    "fleet": {"spare_replicas": 1},
    "slo": {"p90_ttft_ms": "<=500", "p90_tpot_ms": "<=50"},
}
Planned = tuple[Scenario, dict[str, Any], FleetRuns]


def planned(**changes: Any) -> Planned:
    asked = Scenario.from_dict(BASE | MONEY).with_values(
        {key.replace("__", "."): value for key, value in changes.items()}
    )
    document = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    return asked, document, fleet_runs(pinned(asked, document), 0, REQUESTS)


@pytest.fixture(scope="module")
def answered() -> Planned:
    return planned()


def laid_out(planned: Planned, **more: Any) -> dict[str, Any]:
    asked, document, runs = planned
    return reconcile(asked, pinned(asked, document), document, runs, **more)


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def test_the_simulated_basis_is_the_plans_cost_without_retrieval(answered: Planned):
    _, document, _ = answered
    found = by_name(laid_out(answered)["bases"])["simulated"]
    assert document["cost"]["usd_per_query"] - 0.0001 == pytest.approx(found["usd_per_query"], rel=1e-12)


def test_the_runs_are_those_that_the_plan_was_settled_on(answered: Planned):
    _, document, runs = answered
    fleet = document["fleet"]
    assert document["at_peak"]["e2e_ms"] == runs.at(fleet["replicas"] - fleet["spare_replicas"]).figures["e2e_ms"]
    assert document["one_fewer"]["e2e_ms"] == runs.at(fleet["replicas"] - 2).figures["e2e_ms"]


def test_gaps_lead_from_each_basis_to_the_next_and_their_factors_multiply_to_the_ratio(answered: Planned):
    found = laid_out(answered, mfu=0.3, price=ListPrice(0.5, 2.0, 0.05))
    bases = by_name(found["bases"])
    assert ["list price", "FLOP", "simulated"] == list(bases)
    assert [("list price", "FLOP"), ("FLOP", "simulated")] == [(gap["start"], gap["to"]) for gap in found["gaps"]]
    for gap in found["gaps"]:
        ratio = bases[gap["to"]]["usd_per_query"] / bases[gap["start"]]["usd_per_query"]
        assert ratio == pytest.approx(gap["ratio"], rel=1e-12)
        assert ratio == pytest.approx(prod(factor["value"] for factor in gap["factors"]), rel=1e-9)


def test_at_the_simulated_mfu_the_flop_basis_is_what_busy_gpus_cost(answered: Planned):
    """Without idle time, spare replicas, quiet hours and the run's ends nothing is left but cached prompts."""
    found = laid_out(answered)
    factors = {factor["name"]: factor["value"] for factor in found["gaps"][-1]["factors"]}
    assert factors["MFU of full prefill steps"] * factors["memory-bound decoding"] == pytest.approx(1, rel=1e-12)
    assert factors["hours below the peak"] == pytest.approx(24 / 18)
    _, document, _ = answered
    replicas = document["fleet"]["replicas"]
    assert factors["spare replicas"] == pytest.approx(replicas / (replicas - 1))
    assert 0 < found["mfu_simulated"] < 1


def test_active_parameters_are_the_models(answered: Planned):
    _, _, runs = answered
    assert parameters(runs.deployment.candidate.model).active == laid_out(answered)["active_parameters"]


def test_the_busy_time_of_a_query_is_what_the_ledger_has(answered: Planned):
    asked, document, runs = answered
    serving = document["fleet"]["replicas"] - 1
    outcome: Outcome = runs.at(serving)
    tokens = query_tokens(asked, runs.load, outcome)
    peak = served_peak(asked, document, runs, outcome, tokens)
    busy_s = outcome.figures["ledger"]["busy_s"]
    assert busy_s == pytest.approx(peak.busy_gpu_s * runs.load.queries, rel=1e-12)
    assert 0 < peak.input_share < 1
    assert peak.utilisation == outcome.figures["utilisation"]
    assert float(runs.load.prompt_tokens.mean()) == pytest.approx(tokens.prompt)
    assert tokens.cached / tokens.prompt == pytest.approx(outcome.figures["prefix_cache_hit_rate"])


def test_longer_prompts_take_more_of_the_busy_time():
    shares = []
    for mean in (200, 1600):
        asked, document, runs = planned(
            **{"query.stages[0].prompt_tokens": {"lognormal": {"mean": mean, "cv": 0.3}}, "traffic.peak_qps": 40}
        )
        outcome = runs.at(document["fleet"]["replicas"] - 1)
        tokens = query_tokens(asked, runs.load, outcome)
        shares.append(served_peak(asked, document, runs, outcome, tokens).input_share)
    assert shares[0] < shares[1]


def test_what_the_prefix_cache_holds_takes_none_of_the_busy_time():
    """The prompts' part of the time shrinks by the share that is cached, all else equal."""
    stage = BASE["query"]["stages"][0] | {"prompt_tokens": 800, "shared_prefix": {"tokens": 500}}
    asked, document, runs = planned(**{"query.stages": [stage]})
    outcome = runs.at(document["fleet"]["replicas"] - 1)
    tokens = query_tokens(asked, runs.load, outcome)
    held = tokens.cached / tokens.prompt
    assert 0.3 < held < 0.7
    cold = served_peak(asked, document, runs, outcome, replace(tokens, cached=0.0)).input_share
    warm = served_peak(asked, document, runs, outcome, tokens).input_share
    assert 0 < cold < 1
    assert cold * (1 - held) == pytest.approx(warm, rel=1e-9)


def test_two_data_parallel_ranks_are_both_counted():
    """Busy seconds are each rank's; a replica of two ranks has a GPU for each."""
    asked, document, runs = planned(**{"engine.data_parallel_size": 2})
    outcome = runs.at(document["fleet"]["replicas"] - 1)
    tokens = query_tokens(asked, runs.load, outcome)
    peak = served_peak(asked, document, runs, outcome, tokens)
    assert document["fleet"]["gpus_per_replica"] == 2
    busy_s = outcome.figures["ledger"]["busy_s"]
    assert busy_s == pytest.approx(peak.busy_gpu_s * runs.load.queries, rel=1e-12)
    gap = laid_out((asked, document, runs))["gaps"][-1]
    assert gap["ratio"] == pytest.approx(prod(factor["value"] for factor in gap["factors"]), rel=1e-9)


def test_prompts_of_several_samples_are_billed_once_and_computed_for_each():
    asked, _, runs = planned(**{"query.stages[0].samples": 3, "traffic.peak_qps": 30})
    tokens = query_tokens(asked, runs.load, runs.at(1))
    prompts = runs.load.prompt_tokens.reshape(-1, 3).astype(np.float64)
    assert (prompts == prompts[:, :1]).all()
    assert float(prompts.sum(axis=1).mean()) == pytest.approx(tokens.prompt)
    assert float(prompts[:, 0].mean()) == pytest.approx(tokens.prompt_once)
    document = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    found = laid_out((asked, document, fleet_runs(asked, 0, REQUESTS)))
    assert {"prompt per sample"} <= {factor["name"] for factor in found["gaps"][0]["factors"]}


# --- where the list price comes from ---


def test_the_price_given_stands_before_the_scenarios_own_and_that_before_a_public_one(answered: Planned):
    public = by_name(laid_out(answered)["bases"])["list price"]
    assert public["usd_per_1k_output"] == pytest.approx(public_price().output_usd / 1000)
    assert "2026-09-07" in public["assumed"][0]
    api = {"usd_per_million_input": 1.0, "usd_per_million_output": 4.0, "usd_per_million_cached_input": 0.1}
    sold = planned(revenue={"api": api})
    own = by_name(laid_out(sold)["bases"])["list price"]
    assert own["usd_per_1k_output"] == pytest.approx(0.004)
    assert own["assumed"] == ()
    given = by_name(laid_out(sold, price=ListPrice(2.0, 8.0))["bases"])["list price"]
    assert given["usd_per_1k_output"] == pytest.approx(0.008)


def test_words_are_counted_as_the_scenario_sells_them(answered: Planned):
    assert laid_out(answered)["words_per_1000_tokens"] == 750
    sold = planned(revenue={"per_word": {"usd_per_1000_words": 0.5, "words_per_1000_tokens": 500}})
    found = laid_out(sold)
    assert found["words_per_1000_tokens"] == 500
    row = by_name(found["denominators"])["simulated"]
    assert row["usd_per_1k_words"] == pytest.approx(2 * row["usd_per_1k_tokens"])


# --- measured ---


def test_the_measured_basis_is_the_price_over_the_throughput_of_the_records(answered: Planned, tmp_path: Path):
    file = write_records(tmp_path / "run.jsonl", Scenario.from_dict(BASE))
    found = laid_out(answered, records=file)
    rows = [row for row in lines(file) if isinstance(row, RequestRow)]
    tokens = sum((row.prompt_tokens or 0) + (row.output_tokens or 0) for row in rows)
    lasted_s = max(row.last_token_s or 0 for row in rows) - min(row.sent_s or 9e9 for row in rows)
    basis = by_name(found["bases"])["measured"]
    assert 2.0 / 0.8 / 3600 / (tokens / lasted_s) * 1000 == pytest.approx(basis["usd_per_1k_input"], rel=1e-9)
    assert ["list price", "FLOP", "measured", "simulated"] == [row["name"] for row in found["bases"]]
    for gap in found["gaps"]:
        assert gap["ratio"] == pytest.approx(prod(factor["value"] for factor in gap["factors"]), rel=1e-9)


def lines(file: Path) -> list[Any]:
    from planner.records import decode_line

    return [decode_line(line, number) for number, line in enumerate(file.read_bytes().splitlines(True), 1)]


def test_failed_requests_are_no_throughput(answered: Planned, tmp_path: Path):
    import msgspec

    def every_other(row: RequestRow) -> RequestRow:
        failed = {"last_token_s": None, "first_token_s": None, "error": "status 500", "output_tokens": None}
        return msgspec.structs.replace(row, **failed) if row.request % 2 else row

    plain = Scenario.from_dict(BASE)
    whole = laid_out(answered, records=write_records(tmp_path / "a.jsonl", plain))
    halved = laid_out(answered, records=write_records(tmp_path / "b.jsonl", plain, change=every_other))
    ratio = by_name(halved["bases"])["measured"]["usd_per_query"] / by_name(whole["bases"])["measured"]["usd_per_query"]
    assert ratio == pytest.approx(2.0, rel=0.1)


def test_two_replicas_behind_the_tested_endpoint_are_two_gpus(answered: Planned, tmp_path: Path):
    one = write_records(tmp_path / "one.jsonl", Scenario.from_dict(BASE))
    two = write_records(tmp_path / "two.jsonl", Scenario.from_dict(BASE | {"fleet": {"replicas": 2}}))
    costs = [by_name(laid_out(answered, records=file)["bases"])["measured"]["usd_per_query"] for file in (one, two)]
    assert costs[1] == pytest.approx(2 * costs[0], rel=1e-9)  # the same times, on twice the GPUs


def test_records_of_another_gpu_are_priced_by_the_rate_card(tmp_path: Path):
    carded = planned(prices={"gpu_hour_usd": {"rate_card": "on-demand"}})
    file = write_records(tmp_path / "run.jsonl", Scenario.from_dict(BASE | {"hardware": "l4-24gb"}))
    found = laid_out(carded, records=file)
    said = by_name(found["bases"])["measured"]["assumed"]
    assert any("l4-24gb: on-demand price" in words for words in said)
    assert {"another GPU"} <= {factor["name"] for gap in found["gaps"] for factor in gap["factors"]}


def test_records_of_another_gpu_without_a_price_take_the_plans_and_say_so(answered: Planned, tmp_path: Path):
    file = write_records(tmp_path / "run.jsonl", Scenario.from_dict(BASE | {"hardware": "l4-24gb"}))
    said = by_name(laid_out(answered, records=file)["bases"])["measured"]["assumed"]
    assert any("no price of l4-24gb is known" in words for words in said)


def test_records_of_another_model_are_refused(answered: Planned, tmp_path: Path):
    file = write_records(tmp_path / "run.jsonl", Scenario.from_dict(BASE | {"model": "qwen3-1.7b"}))
    with pytest.raises(DataFileError, match=r"are of qwen3-1\.7b, the plan is of qwen3-0\.6b"):
        laid_out(answered, records=file)


def test_records_without_an_answer_are_refused(answered: Planned, tmp_path: Path):
    import msgspec

    def lost(row: RequestRow) -> RequestRow:
        return msgspec.structs.replace(row, last_token_s=None, first_token_s=None, error="status 500")

    file = write_records(tmp_path / "run.jsonl", Scenario.from_dict(BASE), change=lost)
    with pytest.raises(DataFileError, match="no request was answered"):
        laid_out(answered, records=file)


def test_an_mfu_above_one_is_refused(answered: Planned):
    with pytest.raises(InputError, match="mfu"):
        laid_out(answered, mfu=1.5)


def test_a_plan_of_another_length_has_other_runs(answered: Planned):
    """Runs are as long as the plan's: with another length the figures differ, so that equal ones mean equal runs."""
    _, document, runs = answered
    shorter = fleet_runs(runs.scenario, 0, 2000)
    serving = document["fleet"]["replicas"] - 1
    assert shorter.at(serving).figures["e2e_ms"] != runs.at(serving).figures["e2e_ms"]
