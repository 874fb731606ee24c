"""What denies a plan's answer stands among its warnings: a proof of the spare that fails, queries that fail."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, plan
from planner.planning import Plan
from planner.sizing.spare import spare_proof
from planner.sizing.warnings import spare_warnings
from planner.summary.plan import plan_text, within_limits
from tests.summary_documents import PLAN

SERVED: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096, "max_num_seqs": 64},
    "traffic": {"peak_qps": 12.0},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 100}]},
    "slo": {"p95_ttft_ms": "<=1000"},
}
SPARE = {"fleet.spare_replicas": 1}
FULL = {"fleet.admission": {"max_requests_per_replica": 24}, "slo": {"p50_ttft_ms": "<=1000"}}
PRICE = {"prices.gpu_hour_usd": 1.0}
ADS = PRICE | {"revenue": {"ads": {"usd_per_query": 0.002}}}
EARNS = "counted as earning, and among the queries that the bill is divided by"
SPREAD = "counted among the queries that the bill is divided by"


def answer(changes: dict[str, Any]) -> Plan:
    return plan(Scenario.from_dict(SERVED).with_values(changes), requests=1000, worlds=0)


def flat(text: str) -> str:
    return " ".join(text.split())


def leaving(per_100ms: float) -> dict[str, Any]:
    return {"revenue": {"ads": {"usd_per_query": 0.002}, "abandonment": {"metric": "ttft", "per_100ms": per_100ms}}}


# --- the proof of the spare ---


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every proof is run, and its verdict is then that the last limit fails."""

    def proved(*given: Any) -> dict[str, Any] | None:
        found = spare_proof(*given)
        assert found is not None
        found["after"]["limits"][-1] |= {"verdict": "fails", "met": False}
        return found | {"verdict": "fails", "slo_met_after": False}

    monkeypatch.setattr("planner.planning.spare_proof", proved)


@pytest.mark.usefixtures("failing")
def test_a_spare_whose_loss_breaks_a_limit_is_the_first_warning_and_the_answer_does_not_promise_it() -> None:
    found = answer(FULL | SPARE)
    document = found.as_dict()
    assert document["feasible"]
    replicas = document["fleet"]["replicas"]
    first, second = document["warnings"]
    assert first == (
        f"fleet.spare_replicas: when 1 of {replicas} replicas is lost at the peak, the limits do NOT hold (p50 TTFT): "
        f"see the proof of the spare; fleet.min_replicas={replicas + 1} tries one replica more"
    )
    assert "queries at the peak fail" in second
    said = flat(str(found))
    assert "within the limits; the loss of the spare is NOT held: see the proof." in said
    assert said.index("NOT held") < said.index("WARNING: fleet.spare_replicas: when 1 of") < said.index("Proof of the")


@pytest.mark.usefixtures("failing")
def test_queries_lost_with_the_spare_are_counted_and_the_way_out_is_named() -> None:
    document = answer({"fleet.spare_replicas": 2, "fleet.retry": False}).as_dict()
    lost, replicas = document["spare_proof"]["in_hand"]["failed"], document["fleet"]["replicas"]
    assert lost > 1
    assert document["warnings"][0] == (
        f"fleet.spare_replicas: when 2 of {replicas} replicas are lost at the peak, the limits do NOT hold "
        f"(p95 TTFT): see the proof of the spare; fleet.min_replicas={replicas + 1} tries one replica more, "
        f"fleet.retry=true sends the {lost} queries again that are lost"
    )


def test_a_proof_that_holds_is_no_warning() -> None:
    found = answer(SPARE)
    assert "holds" == found.as_dict()["spare_proof"]["verdict"]
    assert [] == found.as_dict()["warnings"]
    assert "within the limits." in flat(str(found))


def proof(verdict: str, **more: Any) -> dict[str, Any]:
    rows = [{"key": "p95_ttft_ms", "verdict": "holds"}, {"key": "p99_e2e_ms", "verdict": verdict}]
    return {"spare_proof": {"replicas": 3, "stopped": 1, "verdict": verdict, "after": {"limits": rows}} | more}


TOLD = [
    (proof("undecided"), "whether the limits hold (p99 E2E) when 1 of 3 replicas is lost at the peak is undecided", ""),
    (proof("fails"), "the limits do NOT hold (p99 E2E): see the proof", "only what fails is named"),
    (proof("fails", saturated_after=True), "do NOT hold (p99 E2E), and the backlog grows: see", "no steady state"),
    (proof("fails", after={"limits": []}), "the limits do NOT hold: see the proof", "a backlog alone breaks no limit"),
    (proof("fails", in_hand={"failed": 3}), "fleet.min_replicas=4 tries one replica more", "retry is on already"),
    (proof("fails", in_hand=None), "fleet.min_replicas=4", "nothing was in hand"),
]


@pytest.mark.parametrize(("given", "words", "because"), TOLD)
def test_what_the_proof_denies_is_named(given: dict[str, Any], words: str, because: str) -> None:
    (said,) = spare_warnings(Scenario.from_dict(SERVED), given)
    assert words in said, because
    assert "fleet.retry" not in said


@pytest.mark.parametrize("given", [{}, {"spare_proof": None}, proof("holds")], ids=["no fleet", "none", "holds"])
def test_without_a_doubt_about_the_spare_nothing_is_said(given: dict[str, Any]) -> None:
    assert [] == spare_warnings(Scenario.from_dict(SERVED), given)


