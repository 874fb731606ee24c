"""The page of a plan's document that holds less than everything, is no plan's, or is damaged somewhere."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from matplotlib.figure import Figure

from planner.errors import DataFileError
from planner.report.page import report_page
from tests.page_reader import SECTIONS, Reader
from tests.report_documents import full, infeasible, losing

# --- less than everything ---


def _unwritten(figure: Figure, buffer: io.StringIO, **_: Any) -> None:
    """In place of Figure.savefig: everything is painted, but not laid out and written, which takes most of the time."""
    buffer.write('<svg xmlns="http://www.w3.org/2000/svg"/>')


OPTIONAL = [
    "at_peak.band80",
    "at_peak.confidence",
    "at_peak.itl_ms",
    "at_peak.ledger",
    "at_peak.memory",
    "at_peak.slo",
    "break_even",
    "capacity_curve",
    "confidence",
    "cost cost_lines margin break_even",
    "cost.price",
    "cost_lines",
    "day",
    "distributions",
    "economics_notes",
    "load_shape",
    "one_fewer",
    "one_fewer_gap",
    "provenance",
    "revenue margin break_even",
    "revenue.abandonment",
    "revenue.lines",
    "scenario.slo",
    "scenario.traffic",
    "seed",
    "spare_proof",
    "spare_proof.after",
    "spare_proof.after.limits",
    "spare_proof.before",
    "spare_proof.in_hand",
    "spare_proof.retried",
    "uncertainty",
    "uncertainty.tornado",
    "warnings",
    "waterfall",
]


NULLABLE = [  # where a plan writes null
    "at_peak.itl_ms",
    "confidence",
    "cost cost_lines margin break_even",
    "cost.price",
    "load_shape",
    "one_fewer",
    "revenue margin break_even",
    "revenue.abandonment",
    "seed",
    "spare_proof",
    "spare_proof.before",
    "spare_proof.in_hand",
    "uncertainty",
    "warnings",
]


@pytest.mark.parametrize(
    ("paths", "value"),
    [(paths, ...) for paths in OPTIONAL] + [(paths, None) for paths in NULLABLE],
    ids=str,
)
def test_a_page_without_one_part_and_what_stands_on_it_still_has_every_section(monkeypatch, paths, value):
    monkeypatch.setattr(Figure, "savefig", _unwritten)
    document = full()
    for path in paths.split():
        *outer, last = path.split(".")
        place = document
        for name in outer:
            place = place[name]
        if value is None:
            place[last] = {} if last == "break_even" else [] if last == "cost_lines" else None
        else:
            del place[last]
    found = Reader(report_page(document))
    assert SECTIONS == [name for name in found.sections if name in SECTIONS]
    assert "None" not in found.text
    assert "nan" not in found.text.lower().split()


def test_without_waterfall_and_uncertainty_the_page_says_which_command_adds_them():
    document = full() | {"waterfall": [], "uncertainty": None}
    said = Reader(report_page(document)).sections
    assert "planner plan SCENARIO --waterfall --out FILE adds it" in said["waterfall"]
    assert "give the scenario uncertainty, then planner plan SCENARIO --out FILE" in said["uncertainty"]


def test_without_a_price_or_a_revenue_the_page_says_what_is_open_and_shows_no_zero():
    document = full() | {"cost": None, "cost_lines": [], "margin": None, "revenue": None}
    document["break_even"] = {"qps": None, "rpm_usd": None, "gpu_hour_usd": None}
    found = Reader(report_page(document))
    assert "What a query costs is left open: no GPU price is given." in found.text
    assert "no GPU price given (prices)" in found.sections["answer"]
    assert "Needs a GPU price and a revenue" in found.sections["break-even"]
    assert "$0" not in found.sections["answer"] + found.sections["cost"]


def test_a_query_that_does_not_pay_is_said_to_lose():
    found = Reader(report_page(losing()))
    assert "it does not pay, $0.0000309 (0.000219 CNY) is lost on each." in found.text
    assert "the query does not pay" in found.sections["answer"]


def test_an_infeasible_plan_has_a_page_of_what_rejected_what():
    found = Reader(report_page(infeasible()))
    assert "No fleet fits: none of 3 candidates serves 120 queries/s within the limits." in found.text
    said = found.sections["breaks"]
    assert (
        "Nearest miss: h200-sxm-141gb TP 2: fleet.max_gpus: 4 serving replicas are too few (p99 TPOT 61 > 50 ms)."
        in said
    )
    assert "Could be changed: fleet.max_gpus: allow more than 8 GPUs." in said
    for words in ("does not fit h100-sxm-80gb", "even an idle replica misses", "too few"):
        assert words in found.sections["candidates"]
    assert ["limits", "candidates", "provenance", "definitions"] == [
        name for name in found.sections if name in SECTIONS
    ]


# --- what is no plan ---

REFUSED = [
    ([], "holds a list, not a plan's document", "JSON, but no object"),
    (None, "holds nothing", "null"),
    ({"a": 1}, "it lacks schema_version, feasible, alternatives", "foreign"),
    ({"ttft_ms": {}, "schema_version": 1}, "but that of `planner simulate`", "another verb's"),
    ({"vary": "rate", "probes": []}, "but that of `planner capacity`", "another verb's"),
    ({"vary": [], "points": []}, "but that of a sweep", "another verb's"),
    ({"version": 1, "model": "x"}, "but a scenario, which ends in .yaml", "a scenario as JSON"),
    (full() | {"schema_version": 0}, "schema_version (=0): this planner reads 1", "older"),
    (full() | {"schema_version": 2}, "schema_version (=2): this planner reads 1", "newer"),
    (full() | {"fleet": None}, "it is feasible but lacks fleet, model or at_peak", "half a plan"),
    (
        full() | {"cost": {"usd_per_query": "x"}},
        "cost.usd_per_query: Expected `float | null`, got `str`",
        "a wrong type",
    ),
    (full() | {"warnings": "x"}, "warnings: Expected `array | null`, got `str`", "one text is no list of them"),
    (full() | {"warnings": [{}]}, "warnings[0]: Expected `str`, got `object`", "no text"),
    (full() | {"spare_proof": {"replicas": 7, "stopped": 1}}, "missing required field `verdict`", "no verdict"),
    (full() | {"spare_proof": full()["spare_proof"] | {"verdict": "maybe"}}, "spare_proof.verdict: Invalid", "unknown"),
    (full() | {"alternatives": [3]}, "alternatives[0]: Expected `object`, got `int`", "a wrong shape"),
    (full() | {"fleet": full()["fleet"] | {"gpus": 10**400}}, "fleet.gpus", "a number that no float holds"),
    (full() | {"distributions": {"ttft_ms": {"edges": [1], "counts": [1]}}}, "distributions.ttft_ms: is", "ragged"),
    (full() | {"distributions": {"e2e_ms": {"edges": [0, 1], "counts": [1]}}}, "rise from above 0", "a bin at 0 ms"),
]


@pytest.mark.parametrize(("document", "words", "because"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_no_plan_is_refused_in_one_line(document, words, because):
    with pytest.raises(DataFileError) as error:
        report_page(document)
    assert words in str(error.value), because
    assert "\n" not in str(error.value)


# --- damaged somewhere ---

DAMAGE = (..., None, -1, 0, 1e308, -1e308, 1e-308, math.inf, "x", [], {}, True, [[]], {"a": {"b": 1}})
DAMAGED = 80  # of some 8,000 ways


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document; of a list the first two."""
    if isinstance(value, dict | list):
        for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value))[:2]:
            yield (*path, key)
            yield from _places(item, (*path, key))


def test_a_document_damaged_anywhere_gives_a_page_or_is_refused_and_never_fails_otherwise(monkeypatch):
    monkeypatch.setattr(Figure, "savefig", _unwritten)
    ways = [(place, damage) for place in _places(full()) for damage in DAMAGE]
    told: list[str] = []
    for place, damage in random.Random(5).sample(ways, DAMAGED):
        document = full()
        *outer, last = place
        around: Any = document
        for name in outer:
            around = around[name]
        if damage is ...:
            del around[last]
        else:
            around[last] = damage
        try:
            report_page(document)
        except DataFileError as error:
            told.append(str(error))
    assert not [message for message in told if "\n" in message]
    assert DAMAGED / 5 < len(told) < DAMAGED
