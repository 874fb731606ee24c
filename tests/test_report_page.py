"""The HTML page of a plan: what stands on it, whose numbers they are, and that it is safe and self-contained."""

from __future__ import annotations

import copy
import io
import math
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.figure import Figure

import planner
from planner.errors import DataFileError
from planner.report.page import report_page
from planner.summary.words import usd
from tests.report_documents import KEYS, full, infeasible, losing

VOID = {"meta", "br", "hr", "img", "input", "link", "wbr", "col", "source"}
SECTIONS = ["limits", "latency", "capacity", "cost", "day", "break-even", "waterfall", "uncertainty", "candidates"]
SECTIONS += ["fleet", "provenance", "definitions"]
CHARTS = ["latency-ttft", "latency-tpot", "latency-itl", "latency-e2e", "capacity", "day-queries", "day-cost"]
CHARTS += ["break-even-qps", "break-even-rpm", "break-even-price", "waterfall-usd", "waterfall-gpus", "tornado"]


class Reader(HTMLParser):
    """Elements with their attributes, the text of each section, the values of `data`; whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.values: dict[str, list[float]] = {}
        self.section = ""
        self.text = ""
        self.feed(page)
        self.close()
        assert [] == self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "section":
            self.section = found["id"] or ""
            self.sections[self.section] = ""
        if tag == "data":
            self.values.setdefault(self.section, []).append(float(found["value"] or "nan"))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.section:
            self.sections[self.section] += data.replace("\N{NO-BREAK SPACE}", " ")

    def ids(self) -> list[str]:
        return [found["id"] for _, found in self.elements if found.get("id")]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return full()


@pytest.fixture(scope="module")
def page(document) -> Reader:
    return Reader(report_page(document))


# --- what stands on it ---


def test_every_section_is_there_in_its_order(page):
    assert ["answer", "breaks", *SECTIONS] == list(page.sections)


def test_every_chart_is_there_with_words_for_those_who_do_not_see_it_and_a_table_of_its_numbers(page):
    assert [f"chart-{name}" for name in CHARTS] == [name for name in page.ids() if name.startswith("chart-")]
    pictures = [found for tag, found in page.elements if found.get("role") == "img"]
    assert len(CHARTS) == len(pictures)
    assert all(len(found["aria-label"] or "") > 30 for found in pictures)
    assert len(CHARTS) == sum(tag == "details" for tag, _ in page.elements)
    assert len(CHARTS) == sum(tag == "svg" for tag, _ in page.elements)


def test_the_answer_says_gpus_cost_share_margin_the_tightest_limit_and_how_sure_it_is(page, document):
    tight = document["at_peak"]["slo"][1]  # p99 TPOT: 42.3 of 50 ms
    expected = [
        document["fleet"]["gpus"],
        document["cost"]["usd_per_query"],
        document["margin"]["cost_share_of_revenue"],
        document["margin"]["usd_per_query"],
        tight["upper_ms"],
        document["uncertainty"]["p_slo_held"],
    ]
    assert expected == page.values["answer"]


ANSWERED = [
    ("× H100 SXM 80 GB", "the hardware as printed on the box"),
    ("7 replicas of llama-3.3-70b fp8, TP 2, 1 of them spare; for 120 queries/s at the peak", "fleet and demand"),
    ("0.00164 CNY at 7.10 to the dollar", "the scenario's own currency beside dollars: 0.000231 · 7.1"),
    ("p99 TPOT, upper end of the interval: 15.5 % below the limit", "the limit that judges: 42.27 of 50 ms"),
    ("99.9 % that the margin is above 0", "the other chance"),
    ("weakest numbers: assumed", "what the answer rests on"),
]


@pytest.mark.parametrize(("words", "because"), ANSWERED, ids=[because for _, because in ANSWERED])
def test_the_answer_carries_units_and_what_judges_it(page, words, because):
    assert words in page.sections["answer"], because


BREAKS = [
    "With one replica fewer (5 serving) it fails: p99 TTFT 2,379 > 1,000 ms.",
    "The peak must bring at least 0.351 queries/s for this fleet to pay for itself; it is 120.",
    "1,000 queries must earn at least $0.231; they earn $44.90.",
    "A GPU-hour may cost at most $1,027.01; it costs $3.00.",
    "In 9 of 45 simulated worlds some limit is missed.",
    "1 of the numbers below is likely too hopeful",
]


@pytest.mark.parametrize("sentence", BREAKS)
def test_what_would_break_it_is_said_in_sentences(page, sentence):
    assert sentence in page.sections["breaks"]


def test_the_limits_stand_with_figure_upper_end_and_verdict_of_both_fleets(page, document):
    of_both = [row[key] for run in ("at_peak", "one_fewer") for row in document[run]["slo"] for key in LIMIT_KEYS]
    assert of_both == page.values["limits"]
    assert 1 == page.sections["limits"].count("FAILS")
    assert 3 == page.sections["limits"].count("holds")


LIMIT_KEYS = ("limit_ms", "value_ms", "upper_ms")


def test_the_percentiles_of_every_latency_are_the_documents(page, document):
    found = page.values["latency"]
    for key in KEYS:
        for name in ("p50", "p90", "p99"):
            assert document["at_peak"][key][name] in found, (key, name)


def test_the_sizes_tried_are_there_with_the_chosen_and_the_failing_one_marked(page, document):
    said = page.sections["capacity"]
    for words in ("6 chosen", "5 fails", "holds, chosen"):
        assert 1 == said.count(words)
    for size in (row for row in document["capacity_curve"] if row["full_length"]):
        assert {size["p99_ttft_ms"], size["p99_tpot_ms_upper"]} < set(page.values["capacity"])


def test_the_bill_is_quantity_times_price_line_by_line(page, document):
    for line in (*document["cost_lines"], *document["revenue"]["lines"]):
        for key in ("quantity", "unit_price_usd", "product_usd"):
            assert line[key] in page.values["cost"], line["what"]
    assert document["cost"]["usd_per_query"] in page.values["cost"]


def test_who_leaves_is_counted_by_the_latencies_of_the_peak_and_the_page_says_so(page):
    assert "by the latencies at the peak, taken for every hour: at quieter ones fewer leave" in page.sections["cost"]


def test_used_and_idle_cost_add_up_to_what_a_query_costs(page, document):
    used, idle = (document["cost"][key] for key in ("usage_usd_per_query", "idle_usd_per_query"))
    assert {used, idle} < set(page.values["cost"])
    assert document["cost"]["usd_per_query"] == pytest.approx(used + idle, rel=1e-12)


def test_the_day_has_24_hours_with_the_cost_of_a_query_in_each(page, document):
    for hour in document["day"]:
        assert {hour["queries"], hour["cost"] / hour["queries"]} < set(page.values["day"])
    assert document["load_shape"]["following"]["usd_per_day"] in page.values["day"]


def test_the_waterfall_shows_removed_alone_and_interaction_of_each_step(page, document):
    for row in document["waterfall"][1:5]:
        assert row["usd_per_query"] in page.values["waterfall"]
        for part in (row["removed"], row["alone"]["removed"], row["interaction"]):
            assert part["usd_per_query"] in page.values["waterfall"]
            assert usd(part["usd_per_query"]) in page.sections["waterfall"]
    assert "no fleet fits" in page.sections["waterfall"]
    assert "left out: the scenario's model is dense" in page.sections["waterfall"]


def test_the_tornado_has_the_widest_bar_first_and_every_end_in_its_table(page, document):
    said = page.sections["uncertainty"]
    places = [said.index(name) for name in ("time of an engine step", "queries per second", "price of a GPU-hour")]
    assert sorted(places) == places
    for row in document["uncertainty"]["tornado"]:
        assert {row["low"], row["high"], row["margin_low"], row["margin_high"]} < set(page.values["uncertainty"])
    assert "p99 beyond them all" in said  # null: no fleet that was looked at holds
    assert "85.1 % to 89.4 % within the surface's own error" in said


def test_candidates_are_chosen_holding_or_rejected_with_their_reason(page, document):
    said = page.sections["candidates"]
    assert "2 of 4 candidates hold the limits, cheapest first." in said
    for words in ("chosen", "15.0 % dearer", "does not fit h100-sxm-80gb", "the others alike"):
        assert words in said


def test_every_source_is_there_the_weakest_first(page, document):
    said = page.sections["provenance"]
    names = [row["what"] for row in document["provenance"]]
    places = [said.index(name) for name in names]
    assert sorted(places) == places
    assert "optimistic" in said


def test_what_the_numbers_mean_is_defined_beside_them(page):
    for word in ("TTFT", "TPOT", "ITL", "E2E", "80 % band", "upper end", "RPM", "break-even", "goodput"):
        assert word in page.sections["definitions"]


def test_the_same_document_gives_the_same_page_and_stays_as_it_was():
    document = full()
    before = copy.deepcopy(document)
    assert report_page(document) == report_page(copy.deepcopy(document))
    assert before == document


def test_it_is_one_of_the_planners_public_functions(document):
    assert planner.report_page(document) == report_page(document)


# --- safe and self-contained ---


def test_the_page_loads_nothing_and_runs_nothing(page, document):
    text = report_page(document)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in page.elements
    }
    for _, found in page.elements:
        assert not [name for name in found if name.startswith("on") or name in ("src", "srcset", "action", "ping")]
        assert (found.get("href") or "#").startswith("#")
    assert [] == re.findall(r"@import|https?:|//[a-z]|url\((?!#)|javascript:|expression\(", text)
    assert len(text.encode()) < 1_500_000


def test_a_policy_forbids_whatever_is_not_inline_style(page):
    policies = [
        found["content"] for tag, found in page.elements if found.get("http-equiv") == "Content-Security-Policy"
    ]
    assert ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"] == policies


def test_ids_are_unique_and_every_reference_within_the_page_leads_somewhere(page, document):
    ids = page.ids()
    assert sorted(set(ids)) == sorted(ids)
    text = report_page(document)
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(ids)
    assert set(SECTIONS) <= wanted


EVIL = "</style></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&`"


def _poisoned() -> dict[str, Any]:
    document = full()
    document["scenario"]["name"] = EVIL
    document["model"]["name"] = EVIL
    document["fleet"]["hardware"] = EVIL
    document["fleet"]["engine"][EVIL] = EVIL
    document["alternatives"][0]["hardware"] = EVIL
    document["alternatives"][2]["reason"] = EVIL
    document["provenance"][0] = dict.fromkeys(("what", "kind", "source", "value", "date", "errs"), EVIL)
    document["waterfall"][1]["step"] = EVIL
    document["uncertainty"]["tornado"][0]["name"] = EVIL
    document["uncertainty"]["inputs"][0]["law"] = EVIL
    document["cost_lines"][0]["what"] = EVIL
    document["cost"]["price"]["parts"][0][EVIL] = EVIL
    document["revenue"]["abandonment"]["source"] = EVIL
    document["at_peak"]["notes"] = [EVIL]
    document["economics_notes"] = [EVIL]
    return document


def test_names_that_look_like_html_stay_text():
    text = report_page(_poisoned())
    found = Reader(text)
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
    assert "<script" not in text
    assert "<img" not in text
    assert 1 == sum(tag == "style" for tag, _ in found.elements)
    assert EVIL.replace("`", "") in found.text.replace("`", "")


ODD_NAMES = [
    ("", "A plan without a name", "an empty name"),
    (None, "A plan without a name", "no name"),
    ("a\x00b\x1b[31m", "a b [31m", "control characters"),
    ("\ud800 lone", "lone", "half of a surrogate pair"),
    ("\u202egnp.exe", "gnp.exe", "a mark that turns the writing around"),
    ("検索 🔍 $x^2$", "検索 🔍 $x^2$", "letters that the charts' font lacks, and dollars"),
]


@pytest.mark.parametrize(("name", "shown", "because"), ODD_NAMES, ids=[row[2] for row in ODD_NAMES])
def test_odd_names_are_shown_as_far_as_they_can_be(name, shown, because):
    document = full()
    document["scenario"]["name"] = name
    document["waterfall"][1]["step"] = name or "x"
    text = report_page(document)
    assert f"<title>{shown}</title>" in text
    text.encode()


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
    "cost",
    "cost.price",
    "cost_lines",
    "day",
    "distributions",
    "economics_notes",
    "load_shape",
    "margin",
    "one_fewer",
    "one_fewer_gap",
    "provenance",
    "revenue",
    "revenue.abandonment",
    "revenue.lines",
    "scenario.slo",
    "scenario.traffic",
    "seed",
    "uncertainty",
    "uncertainty.tornado",
    "waterfall",
]


NULLABLE = [  # where a plan writes null
    "at_peak.itl_ms",
    "confidence",
    "cost",
    "cost.price",
    "load_shape",
    "margin",
    "one_fewer",
    "revenue",
    "revenue.abandonment",
    "seed",
    "uncertainty",
]


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, ...) for path in OPTIONAL] + [(path, None) for path in NULLABLE],
    ids=str,
)
def test_a_page_without_one_part_still_has_every_section(monkeypatch, path, value):
    monkeypatch.setattr(Figure, "savefig", _unwritten)
    document = full()
    *outer, last = path.split(".")
    place = document
    for name in outer:
        place = place[name]
    if value is None:
        place[last] = None
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
    assert "it does not pay, $0.0000309 is lost on each." in found.text
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