def test_a_spare_without_a_proof_is_said_in_its_place() -> None:
    words = "No proof of the spare: whether the limits hold when it is lost was not simulated"
    assert words in flat(plan_text(PLAN | {"spare_proof": None}))
    assert words not in flat(plan_text(PLAN | {"fleet": PLAN["fleet"] | {"spare_replicas": 0}}))


ENDINGS = [
    ({"spare_proof": {"verdict": "undecided"}}, "whether the loss of the spare is held is undecided: see the proof."),
    ({"spare_proof": {"verdict": "fails"}}, "the loss of the spare is NOT held: see the proof."),
    ({"spare_proof": {"verdict": "fails"}, "fleet": {"spare_replicas": 2}}, "the loss of the 2 spares is NOT held:"),
]


@pytest.mark.parametrize(("given", "words"), ENDINGS)
def test_the_first_sentence_ends_as_the_proof_does(given: dict[str, Any], words: str) -> None:
    assert within_limits(given).startswith(f"within the limits; {words}")
    assert "within the limits." == within_limits({"spare_proof": {"verdict": "holds"}})


# --- queries that fail ---

MONEY = [
    ({}, "", "", "without money nothing is reckoned"),
    (PRICE, "the cost of a query is spread over them too", SPREAD, "a bill divided by all"),
    (ADS, "they are counted as earning, and the cost of a query is spread over them too", EARNS, "ads of no answer"),
    (PRICE | leaving(0.01), "they are counted as lost revenue (revenue.abandonment)", SPREAD, "nobody waits endlessly"),
    (PRICE | leaving(0.0), "they are counted as earning", EARNS, "nobody leaves, however long it takes"),
]


@pytest.mark.parametrize(("money", "words", "source", "because"), MONEY, ids=[row[3] for row in MONEY])
def test_queries_that_fail_at_the_peak_are_warned_of_with_what_money_makes_of_them(
    money: dict[str, Any], words: str, source: str, because: str
) -> None:
    document = answer(FULL | money).as_dict()
    peak = document["at_peak"]
    assert (12, 12, 1000) == (peak["failed"], peak["rejected"], peak["queries"])
    (said,) = document["warnings"]
    assert said.startswith("1.2 % of the queries at the peak fail (12 rejected by fleet.admission)"), because
    assert words in said, because
    rows = [row for row in document["provenance"] if row["what"] == "queries that fail"]
    assert [("assumed", source, "1.2 %", "optimistic")] * bool(source) == [
        (row["kind"], row["source"], row["value"], row["errs"]) for row in rows
    ], because


def test_the_revenue_lost_at_most_is_the_failing_share_and_revenue_itself_is_as_given() -> None:
    document = answer(FULL | ADS).as_dict()
    assert 0.002 == document["revenue"]["usd_per_query"]
    lost = "at most $0.0000240 of the $0.00200 that a query earns is lost"  # 12 ÷ 1,000 · 0.002
    assert lost in document["warnings"][0]


def test_hits_of_the_response_cache_do_not_fail() -> None:
    """Twice the traffic, half of it answered by the cache: the same load of the model."""
    twice = {"traffic.peak_qps": 24.0, "query.response_cache": {"hit_rate": 0.5}}
    (said,) = answer(FULL | ADS | twice).as_dict()["warnings"]
    assert said.startswith("1.2 % of the queries that reach the model at the peak fail")
    assert "at most $0.0000120 of the $0.00200" in said  # 12 ÷ 1,000 · 0.5 · 0.002


def test_timed_out_queries_are_told_from_rejected_ones() -> None:
    document = answer({"traffic.timeout_s": 4.0, "slo": {"p50_ttft_ms": "<=1000"}}).as_dict()
    out = document["at_peak"]["timed_out"]
    assert 0 < out == document["at_peak"]["failed"]
    assert f"({out} timed out by traffic.timeout_s)" in document["warnings"][0]


def test_where_none_fails_nothing_is_said() -> None:
    document = answer(ADS).as_dict()
    assert 0 == document["at_peak"]["failed"]
    assert [] == document["warnings"]
    assert [] == [row for row in document["provenance"] if row["what"] == "queries that fail"]


def test_an_autoscaler_s_day_has_its_own_failures_and_its_money_is_judged_by_them() -> None:
    halves = {"traffic.day": [0.5] * 12 + [1.0] * 12, "fleet.startup_s": 0}
    halves |= {"fleet.autoscaler": {"schedule": [1] * 12 + [2] * 12, "scale_down_delay_s": 0}}
    room = {"fleet.admission": {"max_requests_per_replica": 40}}
    document = answer(FULL | ADS | halves | room).as_dict()
    peak, day = document["warnings"][:2]
    assert peak.endswith("rejected by fleet.admission)"), "the planned fleet's peak is not what is paid for"
    assert day.startswith("fleet.autoscaler: ")
    assert "of the day's queries fail: they are counted as earning" in day
    assert "if every hour were like the peak" not in day, "every hour was run"
    (row,) = [row for row in document["provenance"] if row["what"] == "queries that fail"]
    assert f" {row['value']} of the day's queries" in day
