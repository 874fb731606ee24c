"""What denies a plan's answer stands on its page: warnings above all figures, the proof of the spare as a section."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import DataFileError
from planner.report.page import report_page
from tests.page_reader import Reader
from tests.report_documents import full, infeasible, spare_proof, unproved


def changed(**proof: Any) -> dict[str, Any]:
    document = full()
    document["spare_proof"] |= proof
    return document


def said(document: dict[str, Any], section: str) -> str:
    return " ".join(Reader(report_page(document)).sections[section].split())


# --- warnings ---


@pytest.mark.parametrize("made", [full, unproved, infeasible], ids=["holds", "unproved", "no fleet"])
def test_warnings_stand_between_the_answer_and_its_figures_each_as_a_sentence(made) -> None:
    found = Reader(report_page(made() | {"warnings": ["old.", "`slo` & <b>"]}))
    assert found.sections["warnings"].split("figures\n")[1].strip() == "old.slo & <b>."
    assert "warnings" == next(iter(found.sections))
    note = next(attributes for tag, attributes in found.elements if attributes.get("id") == "warnings")
    assert ("note", "warnings-title") == (note["role"], note["aria-labelledby"])
    assert "warnings-title" in found.ids()


@pytest.mark.parametrize("none", [..., None, []], ids=["an older plan", "null", "none"])
def test_without_warnings_there_is_no_block_of_them(none) -> None:
    document = full() | {"warnings": none}
    if none is ...:
        del document["warnings"]
    assert "warnings" not in Reader(report_page(document)).sections


def test_what_only_rows_of_the_waterfall_warn_of_stands_below_it_with_their_names() -> None:
    document = full()
    rows = document["waterfall"]
    rows[0]["warnings"], rows[1]["warnings"] = [document["warnings"][0], "edge"], ["edge"]
    rows[2]["warnings"] = None
    shown = said(document, "waterfall")
    assert "Warning, baseline, response cache: edge." in shown
    assert document["warnings"][0] not in shown


# --- the proof of the spare ---


def test_a_proof_that_holds_leaves_the_answer_as_it_is() -> None:
    found = Reader(report_page(full()))
    assert "serve 120 queries/s within the limits. A query costs" in found.text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "In a run at the peak 1 of 7 replicas stopped for good. Every limit still holds over the 40,000 queries"
        in (found.sections["spare"])
    )


def test_every_figure_of_the_proof_is_on_the_page() -> None:
    document = full()
    proof = document["spare_proof"]
    columns = []
    for place in range(2):
        rows = [proof[when]["limits"][place] for when in ("before", "after", "in_hand")]
        before, after, hit = (row["value_ms"] for row in rows)
        columns += [rows[1]["limit_ms"], before, after, rows[1]["upper_ms"], hit]
    assert [27, 29, *columns] == Reader(report_page(document)).values["spare"]
    assert "queries; 2 of them lost; TTFT of the others: p50 218 ms, p99 790 ms" in said(document, "spare")


VERDICTS = [
    (unproved(), "within the limits; the loss of the spare is NOT held: see the proof.", "The limits do NOT hold over"),
    (
        full() | {"spare_proof": spare_proof(full(), "undecided", 1.2)},
        "within the limits; whether the loss of the spare is held is undecided: see the proof.",
        "Whether the limits hold is undecided over",
    ),
]


@pytest.mark.parametrize(("document", "sentence", "verdict"), VERDICTS, ids=["fails", "undecided"])
def test_the_answer_promises_no_more_than_the_proof(document, sentence, verdict) -> None:
    text = Reader(report_page(document)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert sentence in text
    assert verdict in said(document, "spare")


def test_a_loss_of_several_spares_is_one_loss() -> None:
    document = unproved()
    document["fleet"]["spare_replicas"] = document["spare_proof"]["stopped"] = 2
    assert "the loss of the 2 spares is NOT held" in Reader(report_page(document)).text


LESS = [
    (changed(seeds=[0, 1, 2]), "stopped for good, on seeds 0, 1, 2.", "near the collapse of a cache"),
    (changed(seeds=[0]), "stopped for good. Every", "one seed is the plan's own"),
    (changed(verdict="fails", slo_met_after=False, saturated_after=True), "NOT hold, and the backlog grows, over", ""),
    (changed(after={}), "Every limit still holds.", "no count of queries"),
    (changed(in_hand=None), "began again elsewhere27 requests", "nothing in hand"),
    (full() | {"spare_proof": None}, "No proof of the spare: whether the limits hold", "a demand without one"),
]


@pytest.mark.parametrize(("document", "words", "because"), LESS, ids=range(len(LESS)))
def test_what_the_proof_lacks_is_left_out(document, words, because) -> None:
    assert words in said(document, "spare").replace("elsewhere 27", "elsewhere27"), because


def test_a_limit_that_lost_queries_break_has_no_figure_and_one_that_was_not_judged_no_verdict() -> None:
    document = unproved()
    first, second = document["spare_proof"]["after"]["limits"]
    first["value_ms"] = first["upper_ms"] = None
    second |= {"met": None, "verdict": None}
    shown = said(document, "spare")
    assert "without end" in shown
    assert "not judged" in shown


def broken(row: dict[str, Any], proof: dict[str, Any] | None = None, made: Any = full) -> dict[str, Any]:
    """The proof of a document with a changed first limit after the stop."""
    document = made()
    document["spare_proof"] |= proof or {}
    document["spare_proof"]["after"]["limits"][0] |= row
    return document


def of_limits(limits: list[dict[str, Any]]) -> dict[str, Any]:
    document = full()
    document["spare_proof"]["after"]["limits"] = limits
    return document


UNDECIDED = {"value_ms": 975.0, "upper_ms": 1003.2, "met": False, "verdict": "undecided"}
FAILS, OPEN = {"verdict": "fails", "slo_met_after": False}, {"verdict": "undecided", "slo_met_after": None}
DAMAGED = [
    (broken({"value_ms": 9e4, "upper_ms": 9e4}), "after.limits[0].met: is damaged: is true, but 90000 ms are", "above"),
    (broken(UNDECIDED), "verdict: is damaged: is holds, but after.limits[0] is undecided", "no better than the worst"),
    (broken(UNDECIDED, FAILS), "is fails, but the worst of after.limits is undecided", "nor worse"),
    (broken({}, FAILS), "is fails, but the worst of after.limits holds", "nothing of it fails"),
    (broken({}, OPEN), "is undecided, but the worst of after.limits holds", "nothing of it is"),
    (broken(UNDECIDED, OPEN | {"slo_met_after": False}), "is false, but the verdict is undecided", "not known"),
    (broken({}, {"slo_met_after": None}), "slo_met_after: is damaged: is null, but the verdict is holds", "known"),
    (broken(UNDECIDED | {"verdict": "fails"}, FAILS), "is fails, but its figures say undecided", "the interval's rule"),
    (broken({"verdict": "undecided"}, OPEN, unproved), "is undecided, but after.limits[1] does not", "the worst is"),
    (broken({}, OPEN | {"saturated_after": True}), "is undecided, but the backlog grows", "that fails"),
    (of_limits([]), "after.limits: is damaged: are none, but at_peak.slo has p99_ttft_ms, p99_tpot_ms", "nothing held"),
    (broken({"key": "p50_ttft_ms"}), "are p50_ttft_ms, p99_tpot_ms, but at_peak.slo has p99_ttft_ms", "another"),
    (broken({"limit_ms": 9e6}), "after.limits[0].limit_ms: is damaged: is 9e+06, but at_peak.slo[0] has 1000", "wider"),
]


@pytest.mark.parametrize(("document", "words", "because"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_proof_that_denies_itself_is_refused(document, words, because) -> None:
    with pytest.raises(DataFileError) as refused:
        report_page(document)
    assert words in str(refused.value), because


SOUND = [
    (broken(UNDECIDED, OPEN), "undecided over", "one limit within its error"),
    (broken({"value_ms": 975.0, "upper_ms": None, "met": False, "judged_by": "interval", "verdict": "undecided"}, OPEN),
     "undecided over", "nothing known about the spread"),
    (broken({}, FAILS | {"saturated_after": True}), "and the backlog grows", "every limit holds by then"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "words", "because"), SOUND, ids=[row[-1] for row in SOUND])
def test_a_proof_that_agrees_with_itself_is_shown(document, words, because) -> None:
    assert words in said(document, "spare"), because


def test_a_fleet_without_a_spare_has_no_proof_of_it() -> None:
    document = full()
    document["fleet"] |= {"spare_replicas": 0}
    assert "spare" not in Reader(report_page(document | {"spare_proof": None})).sections
