"""Words and tokens of one query, and what they cost at a price per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from planner.economics.models.fields import (
    Factor,
    Given,
    GrossMargin,
    Made,
    Share,
    UsdPer1000Tokens,
    UsdPerMillionTokens,
    UsdPerQuery,
    Why,
    WordsPer1000Tokens,
    cached_within,
)
from planner.economics.sales import billed_usd

WordsPerQuery = Annotated[float, Given("word/query")]
TokensPerQuery = Annotated[float, Given("token/query")]
Billed = Literal["once", "per_result", "per_sample", "never"]
SectionBilled = Literal["per_result", "per_sample"]
PER_1000 = 1000


@dataclass(frozen=True)
class TokenBudget:
    """How often each part of the prompt is read, the words of one query, and its tokens."""

    answers: Annotated[float, Made("", "fan_out × samples")]
    query_times: Annotated[float, Made("")]
    section_times: Annotated[float, Made("")]
    words: Annotated[
        float,
        Made("word/query", "query_words × query_times + section_words × section_times + response_words × answers"),
    ]
    tokens: Annotated[float, Made("token/query", "words ÷ words_per_1000_tokens × 1000")]
    prompt_tokens: Annotated[
        float,
        Made(
            "token/query",
            "(query_words × query_times + section_words × section_times) ÷ words_per_1000_tokens × 1000",
        ),
    ]
    response_tokens: Annotated[float, Made("token/query", "tokens − prompt_tokens")]


@dataclass(frozen=True)
class ListPrice:
    """What a query costs at a list price."""

    usd_per_query: Annotated[float, Made("USD/query", "tokens ÷ 1000 × usd_per_1000_tokens")]


@dataclass(frozen=True)
class ServedCost:
    """What a query costs whoever sells at that price, over all queries."""

    after_cache: Annotated[float, Made("USD/query", "usd_per_query × (1 − cache_hit_rate)")]
    cost: Annotated[float, Made("USD/query", "after_cache × (1 − gross_margin)")]


@dataclass(frozen=True)
class ApiCall:
    """One query at list prices of an API; cached input that has no price of its own is billed as other input."""

    cached_billed_usd_per_million: Annotated[float, Made("USD/Mtoken")]
    llm_usd_per_query: Annotated[
        float,
        Made(
            "USD/query",
            "(input_tokens − cached_tokens) ÷ 1000000 × usd_per_million_input"
            " + cached_tokens ÷ 1000000 × cached_billed_usd_per_million"
            " + output_tokens ÷ 1000000 × usd_per_million_output",
        ),
    ]
    usd_per_query: Annotated[float, Made("USD/query", "llm_usd_per_query + retrieval_usd_per_query")]


@dataclass(frozen=True)
class Idle:
    """A price per token at less than full utilisation."""

    usd_per_1000_tokens: Annotated[float, Made("USD/ktoken", "full_usd_per_1000_tokens ÷ utilisation")]
    gross_margin: Annotated[float, Made("", "1 − usd_per_1000_tokens ÷ price_usd_per_1000_tokens")]
    utilisation_for_margin: Annotated[
        float, Made("", "full_usd_per_1000_tokens ÷ (price_usd_per_1000_tokens × (1 − target_gross_margin))")
    ]


@dataclass(frozen=True)
class Optimised:
    """A cost after model and infrastructure have been made cheaper."""

    after_model: Annotated[float, Made("USD/query", "usd_per_query ÷ model_factor")]
    cost: Annotated[float, Made("USD/query", "after_model × (1 − cloud_gross_margin)")]
    factor: Annotated[float, Made("", "model_factor ÷ (1 − cloud_gross_margin)")]


def token_budget(
    query_words: WordsPerQuery,
    response_words: WordsPerQuery,
    words_per_1000_tokens: WordsPer1000Tokens,
    section_words: Annotated[WordsPerQuery, Why("no retrieved text beside the query")] = 0.0,
    fan_out: Annotated[float, Given("", 0, above=True), Why("one call a query")] = 1.0,
    samples: Annotated[float, Given("", 0, above=True), Why("one answer a call")] = 1.0,
    query_billed: Annotated[Billed, Why("a prompt that several answers share is billed once")] = "once",
    section_billed: Annotated[SectionBilled, Why("samples of one call share its text")] = "per_result",
) -> TokenBudget:
    """Words of one query: K = `fan_out` calls that each read a section and give n = `samples` answers.

    words = query · its times + section · its times + response · K·n. `query_billed`: the query's words count `once`,
    once a call (`per_result`), once an answer (`per_sample`) or `never`; `section_billed` likewise. fan_out and samples
    may be fractions, so that break-even values can be told.
    """
    answers = fan_out * samples
    query_times = {"once": 1.0, "per_result": fan_out, "per_sample": answers, "never": 0.0}[query_billed]
    section_times = {"per_result": fan_out, "per_sample": answers}[section_billed]
    prompt = query_words * query_times + section_words * section_times
    words = prompt + response_words * answers
    tokens = words / words_per_1000_tokens * PER_1000
    prompt_tokens = prompt / words_per_1000_tokens * PER_1000
    return TokenBudget(answers, query_times, section_times, words, tokens, prompt_tokens, tokens - prompt_tokens)


def list_price(tokens: TokensPerQuery, usd_per_1000_tokens: UsdPer1000Tokens) -> ListPrice:
    """Tokens times a price that is the same for prompt and answer."""
    return ListPrice(tokens / PER_1000 * usd_per_1000_tokens)


def served_cost(
    usd_per_query: UsdPerQuery,
    cache_hit_rate: Annotated[Share, Why("every query reaches the model")] = 0.0,
    gross_margin: Annotated[GrossMargin, Why("what is paid is what it costs")] = 0.0,
) -> ServedCost:
    """From price to cost: cached queries cost nothing, and of the rest the seller keeps a gross margin."""
    after_cache = usd_per_query * (1 - cache_hit_rate)
    return ServedCost(after_cache, after_cache * (1 - gross_margin))


def api_call(
    input_tokens: TokensPerQuery,
    output_tokens: TokensPerQuery,
    usd_per_million_input: UsdPerMillionTokens,
    usd_per_million_output: UsdPerMillionTokens,
    cached_tokens: Annotated[TokensPerQuery, Why("no input from a prompt cache")] = 0.0,
    usd_per_million_cached: Annotated[float | None, Given("USD/Mtoken"), Why("cached input billed as other")] = None,
    retrieval_usd_per_query: Annotated[UsdPerQuery, Why("no search fee")] = 0.0,
) -> ApiCall:
    """One query at an API's list prices, with a fee for search on top; `input_tokens` hold the cached ones.

    As in `api_revenue` and a scenario's `revenue.api`: cached input is billed at its own price, or as other input.
    Raises InputError where more is cached than is read.
    """
    cached_within(cached_tokens, input_tokens)
    reread = usd_per_million_input if usd_per_million_cached is None else usd_per_million_cached
    llm = billed_usd(
        (input_tokens - cached_tokens, usd_per_million_input),
        (cached_tokens, reread),
        (output_tokens, usd_per_million_output),
    )
    return ApiCall(reread, llm, llm + retrieval_usd_per_query)


def idle(
    full_usd_per_1000_tokens: UsdPer1000Tokens,
    price_usd_per_1000_tokens: Annotated[float, Given("USD/ktoken", 0, above=True)],
    utilisation: Annotated[float, Given("", 0, 1, above=True)],
    target_gross_margin: Annotated[float, Given("", 0, 0.999999)],
) -> Idle:
    """What idle time does to a cost per token that holds at full utilisation: it divides by the utilisation."""
    cost = full_usd_per_1000_tokens / utilisation
    least = full_usd_per_1000_tokens / (price_usd_per_1000_tokens * (1 - target_gross_margin))
    return Idle(cost, 1 - cost / price_usd_per_1000_tokens, least)


def optimised(
    usd_per_query: UsdPerQuery,
    model_factor: Factor,
    cloud_gross_margin: Annotated[float, Given("", 0, 0.999999), Why("rented, at the cloud's price")] = 0.0,
) -> Optimised:
    """A model that costs a `model_factor`-th to run, on machines of one's own at the cloud's cost, not its price."""
    after = usd_per_query / model_factor
    return Optimised(after, after * (1 - cloud_gross_margin), model_factor / (1 - cloud_gross_margin))
