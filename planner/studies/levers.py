"""What makes a query pay that does not, or pay more: shorter answers, smaller models, no LLM for who earns nothing.

Every figure is a plan of its own on what the plan chose, no share of the old one: half the answer is not half the
fleet. How well shorter answers and smaller models do is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.catalogue.models import model as find_model
from planner.deployment import Progress
from planner.economics import day_queries, usd_per_hour
from planner.economics.models.quality import EQUAL_LOSS, FITTED, LIMITS
from planner.pricing import priced
from planner.response_cache import day_hits
from planner.scenario import Scenario
from planner.sizing.most import most_rate
from planner.studies.answer_length import beside_plan, margin_after_training, shorter_answers
from planner.studies.chosen import with_read_values
from planner.studies.fleet_runs import FleetRuns
from planner.studies.model_sizes import ModelLoss, equal_loss, model_loss, parameters, smaller_models
from planner.studies.sweep import planned
from planner.units import HOURS_PER_DAY

Document = Mapping[str, Any]
Row = dict[str, Any]
SMALLER_MODELS = 4
RATE_TOLERANCE = 0.01
TENSOR_PARALLEL = (1, 2, 4, 8, 16)
QUALITY = "quality not modelled"


def levers(
    scenario: Scenario,
    chosen: Scenario,
    document: Document,
    runs: FleetRuns,
    *,
    requests: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All levers of a feasible, priced plan.

    `document` is the plan of `scenario`, `chosen` the scenario without lists that it chose (`chosen.pinned`), `runs`
    that fleet. The answer: {pays, shorter_answers, smaller_models, skip_llm}, each of the last three with `reason`
    where it cannot be told; see the functions of the same names. `pays` counts a training bill, where one is given.
    """
    tell = progress or (lambda what, done, total: None)
    margin = margin_after_training(document)
    return {
        "pays": None if margin is None else margin >= 0,
        "shorter_answers": shorter_answers(chosen, document, runs.seed, requests, tell),
        "smaller_models": smaller(scenario, chosen, document, runs.seed, requests, tell),
        "skip_llm": skip_llm(chosen, document, runs, requests, tell),
    }


# --- smaller models ---


def smaller(
    scenario: Scenario, chosen: Scenario, document: Document, seed: int, requests: int | None, tell: Progress
) -> Row:
    """Smaller models of the catalogue, the same family first: {rows [{model, total_parameters, active_parameters,
    quality, loss, training_tokens, training_tokens_source, loss_note, equal_loss, …figures, removed}], planned {model,
    loss, …}, loss_law {source, equal_within, limits}, reason}.

    Each is planned on the chosen GPU, in the chosen number format or its checkpoint's own, on no more GPUs a replica
    than now. `loss` is `model_sizes.model_loss`; `equal_loss` holds it against the planned model's. Null: not said.
    """
    model = find_model(chosen.model[0], chosen.base)
    given = scenario.engine.max_model_len
    found = smaller_models(model, given[0] if given else 1, SMALLER_MODELS)
    sizes = [size for size in TENSOR_PARALLEL if size <= max(chosen.engine.tensor_parallel_size)]
    rows = []
    own_loss = model_loss(model)
    for index, other in enumerate(found):
        tell("levers: smaller models", index, len(found))
        own = [] if other.checkpoint == "bf16" else ["auto"]
        values = {
            "model": other.name,
            "engine.quantization": list(dict.fromkeys([*chosen.engine.quantization, *own])),
            "engine.tensor_parallel_size": sizes,
            "engine.pipeline_parallel_size": 1,
            "engine.data_parallel_size": 1,
            "engine.enable_expert_parallel": False,
            "engine.num_gpu_blocks_override": None,
            "calibration": None,
        }
        figures = planned(with_read_values(chosen, values), seed, requests)
        size, loss = parameters(other), model_loss(other)
        rows.append(
            {
                "total_parameters": size.total,
                "active_parameters": size.active,
                "quality": QUALITY,
                **_loss_keys(loss),
                "equal_loss": equal_loss(loss, own_loss),
                **beside_plan(figures, document),
                "model": other.name,
            }
        )
    reason = None if rows else f"the catalogue has no smaller model than {model.name} with its context"
    law = {"source": FITTED.text, "equal_within": EQUAL_LOSS, "limits": LIMITS}
    own_row = {"model": model.name, **_loss_keys(own_loss)}
    return {"rows": rows, "planned": own_row, "loss_law": law, "reason": reason}


def _loss_keys(found: ModelLoss) -> Row:
    keys = {"loss": found.loss, "training_tokens": found.training_tokens}
    return {**keys, "training_tokens_source": found.source, "loss_note": found.note}


# --- no LLM for queries that earn too little ---


@dataclass(frozen=True)
class Marginal:
    """What one more query that reaches the model costs, retrieval included, and what that is made of."""

    usd_per_query: float
    replica_usd_per_hour: float
    replica_qps: float
    retrieval_usd_per_query: float


