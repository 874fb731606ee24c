"""The HTML page of a plan: what stands on it, and whose numbers they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import planner
from planner.report.page import report_page
from planner.summary.words import usd
from tests.page_reader import CHARTS, SECTIONS, Reader
from tests.report_documents import KEYS, full


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return full()


@pytest.fixture(scope="module")
def page(document) -> Reader:
    return Reader(report_page(document))


def test_every_section_is_there_in_its_order(page):
    assert ["warnings", "answer", "breaks", *SECTIONS] == list(page.sections)


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
    "1,000 queries must earn at least $0.231 (1.64 CNY); they earn $44.90 (318.79 CNY).",
    "A GPU-hour may cost at most $1,027.01 (7,291.76 CNY); it costs $3.00 (21.30 CNY).",
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


def test_who_leaves_is_counted_by_each_hours_latencies_and_the_page_says_so(page):
    assert "by each hour's own latencies, simulated at a few loads of the day" in page.sections["cost"]


def test_every_amount_of_the_bill_has_the_other_currency_beside_it_and_the_rate_is_said(page, document):
    rate = document["cost"]["currency"]["per_usd"]
    amounts = [line["product_usd"] for line in (*document["cost_lines"], *document["revenue"]["lines"])]
    amounts += [document["margin"]["usd_per_query"], document["cost"]["usd_per_query"]]
    assert {rate * amount for amount in amounts} < set(page.values["cost"])
    assert "1 USD = 7.1 CNY (prices.exchange_rates)." in page.sections["cost"]


def test_a_part_of_a_price_is_told_in_words_and_a_share_of_a_gpu_is_noted(page):
    said = page.sections["cost"]
    for words in ("whether it runs or not", "unit price", "60.0 % of 14 GPUs is 8.40: reserved capacity is booked in"):
        assert words in said
    assert not [raw for raw in ("beyond_reserved", "usd per gpu hour", "unit_price") if raw in page.text]


def test_figures_without_retrieval_say_so_beside_the_one_that_bears_it(page):
    assert "$42.00 (298.20 CNY) an hour for the fleet, without retrieval" in page.sections["answer"]


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
    assert "beyond them all (a whole plan of that draw says 15: ROUGH)" in said
    assert "The draws are read off 120 simulations of 1 candidate; leaving one out misses its load by" in said
    assert "15.0 % (0.60 GPUs) rms, which is ROUGH. 4.0 % of the draws lie beyond the simulated ones" in said
    assert "The line they begin at has all at their medians; the plan is elsewhere." in said


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


def test_what_the_training_bill_asks_of_queries_is_said():
    document = full()
    document["break_even_after_training"] = {"qps": 9.0, "rpm_usd": 12.5, "gpu_hour_usd": None, "training_usd": 1e6}
    assert "With the training bill 1,000 queries must earn at least $12.50" in report_page(document)
