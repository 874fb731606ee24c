"""Four cost bases in one form, and the factors between them: by hand, by published figures, and by law."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics.bases import (
    Basis,
    Chip,
    ListPrice,
    QueryTokens,
    ServedPeak,
    by_denominator,
    flops,
    list_price,
    measured,
    simulated,
)
from planner.economics.basis_gaps import (
    Gap,
    busy_mfu_of,
    flops_to_measured,
    flops_to_simulated,
    list_to_flops,
    measured_to_simulated,
)
from planner.errors import InputError

TOKENS = QueryTokens(prompt=1800.0, output=300.0, prompt_once=1800.0, cached=400.0, uncached_share=0.7)
CHIP = Chip("h100-sxm-80gb", 989e12, 3.0)
PEAK = ServedPeak(
    peak_qps=100.0,
    replicas=11,
    serving=10,
    gpus_per_replica=2,
    busy_gpu_s=0.25,
    input_share=0.4,
    prefill_mfu=0.5,
    utilisation=0.9,
    mean_of_day=0.75,
)

# basis, $/1k input, $/1k output, $/query, because
BY_HAND: list[tuple[Basis, float, float, float, str]] = [
    (
        list_price(replace(TOKENS, uncached_share=1.0), ListPrice(1.0, 5.0)),
        0.001,
        0.005,
        1800e-6 + 300 * 5e-6,
        "every token at its own price",
    ),
    (
        list_price(TOKENS, ListPrice(1.0, 5.0)),
        0.001,
        0.005,
        0.7 * (1800e-6 + 300 * 5e-6),
        "what the response cache answers is not bought",
    ),
    (
        list_price(TOKENS, ListPrice(1.0, 5.0, 0.1)),
        (1400 * 1.0 + 400 * 0.1) / 1800 / 1000,
        0.005,
        0.7 * (1400e-6 + 400 * 0.1e-6 + 1500e-6),
        "400 cached tokens cost a tenth",
    ),
    (
        list_price(QueryTokens(4000.0, 1200.0, 1000.0), ListPrice(1.0, 1.0)),
        0.001 / 4,
        0.001,
        1000e-6 + 1200e-6,
        "four answers to a prompt of 1,000: the prompt is billed once",
    ),
    (
        list_price(QueryTokens(4000.0, 1200.0, 1000.0, cached=3400.0), ListPrice(1.0, 1.0, 0.0)),
        0.0006 / 4,
        0.001,
        600e-6 + 1200e-6,
        "600 of the prompt are computed once: 400 were cached before, free; the three repeats are not billed",
    ),
    (
        flops(replace(TOKENS, uncached_share=1.0), 70e9, CHIP, 0.5, ()),
        1000 * 140e9 / (989e12 * 0.5) * 3 / 3600,
        1000 * 140e9 / (989e12 * 0.5) * 3 / 3600,
        2100 * 140e9 / (989e12 * 0.5) * 3 / 3600,
        "2 FLOP a parameter and token, input and output alike",
    ),
    (
        measured(TOKENS, 2000.0, CHIP, "a test", ()),
        1000 * 3 / 3600 / 2000,
        1000 * 3 / 3600 / 2000,
        0.7 * 2100 * 3 / 3600 / 2000,
        "2,000 tokens a second on a GPU of 3 $/h",
    ),
    (
        simulated(TOKENS, CHIP, PEAK),
        1000 * 0.4 * (22 * 3 / 3600 / 75 / 0.7) / 1800,
        1000 * 0.6 * (22 * 3 / 3600 / 75 / 0.7) / 300,
        22 * 3 / 3600 / 75,
        "22 GPUs at 75 queries/s on the day's average, 40 % of the busy time for prompts",
    ),
]


@pytest.mark.parametrize(("basis", "per_input", "per_output", "per_query", "because"), BY_HAND)
def test_bases_by_hand(basis: Basis, per_input: float, per_output: float, per_query: float, because: str):
    found = (basis.usd_per_1k_input, basis.usd_per_1k_output, basis.usd_per_query)
    assert (per_input, per_output, per_query) == pytest.approx(found, rel=1e-12), because


def test_gpt3_on_an_a100_costs_a_third_of_a_cent_a_thousand_tokens():
    """312 TFLOP/s at 21.3 %, 175 B parameters, 19.22 $/h for eight (Sunyan, January 2023): 0.003515, printed 0.0035."""
    chip = Chip("a100", 312e12, 19.22 / 8)
    found = flops(QueryTokens(50.0, 400.0, 50.0), 175e9, chip, 0.213, ())
    assert 0.003514752451078742 == pytest.approx(found.usd_per_1k_output, rel=1e-9)


def test_a_server_counted_by_output_alone_looks_twice_as_dear_as_by_all_its_tokens():
    """Batch 128 in 20 s, 200 tokens in and 200 out, 10,000 $ a month of 30 days (Yang Jun): 0.3014 cents by output."""
    tokens = QueryTokens(200.0, 200.0, 200.0)
    chip = Chip("a100", 312e12, 10_000 / 720 / 8)
    basis = measured(tokens, 128 * 400 / 20 / 8, chip, "printed", ())
    found = by_denominator(basis, tokens, 750.0)
    assert 0.0030140817901234567 == pytest.approx(found.usd_per_1k_output_alone, rel=1e-9)
    assert found.usd_per_1k_output_alone == pytest.approx(2 * found.usd_per_1k_tokens, rel=1e-12)
    assert found.usd_per_1k_words == pytest.approx(found.usd_per_1k_tokens / 0.75, rel=1e-12)


def test_a_search_query_at_2026_list_prices_costs_six_tenths_of_a_cent():
    """6,000 tokens in and 400 out at 0.75 and 3.75 $ a million."""
    found = list_price(QueryTokens(6000.0, 400.0, 6000.0), ListPrice(0.75, 3.75))
    assert 0.006 == pytest.approx(found.usd_per_query, rel=1e-12)


def test_input_and_output_prices_times_their_tokens_are_the_price_of_a_query_on_every_basis():
    price = ListPrice(1.0, 5.0, 0.1)
    every = [
        list_price(TOKENS, price),
        flops(TOKENS, 70e9, CHIP, 0.3, ()),
        measured(TOKENS, 2000.0, CHIP, "", ()),
        simulated(TOKENS, CHIP, PEAK),
    ]
    for basis in every:
        parts = TOKENS.prompt * basis.usd_per_1k_input + TOKENS.output * basis.usd_per_1k_output
        assert basis.usd_per_query == pytest.approx(TOKENS.uncached_share * parts / 1000, rel=1e-12), basis.name


# --- gaps ---


def factors_of(gap: Gap) -> dict[str, float]:
    return {factor.name: factor.value for factor in gap.factors}


def test_factors_from_flop_to_simulation_by_hand():
    gap = flops_to_simulated(TOKENS, 70e9, CHIP, 0.4, PEAK)
    busy_mfu = 2 * 70e9 * 1700 / (0.25 * 989e12)
    busy = 0.25 * 100 * 0.7 / 20
    expected = {
        "prefix cache": 1700 / 2100,
        "MFU of full prefill steps": 0.4 / 0.5,
        "memory-bound decoding": 0.5 / busy_mfu,
        "idle time at the peak": 1 / 0.9,
        "the run's ends": 0.9 / busy,
        "hours below the peak": 4 / 3,
        "spare replicas": 1.1,
    }
    assert expected == pytest.approx(factors_of(gap), rel=1e-12)
    assert busy_mfu == pytest.approx(busy_mfu_of(TOKENS, 70e9, CHIP, PEAK), rel=1e-12)


def test_factors_from_list_price_to_flop_by_hand():
    four = QueryTokens(4000.0, 1000.0, 1000.0, cached=3500.0)
    gap = list_to_flops(four, ListPrice(2.0, 10.0, 0.2), 70e9, CHIP, 0.4)
    per_token = 140e9 / (989e12 * 0.4) * 3 / 3600
    billed = 500 * 2.0 + 500 * 0.2 + 10_000
    expected = {
        "cached input at full price": 12_000 / billed,
        "prompt per sample": (4000 * 2.0 + 10_000) / 12_000,
        "one price for input and output": 5000 * 2.0 / 18_000,
        "a token's FLOP against its list price": per_token / 2e-6,
    }
    assert expected == pytest.approx(factors_of(gap), rel=1e-12)


def test_a_factor_of_one_is_not_told():
    gap = list_to_flops(TOKENS, ListPrice(1.0, 1.0), 70e9, CHIP, 0.4)
    assert set(factors_of(gap)) == {"a token's FLOP against its list price"}
    calm = replace(PEAK, replicas=10, mean_of_day=1.0)
    assert "spare replicas" not in factors_of(flops_to_simulated(TOKENS, 70e9, CHIP, 0.4, calm))


positive = st.floats(1e-3, 1e3)
shares = st.floats(0.01, 1.0)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    once = draw(st.floats(1.0, 1e5))
    prompt = once * draw(st.integers(1, 8))
    tokens = QueryTokens(prompt, draw(st.floats(1.0, 1e4)), once, prompt * draw(st.floats(0, 0.99)), draw(shares))
    serving = draw(st.integers(1, 50))
    return {
        "tokens": tokens,
        "price": ListPrice(draw(positive), draw(positive), draw(st.none() | positive)),
        "chip": Chip("a", 1e15 * draw(shares), draw(positive)),
        "other": Chip("b", 1e15 * draw(shares), draw(positive)),
        "active": 1e9 * draw(positive),
        "mfu": draw(shares),
        "rate": draw(st.floats(1.0, 1e5)),
        "peak": ServedPeak(
            peak_qps=draw(positive),
            replicas=serving + draw(st.integers(0, 5)),
            serving=serving,
            gpus_per_replica=draw(st.integers(1, 16)),
            busy_gpu_s=draw(positive),
            input_share=draw(shares),
            prefill_mfu=draw(shares),
            utilisation=draw(shares),
            mean_of_day=draw(shares),
        ),
    }


@given(worlds())
def test_the_factors_of_every_gap_multiply_to_the_ratio_of_its_two_bases(world: dict[str, Any]):
    tokens, chip, other, peak = world["tokens"], world["chip"], world["other"], world["peak"]
    active, mfu, rate = world["active"], world["mfu"], world["rate"]
    bases = {
        "list price": list_price(tokens, world["price"]),
        "FLOP": flops(tokens, active, chip, mfu, ()),
        "measured": measured(tokens, rate, other, "", ()),
        "simulated": simulated(tokens, chip, peak),
    }
    gaps = [
        list_to_flops(tokens, world["price"], active, chip, mfu),
        flops_to_simulated(tokens, active, chip, mfu, peak),
        flops_to_measured(active, chip, mfu, other, rate),
        measured_to_simulated(tokens, other, rate, chip, peak),
    ]
    for gap in gaps:
        ratio = bases[gap.to].usd_per_query / bases[gap.start].usd_per_query
        assert ratio == pytest.approx(gap.ratio, rel=1e-9)
        assert gap.ratio == pytest.approx(prod(factor.value for factor in gap.factors), rel=1e-9)


# --- bad input: what is wrong, and the key that the message names ---

BAD = [
    (lambda: flops(TOKENS, 70e9, CHIP, 0.0, ()), "mfu"),
    (lambda: flops(TOKENS, 70e9, CHIP, 1.2, ()), "mfu"),
    (lambda: flops(TOKENS, 70e9, CHIP, float("nan"), ()), "mfu"),
    (lambda: flops(TOKENS, 0.0, CHIP, 0.5, ()), "active_parameters"),
    (lambda: list_to_flops(TOKENS, ListPrice(1, 1), 70e9, CHIP, 2.0), "mfu"),
    (lambda: ListPrice(-1.0, 5.0), "list_price.input"),
    (lambda: ListPrice(1.0, 0.0), "list_price.output"),
    (lambda: ListPrice(1.0, 1.0, -0.1), "list_price.cached_input"),
    (lambda: Chip("x", 1e12, 0.0), "prices.gpu_hour_usd"),
    (lambda: Chip("x", float("inf"), 1.0), "peak_flops"),
    (lambda: QueryTokens(100.0, 10.0, 100.0, cached=101.0), "cached_prompt_tokens"),
    (lambda: QueryTokens(100.0, 10.0, 100.0, uncached_share=1.5), "uncached_share"),
    (lambda: QueryTokens(100.0, 0.0, 100.0), "output_tokens"),
    (lambda: measured(TOKENS, 0.0, CHIP, "", ()), "tokens_per_gpu_s"),
    (lambda: replace(PEAK, mean_of_day=0.0), "mean_of_day"),
    (lambda: replace(PEAK, input_share=1.1), "input_share"),
    (lambda: by_denominator(list_price(TOKENS, ListPrice(1, 1)), TOKENS, 0.0), "words_per_1000_tokens"),
]


@pytest.mark.parametrize(("wrong", "key"), BAD)
def test_bad_figures_are_refused_by_name(wrong: Any, key: str):
    with pytest.raises(InputError) as caught:
        wrong()
    assert caught.value.key == key
