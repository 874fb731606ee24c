"""The live page: what it says in each state of a fleet, that absent is never zero, that names stay text."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from planner.exporter.page import REFRESH_S, live_page
from planner.exporter.page_figures import UNKNOWN, ago, from_middle, of_ratio, up_to
from planner.exporter.page_words import sentence, states
from planner.observed import Trouble
from tests.live_snapshots import (
    SNAPSHOTS,
    as_planned,
    blind,
    document,
    half_known,
    losing,
    part,
    waiting,
    whole,
)
from tests.page_reader import Reader

SECTIONS = ["now", "causes", "limits", "history", "quantities", "savings", "sources"]


def read(snapshot) -> Reader:
    return Reader(live_page(snapshot))


def said(snapshot) -> str:
    return sentence(snapshot, dict(snapshot.drift or {}))


def named(snapshot) -> list[str]:
    return [words for words, _ in states(snapshot, dict(snapshot.drift or {}))]


@pytest.mark.parametrize("name", list(SNAPSHOTS))
def test_every_state_of_a_fleet_has_a_whole_page_that_loads_nothing_and_asks_for_itself_again(name):
    page = live_page(SNAPSHOTS[name]())
    read = Reader(page)
    assert SECTIONS == list(read.sections)
    assert len(page.encode()) < 60_000
    assert not re.search(
        r"https?:|//|url\(|@import|src=|<script|<link", page.replace("&lt;img src=x", "").replace("&lt;script", "")
    )
    refresh = [found for tag, found in read.elements if found.get("http-equiv") == "refresh"]
    assert [str(REFRESH_S)] == [found["content"] for found in refresh]
    policy = [found["content"] for _, found in read.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline';")


@pytest.mark.parametrize("name", list(SNAPSHOTS))
def test_tables_have_headers_and_pictures_have_words(name):
    page = read(SNAPSHOTS[name]())
    tables = sum(tag == "table" for tag, _ in page.elements)
    assert tables == sum(tag == "caption" for tag, _ in page.elements)
    assert all(found.get("scope") in ("col", "row") for tag, found in page.elements if tag == "th")
    assert all(found.get("aria-label") for _, found in page.elements if found.get("role") == "img")
    assert all(found.get("aria-hidden") for tag, found in page.elements if tag == "svg")
    assert all(math.isfinite(number) for numbers in page.values.values() for number in numbers)


EARNED = "It earns $0.0449, which leaves $0.0437."
MISSED = "Service levels are missed: p99 TPOT is 52.4 ms, its limit 50 ms."
WITHIN = "within the 10.0 % that the plan's confidence allows."
LONGER = "above all because answers are 30.2 % longer."
SENTENCES = [
    ("whole", f"{MISSED} A query costs $0.00119: 18.7 % more than planned, {LONGER} {EARNED}",
     "the largest part in the direction of the whole, and what makes it"),
    ("as planned", f"A query costs $0.00119: 2.0 % more than planned, {WITHIN} {EARNED}",
     "a departure that the plan covers"),
    ("losing", f"{MISSED} A query costs $0.00119: 18.7 % more than planned, {LONGER} It earns $0.00100, and so loses "
     "$0.000193.", "a margin below 0 is a loss"),
    ("half known", "What a query costs is not known: no query came, or no replica answered.", "no share of anything"),
    ("waiting", "The fleet has not told anything yet. 10.0.0.1:8000: connection refused.", "why there is none"),
    ("blind", "Nothing is known of the fleet: the last reading that told anything ended 21 min ago.", "1250 s"),
    ("uncompared", f"{MISSED} The fleet answers; its comparison with the plan is not there.", "read, not compared"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "because"), SENTENCES, ids=[name for name, *_ in SENTENCES])
def test_the_answer_in_a_sentence(name, expected, because):
    snapshot = SNAPSHOTS[name]()
    assert expected == said(snapshot), because
    assert expected in read(snapshot).text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("cause", "planned", "actual", "expected"),
    [
        ("traffic", 100.0, 80.0, "20.0 % fewer queries share the fleet"),
        ("prefix_hit_rate", 0.5, 0.25, "the prefix cache hits 25.0 % instead of 50.0 %"),
        ("response_hit_rate", 0.3, 0.0, "the response cache answers 0 % instead of 30.0 %"),
        ("step_speed", 30.0, 39.0, "tokens follow each other 30.0 % more slowly"),
        ("utilisation", 18.0, 24.0, "24 replicas run where 18 would do"),
        ("price", 4.0, 5.0, "a GPU-hour costs $5.00 instead of $4.00"),
        ("price", None, None, "price changed"),
        ("of tomorrow", 1.0, 2.0, "of tomorrow changed"),
    ],
)
def test_a_cause_in_words(cause, planned, actual, expected):
    alone = document(parts=[part(cause, "key", planned, actual, 0.0002, 0.2)])
    assert f"above all because {expected}." in said(whole(drift=alone))


def test_causes_that_hide_each_other_are_said_of_a_cost_that_is_as_planned():
    parts = [
        part("price", "prices", 4.0, 5.0, 0.0002, 0.2),
        part("traffic", "traffic.peak_qps", 100.0, 125.0, -0.0002, -0.2),
    ]
    hidden = document(parts=parts, total={"usd_per_query": 0.0, "fraction": 0.0})
    expected = "as planned, while a GPU-hour costs $5.00 instead of $4.00 and 25.0 % more queries share the fleet."
    assert expected in said(whole(drift=hidden))
    assert ["service level missed", "off the plan"] == named(whole(drift=hidden))


def slow():
    """As planned in every figure of cost, within no service level."""
    return replace(as_planned(), drift=dict(as_planned().drift or {}) | {"slo": document()["slo"], "within": False})


def another():
    """Every figure as planned, of a model that is not the plan's."""
    told = {"source": "monitor.model_name", "reason": "missing", "text": "the fleet serves b, the plan is for a"}
    return replace(as_planned(), drift=dict(as_planned().drift or {}) | {"troubles": [told]})


