"""Documents as text: the sentences that a person decides by, and what no text may ever do."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from summary_documents import (
    ALTERNATIVES,
    CAPACITY,
    FLEET,
    MODEL,
    NO_FLEET,
    PLAN,
    SCENARIO,
    SIMULATION,
    Document,
    alternative,
    limit,
    probe,
    run,
)

from planner.summary import capacity_text, plan_text, simulation_text
from planner.summary.layout import WIDTH, columns
from planner.summary.words import limit_name, milliseconds

TEXTS = {"plan": (plan_text, PLAN), "simulation": (simulation_text, SIMULATION), "capacity": (capacity_text, CAPACITY)}


def changed(document: Document, changes: Document) -> Document:
    """A copy with other values at dotted keys."""
    document = copy.deepcopy(document)
    for key, value in changes.items():
        place = document
        *path, last = key.split(".")
        for step in path:
            place = place[step]
        place[last] = value
    return document


def flat(text: str) -> str:
    """The text as one line, so that a sentence is found wherever it was wrapped."""
    return " ".join(text.split())


# --- the answer ---


@pytest.mark.parametrize(
    ("changes", "sentence", "because"),
    [
        (
            {},
            "14 × H100 SXM 80 GB (7 replicas of llama-3.3-70b fp8, TP 2, 1 of them spare) serve 120 queries/s within "
            "the limits. A query costs $0.00120, 2.7 % of its ad revenue; margin $0.0437 (97.3 %).",
            "the answer first",
        ),
        (
            {"fleet.spare_replicas": 0, "fleet.replicas": 1, "fleet.engine": {"quantization": "bf16"}},
            "(1 replica of llama-3.3-70b bf16) serve",
            "one replica, one GPU, none spare",
        ),
        (
            {"revenue": None, "margin": None},
            "A query costs $0.00120; no revenue given: margin left out.",
            "no revenue is said, not counted as zero",
        ),
        ({"cost": None, "cost_lines": [], "margin": None}, "No GPU price given: cost and margin left out.", "no price"),
        (
            {"margin": {"usd_per_query": -0.002, "fraction": -0.5, "cost_share_of_revenue": 1.5}},
            "150.0 % of its ad revenue; it LOSES $0.00200: the revenue is $0.0449.",
            "a loss is not a negative margin in small print",
        ),
        (
            {"scenario.traffic": {"arrivals": {"closed": {"concurrency": 64, "think_s": 8}}}},
            "serve a closed loop of 64 clients within",
            "a closed loop has no rate",
        ),
        (
            {"scenario.traffic": {"arrivals": {"trace": {"file": "t.csv", "format": "azure", "speedup": 2}}}},
            "serve the trace at 2 × its own rate within",
            "a trace has its own",
        ),
        ({"scenario.traffic": {"arrivals": {"offline": {"requests": 500}}}}, "a batch of 500 queries", "a batch"),
    ],
)
def test_the_first_sentence_of_a_plan_is_the_answer(changes, sentence, because):
    assert sentence in flat(plan_text(changed(PLAN, changes))), because


@pytest.mark.parametrize(
    ("changes", "line", "because"),
    [
        ({}, "p99 TTFT ≤ 1,000 ms 812 ms 837 ms holds 16.3 % below the limit", "judged by the upper end"),
        ({}, "One replica fewer (5 serving) FAILS: p99 TTFT", "the evidence"),
        ({}, "p99 TTFT ≤ 1,000 ms 2,310 ms 2,379 ms FAILS 2.40 × the limit", "and by how much"),
        (
            {"one_fewer": None, "fleet.replicas": 2},
            "One replica serves: there is no smaller fleet.",
            "the null case: n − spare is 1",
        ),
        (
            {"one_fewer": run(), "scenario.fleet": {"min_replicas": 7}},
            "One replica fewer holds the limits too, but fleet.min_replicas asks for more",
            "the fleet is not the smallest that would do, and the text says so",
        ),
        (
            {"one_fewer.slo": [], "one_fewer.saturated": True, "one_fewer.slo_met": False},
            "One replica fewer (5 serving) FAILS: more arrives than is served",
            "a saturated fleet fails whatever its figures are",
        ),
        ({}, "GPUs 336 GPU-hours × $2.985 = $1,002.96", "quantity × unit price = product"),
        ({}, "retrieval 5,000,000 uncached queries × $0.00001 = $50.00", "every line of the bill"),
        ({}, "sum = $1,052.96", "and their sum"),
        ({}, "3.21 queries/s at the peak: with fewer, the fleet costs more than it earns", "break-even in words"),
        ({"break_even.qps": None}, "$1.20 query RPM: the least that 1,000 queries must earn", "without the absent"),
        ({}, "queries ▃▃▃▃▃▃▃▃▃▃▃▃████████████ 160,470 at 00:00 to 481,410 at 12:00; 7,702,560 a day", "the day"),
        ({}, "→ h100-sxm-80gb 2 7 14 $42.00 $0.00120 80.0 % chosen", "the chosen one among the candidates"),
        ({}, "2 h200-sxm-141gb 2 ≈8 ≈16 $48.00 $0.00138 80.0 % 15.0 % dearer", "and how much dearer the next is"),
        (
            {},
            "2 candidates: h100-sxm-80gb TP 1; h200-sxm-141gb TP 1 engine.tensor_parallel_size",
            "like reasons stand together",
        ),
        ({}, "Serving replicas tried: 5 fails, 6 holds", "every size that was run"),
        ({}, "assumed asynchronous scheduling 5.2 ms optimistic a source", "known directions first within a kind"),
        ({}, "and 4 more (3 fitted, 1 datasheet): --json has all", "the rest is counted"),
        (
            {"alternatives": [row | {"usd_per_hour": None, "usd_per_query": None} for row in ALTERNATIVES]},
            "2 of 4, fewest GPUs first (no price given) hardware TP replicas GPUs busy → h100",
            "without a price GPUs rank, and the columns of money are left out",
        ),
        ({"alternatives": ALTERNATIVES[:1]}, "The runs", "one candidate needs no table"),
    ],
)
def test_a_plan_shows_its_evidence(changes, line, because):
    assert line in flat(plan_text(changed(PLAN, changes))), because


@pytest.mark.parametrize(
    ("changes", "line", "because"),
    [
        ({}, "NO FLEET FITS: none of 3 candidates can serve 120 queries/s within the limits.", "the answer first"),
        (
            {},
            "Nearest miss: h200-sxm-141gb TP 2: fleet.max_gpus: 4 serving replicas are too few (p99 TPOT 61 > 50 ms).",
            "one that more GPUs would help is nearer than one that fails when idle",
        ),
        (
            {},
            "1 candidate: h100-sxm-80gb TP 2 even an idle replica misses p99 TTFT",
            "every gate with what it rejected",
        ),
        ({}, "fleet.max_gpus: allow more than 8 GPUs", "what could be changed"),
        ({}, "slo.p99_tpot_ms: a looser limit than 50 ms", "the limit that the reasons name"),
        ({}, "hardware: other GPUs beside h100-sxm-80gb, h200-sxm-141gb", "other hardware"),
        (
            {"alternatives": [alternative("h100-sxm-80gb", 2, None, None, reason="too few (saturated)")]},
            "within the limits. Rejected: 1 of 1 candidate 1 candidate too few (saturated)",
            "no miss is called near where nothing says how near",
        ),
        ({"alternatives": []}, "NO FLEET FITS: the candidate does not serve 120 queries/s", "nothing to choose from"),
    ],
)
def test_an_infeasible_plan_says_what_rejected_what(changes, line, because):
    assert line in flat(plan_text(changed(NO_FLEET, changes))), because


@pytest.mark.parametrize(
    ("changes", "line", "because"),
    [
        ({}, "under 120 queries/s: every limit HOLDS.", "the verdict first"),
        ({"slo": [limit("p95_e2e_ms", 8000.0, 9000.0, None)], "slo_met": False}, "p95 E2E FAILS.", "the broken limit"),
        ({"slo": [], "slo_met": None, "scenario.slo": {}}, "no limits given (slo), so nothing is judged.", "no limits"),
        ({"slo": [], "slo_met": None}, "Limits p99 TTFT ≤ 1,000 ms p99 TPOT ≤ 50 ms Latency", "limits without a value"),
        (
            {"slo": [limit("p99_ttft_ms", 1000.0, None, None)], "slo_met": False},
            "p99 TTFT ≤ 1,000 ms – FAILS not finite: too many queries failed",
            "an infinite latency is none in JSON",
        ),
        ({"saturated": True, "slo_met": False}, "SATURATED: more arrives than is served", "capital-clear"),
        ({"saturated": True, "slo_met": False}, "of this finite run, NOT of a steady state", "no steady-state claim"),
        ({"failed": 3}, "failed 3 queries, counted as missing the limits", "failures are misses"),
        ({"prefix_cache_hit_rate": None}, "preemptions 0", "without prefix caching its line is left out"),
        ({"tpot_ms": None, "itl_ms": None}, "E2E 4,100 3,280 6,971 8,611 12,301", "one-token outputs have no TPOT"),
        ({}, "weights other layers 33.1 + KV cache 39.7 = 72.8 GiB usable", "memory adds up"),
        ({}, "100,000 requests counted, 1,190 s of service, seed 7, simulated in 0.021 s", "the run"),
        ({}, "Note: 12 prompts were raised to 401 tokens", "notes are not swallowed"),
        ({"fleet.engine.data_parallel_size": 2}, "438,912 tokens per data-parallel rank", "the cache is a rank's"),
    ],
)
def test_a_simulation_is_read_at_a_glance(changes, line, because):
    assert line in flat(simulation_text(changed(SIMULATION, changes))), because


@pytest.mark.parametrize(
    ("changes", "line", "because"),
    [
        (
            {},
            "carries 20.20 queries/s within the limits; what gives way beyond: p99 TTFT 1,031 > 1,000 ms.",
            "the answer",
        ),
        ({}, "20.20 990 ms 90.0 % holds, the answer", "every probe by its upper end"),
        ({}, "20.40 1,031 ms 90.0 % FAILS", "the next one up fails"),
        ({}, "40 92,000 ms 90.0 % SATURATED", "and far beyond it saturates"),
        ({"max_rate_qps": 0, "at_max": None}, "NO LOAD HOLDS: 14 × H100 SXM 80 GB", "nothing holds"),
        ({"max_rate_qps": 0, "at_max": None}, "not even 20 queries/s (p99 TTFT 1,031 > 1,000 ms).", "the least tried"),
        ({"max_rate_qps": 0, "at_max": None}, "p99 TPOT ≤ 50 ms", "the limits stand there all the same"),
    ],
)
def test_a_capacity_is_the_most_load_and_what_gives_way_beyond(changes, line, because):
    assert line in flat(capacity_text(changed(CAPACITY, changes))), because


def test_capacity_counts_clients_of_a_closed_loop():
    probes = [{"concurrency": 64, "met": True}, {"concurrency": 65, "met": False}]
    document = {"vary": "concurrency", "max_concurrency": 64, "probes": probes, "fleet": FLEET, "model": MODEL}
    text = flat(capacity_text(document))
    assert "carries 64 clients within the limits" in text
    assert "65 – FAILS" in text


# --- laws ---


def check(text: str) -> None:
    assert text.strip()
    assert not re.search(r"\b(None|nan|inf|NaN)\b|\$0\.0+\b", text)
    assert [] == [line for line in text.split("\n") if columns(line) > WIDTH or line != line.rstrip()]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


@pytest.mark.parametrize("name", TEXTS)
def test_every_limit_is_shown_with_its_definition_below(name):
    write, document = TEXTS[name]
    text = write(document)
    check(text)
    for key, bound in SCENARIO["slo"].items():
        assert f"{limit_name(key)}   ≤ {milliseconds(float(bound[2:]))}"[:8] in text
        assert f"≤ {milliseconds(float(bound[2:]))}" in text
    assert "TTFT: scheduled arrival to the first token" in text.split("\n")[-2]


@pytest.mark.parametrize("name", TEXTS)
def test_twenty_limits_at_once_stay_within_the_page(name):
    write, document = TEXTS[name]
    keys = [f"{kind}_{what}_ms" for kind in ("mean", "p50", "p95", "p99.9") for what in ("ttft", "tpot", "itl", "e2e")]
    slo = [limit(key, 123_456.0, 1_234_567.0, 2_345_678.0) for key in keys]
    figures = {row["key"]: row["value_ms"] for row in slo}
    changes: Document = {"scenario.slo": dict.fromkeys(keys, "<=123456")}
    changes |= {"plan": {"at_peak.slo": slo, "one_fewer.slo": slo}, "simulation": {"slo": slo}}.get(
        name, {"at_max.slo": slo, "probes": [probe(1.0, 1.0, 1.0) | figures]}
    )
    text = write(changed(document, changes))
    check(text)
    assert all(limit_name(key) in text for key in keys)


@pytest.mark.parametrize("name", TEXTS)
def test_names_of_any_length_and_kind_cannot_break_the_page(name):
    write, document = TEXTS[name]
    awkward = "搜索\x1b[31m" + "x" * 300 + "\n" + "word " * 40
    changes: Document = {"scenario.name": awkward, "model.name": awkward, "fleet.hardware": awkward}
    check(write(changed(document, changes)))


@pytest.mark.parametrize("name", TEXTS)
def test_a_document_of_nothing_still_gives_a_text(name):
    check(TEXTS[name][0]({}))


def pruned(value: Any, chance: random.Random) -> Any:
    """A copy in which any key may be missing, null, or a number out of all proportion."""
    if isinstance(value, list):
        return [pruned(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    kept: Document = {}
    for key, item in value.items():
        fate = chance.randrange(30)
        if fate == 0:
            continue
        if fate == 1:
            kept[key] = None
        elif fate == 2 and isinstance(item, float):
            kept[key] = chance.choice([float("nan"), float("inf"), 0.0, -1e-7 * item, 1e30])
        else:
            kept[key] = pruned(item, chance)
    return kept


@pytest.mark.parametrize("name", [*TEXTS, "infeasible"])
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_absent_the_text_is_readable(name, seed):
    write, document = TEXTS.get(name, (plan_text, NO_FLEET))
    check(write(pruned(document, random.Random(seed))))


# --- warnings ---


@pytest.mark.parametrize("name", [*TEXTS, "no fleet"])
def test_a_warning_stands_before_the_first_figure(name):
    text_of, document = TEXTS.get(name, (plan_text, NO_FLEET))
    without, given = text_of(document), text_of({**document, "warnings": ["calibration c.json is NOT USED"]})
    assert "WARNING: calibration c.json is NOT USED." in given
    before = given.partition("WARNING:")[0]
    assert "\n\n" in before.strip()  # the scenario's name, then the answer
    assert "Limits" not in before
    assert "WARNING" not in without
    assert given.replace("WARNING: calibration c.json is NOT USED.\n", "") == without
