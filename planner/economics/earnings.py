"""Any of the four ways to earn -> what a query earns, and what was assumed of it."""

from __future__ import annotations

from typing import assert_never

from planner.economics.demand import Demand
from planner.economics.revenue import Ads, Revenue, ad_revenue, assumed_revenue
from planner.economics.sales import Api, PerWord, api_revenue, assumed_api, assumed_words, word_revenue
from planner.economics.subscription import Subscription, assumed_subscription, subscription_revenue
from planner.provenance import Provenance

RevenueModel = Ads | Subscription | Api | PerWord


def revenue_of(model: RevenueModel, demand: Demand) -> Revenue:
    """What one user query earns, cached ones included, before anybody leaves."""
    if isinstance(model, Ads):
        return ad_revenue(model, demand)
    if isinstance(model, Subscription):
        return subscription_revenue(model, demand)
    if isinstance(model, Api):
        return api_revenue(model, demand)
    if isinstance(model, PerWord):
        return word_revenue(model, demand)
    assert_never(model)


def assumed_of(model: RevenueModel, demand: Demand) -> tuple[Provenance, ...]:
    """What the user did not say, as rows of provenance."""
    if isinstance(model, Ads):
        return assumed_revenue(model)
    if isinstance(model, Subscription):
        return assumed_subscription(model)
    if isinstance(model, Api):
        return assumed_api(model, demand)
    if isinstance(model, PerWord):
        return assumed_words(model, demand)
    assert_never(model)
