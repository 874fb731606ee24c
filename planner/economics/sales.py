"""Answers sold by what they are made of: tokens over an API, or words."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, positive
from planner.economics.demand import Demand, cached_once
from planner.economics.lines import money_line
from planner.economics.revenue import MILLE, Revenue, earned
from planner.errors import InputError
from planner.provenance import Provenance
from planner.units import TOKENS_PER_PRICE

WORDS_PER_1000_TOKENS = 750.0  # English; OpenAI's rule of thumb, which the 2023 estimates are made with


@dataclass(frozen=True)
class Api:
    """Prices of a million tokens; cached input is what the prefix cache held (None: billed as other input).

    Raises InputError on values out of range.
    """

    usd_per_million_input: float
    usd_per_million_output: float
    usd_per_million_cached_input: float | None = None

    def __post_init__(self) -> None:
        positive("revenue.api.usd_per_million_input", self.usd_per_million_input)
        positive("revenue.api.usd_per_million_output", self.usd_per_million_output)
        if self.usd_per_million_cached_input is not None:
            not_negative("revenue.api.usd_per_million_cached_input", self.usd_per_million_cached_input)


@dataclass(frozen=True)
class PerWord:
    """The price of a thousand words of answers (None: 750 words to 1,000 tokens). Raises InputError out of range."""

    usd_per_1000_words: float
    words_per_1000_tokens: float | None = None

    def __post_init__(self) -> None:
        positive("revenue.per_word.usd_per_1000_words", self.usd_per_1000_words)
        if self.words_per_1000_tokens is not None:
            positive("revenue.per_word.words_per_1000_tokens", self.words_per_1000_tokens)


def api_revenue(api: Api, demand: Demand) -> Revenue:
    """(prompt − cached) · input price + cached · cached price + output · output price, per query.

    Tokens of all model calls are billed, a prompt once for all answers drawn from it, as APIs do with n > 1; those of a
    query that the response cache answered like any other's. cached: what the prefix cache held of the prompts so
    counted (`demand.cached_prompt_share` of all prompt tokens, None: none; see `cached_once`).
    Raises InputError where the tokens are not known.
    """
    prompt, output = _known(demand.prompt_tokens, "prompt"), _known(demand.output_tokens, "output")
    once = prompt if demand.prompt_once_tokens is None else demand.prompt_once_tokens
    cached = cached_once(prompt, once, prompt * (demand.cached_prompt_share or 0.0))
    reread = api.usd_per_million_input if api.usd_per_million_cached_input is None else api.usd_per_million_cached_input
    parts = (
        ("prompt tokens not in the prefix cache", once - cached, api.usd_per_million_input),
        ("prompt tokens from the prefix cache", cached, reread),
        ("output tokens", output, api.usd_per_million_output),
    )
    queries = demand.day_queries
    lines = tuple(
        money_line(what, queries * tokens / TOKENS_PER_PRICE, "million token", price)
        for what, tokens, price in parts
        if tokens > 0
    )
    return earned(billed_usd(*((tokens, price) for _, tokens, price in parts)), "api", lines)


def billed_usd(*sold: tuple[float, float]) -> float:
    """What an API bills: Σ tokens ÷ 10⁶ · USD per million of them, over (tokens, usd_per_million) of each price."""
    return sum((tokens / TOKENS_PER_PRICE * price for tokens, price in sold), 0.0)


def word_revenue(words: PerWord, demand: Demand) -> Revenue:
    """answer tokens · words_per_1000_tokens ÷ 1000 · usd_per_1000_words ÷ 1000, per query.

    Sold are the words that the user gets: one sample of each call of the last stage (`demand.answer_tokens`), from
    the response cache or not. Raises InputError where these are not known.
    """
    rate = WORDS_PER_1000_TOKENS if words.words_per_1000_tokens is None else words.words_per_1000_tokens
    thousands = _known(demand.answer_tokens, "answer") * rate / 1000 / MILLE
    line = money_line(
        f"words of answers, {rate:g} to 1,000 tokens",
        demand.day_queries * thousands,
        "thousand word",
        words.usd_per_1000_words,
    )
    return earned(thousands * words.usd_per_1000_words, "per_word", (line,))


def assumed_api(api: Api, demand: Demand) -> tuple[Provenance, ...]:
    """What is assumed of tokens sold."""
    rows = list(_cached_answers(demand))
    if api.usd_per_million_cached_input is None and demand.cached_prompt_share:
        why = "not given: tokens from the prefix cache billed as other input"
        value = f"{api.usd_per_million_input:g} USD"
        what = "revenue.api.usd_per_million_cached_input"
        rows.append(Provenance(what, "assumed", why, value, errs="optimistic"))
    if demand.cached_prompt_share and api.usd_per_million_cached_input is not None:
        why = "prefix cache's hit rate as simulated at the peak, taken for the whole day; every hit is billed as one"
        value = f"{demand.cached_prompt_share:.1%} of the prompt tokens"
        rows.append(Provenance("revenue.api: cached input", "assumed", why, value, errs="unknown"))
    return tuple(rows)


def assumed_words(words: PerWord, demand: Demand) -> tuple[Provenance, ...]:
    """What is assumed of words sold."""
    rows = list(_cached_answers(demand))
    if words.words_per_1000_tokens is None:
        why = "not given: rule of thumb for English text"
        value = f"{WORDS_PER_1000_TOKENS:g}"
        rows.append(Provenance("revenue.per_word.words_per_1000_tokens", "assumed", why, value, errs="unknown"))
    return tuple(rows)


def _cached_answers(demand: Demand) -> tuple[Provenance, ...]:
    if demand.uncached_share == 1:
        return ()
    why = "an answer from the response cache is billed as if it had been computed"
    return (Provenance("revenue: answers from the response cache", "assumed", why, errs="optimistic"),)


def _known(tokens: float | None, which: str) -> float:
    if tokens is None:
        raise InputError(f"{which}_tokens", None, "must be known where they are sold")
    return tokens