STATES = [
    (another, ["another model?"], "as planned, but of what"),
    (as_planned, ["as planned"], "nothing is the matter"),
    (whole, ["service level missed", "off the plan"], "drift says so"),
    (slow, ["service level missed"], "cost is as planned, latency is not"),
    (
        losing,
        [
            "service level missed",
            "overloaded",
            "losing money",
            "off the plan",
            "20 of 22 sources answering",
            "figures 61 s old",
        ],
        "worst first",
    ),
    (half_known, ["cost not known"], "within, but of what"),
    (waiting, ["waiting for a first reading"], "before the first"),
    (blind, ["blind"], "all figures are gone"),
]


@pytest.mark.parametrize(("snapshot", "expected", "because"), STATES, ids=[row[2] for row in STATES])
def test_the_states_name_what_is_the_matter(snapshot, expected, because):
    assert expected == named(snapshot()), because
    assert expected[0] in live_page(snapshot()).split("<title>")[1].split("</title>")[0]


def test_a_model_that_is_not_the_plans_is_the_first_thing_said():
    assert said(another()).startswith("Is it the plan's model? The fleet serves b, the plan is for a. A query costs")
    page = live_page(another())
    assert '<span class="state bad">another model?</span>' in page
    assert "as planned</span>" not in page


def test_before_the_first_try_there_is_no_trouble_to_name():
    assert "The fleet has not told anything yet." == said(replace(waiting(), troubles=()))


def test_spare_replicas_are_told_beside_those_that_run():
    spare = read(whole(plan=replace(whole().plan, spare_replicas=2))).sections["now"]
    assert "planned: 22, 2 of them spare" in spare
    assert "spare" not in read(whole()).sections["now"]


@pytest.mark.parametrize("name", list(SNAPSHOTS))
def test_no_line_ends_between_a_number_and_its_unit(name):
    snapshot = SNAPSHOTS[name]()
    noted = dict(snapshot.drift or {}) | {"notes": ["75.0 % of those (± 40.3 %), in 9 s"]}
    text = live_page(replace(snapshot, drift=noted if snapshot.drift is not None else None)).split("</style>")[1]
    shown = re.sub(r' aria-label="[^"]*"', "", text)  # which is spoken, on no line
    assert [] == re.findall(r".{20}\d (?:%|(?:ms|s|min|h|days)\b)", shown)


def test_a_missed_service_level_is_red_and_said_first():
    page = live_page(slow())
    assert '<span class="state bad">service level missed</span>' in page
    assert "as planned</span>" not in page
    assert said(slow()).startswith(MISSED.replace("52.4", "42.4"))


def test_what_part_of_a_fleet_says_of_traffic_is_no_cause():
    parts = [
        part("traffic", "traffic.peak_qps", 100.0, 50.0, 0.0008, 0.8, holds=None),
        part("price", "prices", 4.0, 5.0, 0.0002, 0.2),
    ]
    found = said(whole(drift=document(parts=parts)))
    assert "above all because a GPU-hour costs $5.00 instead of $4.00." in found