def skip_llm(chosen: Scenario, document: Document, runs: FleetRuns, requests: int | None, tell: Progress) -> Row:
    """From which value on a query is worth an answer of the model, and what it saves to answer only those with ads.

    {threshold_usd_per_query, replica_usd_per_hour, replica_qps, retrieval_usd_per_query, earned_usd_per_query,
    commercial_share, without_others {gpus, usd_per_day, usd_per_query, saved_usd_per_day, saved_usd_per_query},
    reason}. The threshold is the marginal cost of serving: a replica's dollars over the day ÷ the queries that reach
    the model which it carries within the limits, the day's shape kept; plus retrieval. `earned_usd_per_query` is of
    such a query too, less those whose users leave. `without_others` plans for the
    commercial share alone; the others are taken to be of the same kind, and their users to stay.
    """
    empty: Row = dict.fromkeys(
        ("threshold_usd_per_query", "replica_usd_per_hour", "replica_qps", "retrieval_usd_per_query")
    )
    empty |= dict.fromkeys(("earned_usd_per_query", "commercial_share", "without_others", "reason"))
    if chosen.traffic.peak_qps is None:
        return {**empty, "reason": "a load that is given whole has no rate: what a replica carries cannot be told"}
    tell("levers: what a replica carries", 0, 1)
    marginal = marginal_cost(chosen, document, runs)
    share = None if chosen.revenue is None or chosen.revenue.ads is None else chosen.revenue.ads.commercial_share
    row = {
        **empty,
        "threshold_usd_per_query": marginal.usd_per_query,
        "replica_usd_per_hour": marginal.replica_usd_per_hour,
        "replica_qps": marginal.replica_qps,
        "retrieval_usd_per_query": marginal.retrieval_usd_per_query,
        "earned_usd_per_query": _earned(document, share, _uncached(chosen)),
        "commercial_share": share,
    }
    if share is not None and 0 < share < 1:
        row["without_others"] = _commercial_alone(chosen, document, share, runs.seed, requests)
    return row


def marginal_cost(chosen: Scenario, document: Document, runs: FleetRuns) -> Marginal:
    """24 · replica $/h ÷ (queries/s that a replica carries · 3600 · Σ shares of the day) + retrieval.

    Queries are those that reach the model; the fleet's staff is there anyhow and costs nothing more. What a replica
    carries is the most rate within the limits of the planned serving replicas, to within 1 %, ÷ their number.
    """
    fleet = document["fleet"]
    serving = fleet["replicas"] - fleet["spare_replicas"]
    peak = chosen.traffic.peak_qps or 0.0
    best = most_rate(lambda rate: runs.at_rate(rate, serving), peak, 1.0 + 2 * RATE_TOLERANCE, RATE_TOLERANCE)
    rate = peak if best is None else best.at
    replica_qps = rate * _uncached(chosen) / serving
    prices = priced(runs.deployment.candidate.gpu, chosen).prices
    hourly = usd_per_hour(fleet["gpus_per_replica"], prices.gpu_hour_usd or 0.0, prices.compute_share)
    retrieval = prices.retrieval_usd_per_query
    per_query = HOURS_PER_DAY * hourly / day_queries(replica_qps, chosen.traffic.day)
    return Marginal(per_query + retrieval, hourly, replica_qps, retrieval)


def _earned(document: Document, commercial_share: float | None, uncached: float) -> float | None:
    """What a query that reaches the model earns, of ads one that carries them (revenue ÷ that share).

    Less those who leave it: gross · (1 − lost_share ÷ uncached share). The lost share is of all queries, but nobody
    leaves an answer from the response cache.
    """
    revenue = document["revenue"]
    if revenue is None:
        return None
    gone = revenue.get("abandonment") or {}
    gross = float(revenue["usd_per_query"] + (gone.get("usd_per_query_lost") or 0.0))
    stay = 1.0 - (gone.get("lost_share") or 0.0) / uncached
    return gross * stay / (commercial_share or 1.0)


def _uncached(chosen: Scenario) -> float:
    """Of the day: what is lost and earned is of all its queries."""
    return 1.0 - day_hits(chosen).of_day


def _commercial_alone(chosen: Scenario, document: Document, share: float, seed: int, requests: int | None) -> Row:
    """The fleet for the queries with ads alone, and the cost of a user's query, those without the LLM included."""
    peak = chosen.traffic.peak_qps or 0.0
    figures = planned(chosen.with_values({"traffic.peak_qps": share * peak}), seed, requests)
    queries = day_queries(peak, chosen.traffic.day)
    now = document["cost"]["usd_per_query"] * queries
    then = None if figures["usd_per_query"] is None else figures["usd_per_query"] * share * queries
    return {
        "feasible": figures["feasible"],
        "gpus": figures["gpus"],
        "usd_per_day": then,
        "usd_per_query": None if then is None else then / queries,
        "saved_usd_per_day": None if then is None else now - then,
        "saved_usd_per_query": None if then is None else (now - then) / queries,
        "reason": figures["reason"],
    }
