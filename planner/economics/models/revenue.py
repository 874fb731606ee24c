"""What queries, words, tokens and subscribers earn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.models.fields import (
    Factor,
    Given,
    GrossMargin,
    Made,
    PositiveShare,
    Share,
    UsdPer1000Tokens,
    UsdPerMillionTokens,
    UsdPerUserMonth,
    Why,
    WordsPer1000Tokens,
    cached_within,
)
from planner.economics.revenue import ads_usd
from planner.economics.sales import billed_usd
from planner.economics.subscription import law_of_use, who_ask_more
from planner.errors import InputError
from planner.units import MONTHS_PER_YEAR


@dataclass(frozen=True)
class SearchVolume:
    """Searches of a year."""

    searches_per_year: Annotated[
        float, Made("query/year", "searches_per_month × 12 × penetration_now ÷ penetration_then")
    ]


@dataclass(frozen=True)
class AdRevenue:
    """What the ads of one query earn."""

    usd_per_query: Annotated[float, Made("USD/query", "usd_per_ad × ads_per_query × fill × publisher_share")]


@dataclass(frozen=True)
class Subscription:
    """What subscribers pay, cost and leave."""

    cost_usd_per_user_month: Annotated[
        float, Made("USD/user/month", "price_usd_per_user_month + loss_usd_per_user_month")
    ]
    loss_usd_per_month: Annotated[float, Made("USD/month", "users × loss_usd_per_user_month")]
    loss_usd_per_year: Annotated[float, Made("USD/year", "loss_usd_per_month × 12")]
    gross_margin: Annotated[float, Made("", "1 − cost_usd_per_user_month ÷ price_usd_per_user_month")]


@dataclass(frozen=True)
class UsageTail:
    """Subscribers who cost more than they pay, if use is spread log-normally."""

    break_even_use: Annotated[float, Made("", "price_usd_per_user_month ÷ mean_cost_usd_per_user_month")]
    losing_users: Annotated[float, Made("")]
    cost_of_losing_users: Annotated[float, Made("")]


@dataclass(frozen=True)
class PerWord:
    """A service that sells words and buys tokens."""

    revenue_usd_per_1000_tokens: Annotated[float, Made("USD/ktoken", "usd_per_word × words_per_1000_tokens")]
    gross_margin: Annotated[float, Made("", "1 − samples × usd_per_1000_tokens ÷ revenue_usd_per_1000_tokens")]
    most_samples: Annotated[
        float, Made("", "(1 − target_gross_margin) × revenue_usd_per_1000_tokens ÷ usd_per_1000_tokens")
    ]


@dataclass(frozen=True)
class ApiRevenue:
    """A day's tokens at an API's prices."""

    cache_hit_rate: Annotated[float, Made("", "cached_tokens ÷ input_tokens")]
    usd_per_day: Annotated[
        float,
        Made(
            "USD/day",
            "cached_tokens ÷ 1000000 × usd_per_million_cached"
            " + (input_tokens − cached_tokens) ÷ 1000000 × usd_per_million_input"
            " + output_tokens ÷ 1000000 × usd_per_million_output",
        ),
    ]


def search_volume(
    searches_per_month: Annotated[float, Given("query/month", 0, above=True)],
    penetration_then: PositiveShare,
    penetration_now: PositiveShare,
) -> SearchVolume:
    """Searches of a year, scaled from an older count by the share of people who are online."""
    return SearchVolume(searches_per_month * MONTHS_PER_YEAR * penetration_now / penetration_then)


def ad_revenue_per_query(
    usd_per_ad: Annotated[float, Given("USD/ad")],
    ads_per_query: Annotated[float, Given("ad/query")],
    fill: Annotated[Share, Why("every slot sold")] = 1.0,
    publisher_share: Annotated[Share, Why("the whole price kept")] = 1.0,
) -> AdRevenue:
    """Price of an impression times impressions a query. A CPM is written as it is: "60 USD/1000 ads"."""
    return AdRevenue(ads_usd(usd_per_ad, ads_per_query, fill, publisher_share))


def subscription(
    users: Annotated[float, Given("user", 0, above=True)],
    price_usd_per_user_month: Annotated[float, Given("USD/user/month", 0, above=True)],
    loss_usd_per_user_month: Annotated[float, Given("USD/user/month", -1e9)],
) -> Subscription:
    """A subscription whose average user costs `loss` more than he pays; below 0 he leaves something."""
    cost = price_usd_per_user_month + loss_usd_per_user_month
    monthly = users * loss_usd_per_user_month
    return Subscription(cost, monthly, monthly * MONTHS_PER_YEAR, 1 - cost / price_usd_per_user_month)


def usage_tail(
    mean_cost_usd_per_user_month: Annotated[float, Given("USD/user/month", 0, above=True)],
    price_usd_per_user_month: UsdPerUserMonth,
    use_cv: Factor,
) -> UsageTail:
    """Which share of users costs more than the price, and which share of all cost is theirs.

    Use is log-normal with coefficient of variation `use_cv`, and cost goes with use (`who_ask_more`).
    """
    if price_usd_per_user_month == 0:
        raise InputError("price_usd_per_user_month", 0, "must be above 0")
    even = price_usd_per_user_month / mean_cost_usd_per_user_month
    losing, cost_of_losing = who_ask_more(even, law_of_use(1.0, use_cv))
    return UsageTail(even, losing, cost_of_losing)


def per_word(
    usd_per_word: Annotated[float, Given("USD/word", 0, above=True)],
    words_per_1000_tokens: WordsPer1000Tokens,
    usd_per_1000_tokens: Annotated[UsdPer1000Tokens, Given("USD/ktoken", 0, above=True)],
    samples: Factor,
    target_gross_margin: GrossMargin,
) -> PerWord:
    """Words sold at a price, made of tokens bought at another; `samples` answers are made for each that is sold.

    1,000 tokens are 750 words, so they earn 750 times a word's price: words *multiply*. Prompts are left out.
    """
    earned = usd_per_word * words_per_1000_tokens
    most = (1 - target_gross_margin) * earned / usd_per_1000_tokens
    return PerWord(earned, 1 - samples * usd_per_1000_tokens / earned, most)


def api_revenue(
    input_tokens: Annotated[float, Given("token/day", 0, above=True)],
    cached_tokens: Annotated[float, Given("token/day")],
    output_tokens: Annotated[float, Given("token/day")],
    usd_per_million_cached: UsdPerMillionTokens,
    usd_per_million_input: UsdPerMillionTokens,
    usd_per_million_output: UsdPerMillionTokens,
) -> ApiRevenue:
    """A day's tokens at list prices; `input_tokens` hold the cached ones."""
    cached_within(cached_tokens, input_tokens)
    earned = billed_usd(
        (cached_tokens, usd_per_million_cached),
        (input_tokens - cached_tokens, usd_per_million_input),
        (output_tokens, usd_per_million_output),
    )
    return ApiRevenue(cached_tokens / input_tokens, earned)
