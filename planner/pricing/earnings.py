"""A scenario's revenue and training keys -> the models that `economics` reckons with."""

from __future__ import annotations

from collections.abc import Callable

from planner.catalogue.hardware import gpu as find_gpu
from planner.economics import (
    Ads,
    Api,
    Demand,
    Lost,
    Patience,
    PerWord,
    RevenueModel,
    Subscription,
    Training,
    lost_in_day,
    lost_queries,
)
from planner.economics.models.flops import TERA
from planner.economics.models.training import training as trained
from planner.errors import UnknownNameError
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


def leaving(
    scenario: Scenario, demand: Demand, latencies_at: Callable[[float], Latencies]
) -> tuple[Patience, Lost] | None:
    """How users wait and what they leave in a day; None where nothing is said of it.

    `latencies_at(of_peak)` gives those of a run at that share of the peak rate; 1 is always asked for.
    """
    patience = patience_of(scenario)
    if patience is None:
        return None

    def lost_at(of_peak: float) -> Lost:
        latencies = latencies_at(of_peak)
        latency_ms = latencies.ttft_ms if patience.metric == "ttft" else latencies.e2e_ms
        return lost_queries(latency_ms, patience, demand.uncached_share)

    return patience, lost_in_day(demand, lost_at)


def training_of(scenario: Scenario) -> Training | None:
    """The scenario's training bill; None where there is none.

    Raises UnknownNameError where it names a GPU that the catalogue has not.
    """
    given = scenario.prices.training
    if given is None:
        return None
    if given.usd is not None:
        return Training(float(given.usd), given.months)
    if given.params is None or given.tokens is None or given.mfu is None or given.usd_per_gpu_hour is None:
        raise ValueError("prices.training has neither a bill nor all that it is reckoned from")  # the schema sees to it
    try:
        gpu = find_gpu(given.gpu or "")
    except UnknownNameError as error:
        raise UnknownNameError("prices.training.gpu", error.value, error.rule, error.nearest) from None
    bill = trained(given.params, given.tokens, gpu.bf16_flops / TERA, given.mfu, float(given.usd_per_gpu_hour))
    source = f"6 × {given.params:.4g} parameters × {given.tokens:.4g} tokens at {given.mfu:.3g} of {gpu.name}'s "
    source += f"{gpu.bf16_flops / TERA:.4g} TFLOP/s ({gpu.source}); failed runs, trials, data and people left out"
    value = f"${bill.usd:,.0f}: {bill.flop:.3g} FLOP, {bill.gpu_hours:,.0f} GPU-hours"
    row = Provenance("prices.training", "assumed", source, value, errs="optimistic")
    return Training(bill.usd, given.months, (row,))
