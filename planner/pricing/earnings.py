"""A scenario's revenue and training keys -> the models that `economics` reckons with."""

from __future__ import annotations

from planner.economics import (
    Ads,
    Api,
    Lost,
    Patience,
    PerWord,
    RevenueModel,
    Subscription,
    Training,
    lost_queries,
)
from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.scenario import revenue as keys
from planner.simulation.outcome import Latencies


def revenue_model(scenario: Scenario) -> RevenueModel | None:
    """How the scenario's queries earn; None where it does not say. What was left out stays out, to be assumed."""
    if scenario.revenue is None:
        return None
    given = scenario.revenue.model
    if isinstance(given, keys.Ads):
        figures = {key: getattr(given, key) for key in keys.Ads.model_fields}
        return Ads(**{key: None if value is None else float(value) for key, value in figures.items()})
    if isinstance(given, keys.Subscription):
        cv = None if given.tail is None else given.tail.lognormal.cv
        return Subscription(float(given.usd_per_month), given.queries_per_month, cv, given.days)
    if isinstance(given, keys.Api):
        reread = given.usd_per_million_cached_input
        return Api(
            float(given.usd_per_million_input),
            float(given.usd_per_million_output),
            None if reread is None else float(reread),
        )
    return PerWord(float(given.usd_per_1000_words), given.words_per_1000_tokens)


def assumed_billing(scenario: Scenario) -> tuple[Provenance, ...]:
    """What is assumed of how a query's model calls are billed, where its tokens are sold."""
    if scenario.revenue is None or scenario.revenue.api is None:
        return ()
    drawn = [stage.name for stage in scenario.query.stages if stage.samples > 1]
    if not drawn:
        return ()
    why = "a prompt is billed once for all answers drawn from it, as APIs do with n > 1"
    return (Provenance(f"revenue.api: samples of {', '.join(drawn)}", "assumed", why, errs="unknown"),)


def patience_of(scenario: Scenario) -> Patience | None:
    """How the scenario's users wait; None where it does not say."""
    given = None if scenario.revenue is None else scenario.revenue.abandonment
    return None if given is None else Patience(given.metric, given.per_100ms, given.after_ms)


def leaving(scenario: Scenario, latencies: Latencies, uncached_share: float) -> tuple[Patience, Lost] | None:
    """How users wait and what a run's latencies then lose; None where nothing is said of it."""
    patience = patience_of(scenario)
    if patience is None:
        return None
    latency_ms = latencies.ttft_ms if patience.metric == "ttft" else latencies.e2e_ms
    return patience, lost_queries(latency_ms, patience, uncached_share)


def training_of(scenario: Scenario) -> Training | None:
    """The scenario's training bill; None where there is none."""
    given = scenario.prices.training
    return None if given is None else Training(float(given.usd), given.months)