def test_a_fleet_that_is_down_behind_a_prometheus_that_is_well_is_said():
    gone = Trouble("fleet", "missing", "Prometheus answers, but no replica is up: no vllm:num_requests_running{}")
    asked = replace(waiting(), asked=1, answered=1, sources={"10.0.0.9:9090": True}, troubles=(gone,))
    page = read(asked)
    assert "Prometheus answers, but no replica is up" in said(asked)
    assert "Not answering as they should" not in page.text
    later = replace(blind(), asked=1, answered=1, sources={"10.0.0.9:9090": True}, troubles=(gone,))
    assert "Prometheus answers, but no replica is up" in said(later)
    assert "1 of 1 source answered" in read(later).text.replace("\N{NO-BREAK SPACE}", " ")


def test_tiles_tables_and_charts_hold_the_snapshots_own_numbers():
    page = read(whole())
    assert [0.001193, 0.043707, 44.9, 112.0, 22.0, 481.2] == page.values["now"]
    assert [0.0000531, 0.0528, 0.000201, 0.2] == page.values["causes"][:4]
    assert [812.0, 1000.0, 52.4, 50.0] == page.values["limits"]
    assert [117.6, 112.0, 112.0 / 117.6] == page.values["quantities"][:3]
    assert "missed" in page.sections["limits"]
    assert [66.2, 0.121, 206.2, 0.3] == page.values["savings"]
    assert "--set 'query.stages[0].output_tokens={lognormal: {mean: 391, cv: 0.7}}'" in page.sections["causes"]
    assert "p95 TTFT" not in page.sections["quantities"]  # the JSON has it
    assert "gpu_hour_usd" in page.sections["sources"]
    assert "The KV cache is fuller than planned" in page.sections["sources"]


@pytest.mark.parametrize("snapshot", [waiting, blind])
def test_of_a_fleet_that_is_not_seen_no_figure_is_shown_but_what_the_plan_says(snapshot):
    page = read(snapshot())
    assert {"limits": [1000.0, 50.0]} == page.values
    assert 6 == sum(found.get("class") == "figure unknown" for _, found in page.elements)
    assert "connection refused" in page.sections["sources"]
    assert "$" not in "".join(text for name, text in page.sections.items() if name != "history")


def test_what_is_half_known_is_shown_beside_what_is_not():
    page = read(half_known())
    assert [112.0, 22.0] == page.values["now"]
    assert [812.0, 1000.0, 50.0] == page.values["limits"]
    assert UNKNOWN in page.sections["limits"]
    assert "Not known yet: two readings make a line." in page.sections["history"]
    assert f"GPU-hour, all in{UNKNOWN}" not in page.sections["quantities"]


def test_old_figures_are_flagged_and_figures_that_are_too_old_are_gone():
    fresh, late = whole(age_s=44.0), whole(age_s=46.0)  # three times 15 s
    assert ["service level missed", "off the plan"] == named(fresh)
    assert "figures 46 s old" in named(late)
    gone = late.aged(301.0)
    assert "too old to show" in read(gone).text
    assert 'class="reading bad"' in live_page(gone)
    assert "$0.00119" not in live_page(gone)


def test_names_that_would_like_to_be_markup_stay_text():
    text = live_page(SNAPSHOTS["hostile"]())
    page = Reader(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object"}
    assert text.count("&lt;script&gt;") > 10
    assert "\x00" not in text
    assert "\x1b" not in text
    assert not any(name.startswith("on") for _, found in page.elements for name in found)


def test_many_troubles_are_counted_not_all_told():
    many = tuple(Trouble(f"10.0.1.{number}:8000", "down", "connection refused") for number in range(256))
    sources = dict.fromkeys((one.source for one in many), False)
    page = live_page(whole(troubles=many, sources=sources, asked=256, answered=0, trouble_counts={"down": 2560}))
    assert len(page.encode()) < 60_000
    assert 2 == page.count("and 236 more")
    assert "down 2560" in page


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (from_middle(0.1, 0.2, ""), (50.0, 25.0)),
        (from_middle(-0.2, 0.2, ""), (0.0, 50.0)),
        (from_middle(0.0, 0.0, ""), (50.0, 0.0)),
        (of_ratio(2.0, ""), (50.0, 50.0)),
        (of_ratio(0.5, ""), (0.0, 50.0)),
        (of_ratio(9.0, ""), (50.0, 50.0)),
        (of_ratio(0.0, ""), (0.0, 50.0)),
        (up_to(50.0, 100.0, ""), (0.0, 40.0)),
        (up_to(500.0, 100.0, ""), (0.0, 100.0)),
        (up_to(1.0, 0.0, ""), (0.0, 100.0)),
    ],
)
def test_bars_end_where_they_must(found, expected):
    assert expected == pytest.approx((found.left, found.width))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (3600.0, "60 min"), (7200.0, "2 h"), (200_000.0, "2 days")],
)
def test_a_time_span_has_one_unit(seconds, expected):
    assert expected == ago(seconds)
