"""The study from its draws to its answer, under the JSON names of `uncertainty`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Progress, default_queries
from planner.errors import ScenarioError
from planner.planning import Plan
from planner.scenario import Scenario
from planner.sizing.autoscaled import refuse_autoscaler
from planner.studies.added import added
from planner.studies.uncertainty.answers import (
    GPU_SHARES,
    MONEY_SHARES,
    Draws,
    Money,
    Needed,
    at_medians,
    carried,
    margin,
    money_of,
    needed,
    quantiles,
    tornado,
    usd_per_query,
)
from planner.studies.uncertainty.check import check, errors_of
from planner.studies.uncertainty.contenders import Contender, usd_per_query_beside
from planner.studies.uncertainty.draws import draw_scores, factors_of
from planner.studies.uncertainty.inputs import inputs_of, provenance_of
from planner.studies.uncertainty.surface import Surface
from planner.studies.uncertainty.surfaces import Surfaces, read_off
from planner.units import HOURS_PER_DAY
from planner.workload import peak_and_day

F64 = NDArray[np.float64]
BESIDE_SCALER = "beside uncertainty it is not supported yet: a draw has no day of its own that could be simulated"
TINY = 1e-300  # a rate above 0 where no fleet holds the limits


def with_uncertainty(
    answer: Plan,
    scenario: Scenario,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The same plan with `uncertainty` and what it assumes; unchanged where the scenario does not ask for it."""
    document = answer.as_dict()
    if scenario.uncertainty is None or not answer.feasible:
        return answer
    found = uncertainty(document, scenario, seed=seed, requests=requests, progress=progress)
    stated = document["fleet"]["engine"].get("num_gpu_blocks_override") is not None
    rows = provenance_of(found["inputs"], scenario.uncertainty, document["revenue"], stated)
    return added(answer, "uncertainty", found, rows)


def refuse_beside_uncertainty(scenario: Scenario) -> None:
    """Raise UnsupportedError for what the draws do not carry."""
    refuse_autoscaler(scenario, BESIDE_SCALER)


def uncertainty(
    document: Mapping[str, Any],
    scenario: Scenario,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How sure the feasible plan `document` of `scenario` is, under the JSON names of `uncertainty`.

    `seed` and `requests` are those the plan was made with. Raises ScenarioError where the scenario has no
    `uncertainty`, or where nothing that it names varies.
    """
    given = scenario.uncertainty
    if given is None:
        raise ScenarioError("uncertainty", None, "is required: it says how far off the inputs may be")
    refuse_beside_uncertainty(scenario)
    scenario = peak_and_day(scenario)
    tell = progress or (lambda what, done, total: None)
    queries = requests or default_queries(scenario)
    scores = draw_scores(given, seed)
    factors = factors_of(scores, given)
    money = money_of(document, scenario, usd_per_query_beside(document, scenario))
    found = read_off(document, scenario, money, factors, scores, seed, queries, tell)
    few, surfaces, times, draws = found.few, found.surfaces, found.times, found.draws
    if np.ptp(draws.step_time) == 0 and set(given.varied) == {"step_time"}:
        raise ScenarioError("uncertainty", None, "nothing varies: the step cost is known exactly; give at least one cv")
    answer = needed(few, surfaces, money, draws)
    checked = check(scenario, few, money, draws, answer, times, seed, queries, tell)
    return {
        "draws": given.samples,
        "seed": seed,
        "inputs": inputs_of(given, few[0].deployment, draws.step_time[0]),
        "correlations": [one.model_dump(mode="json") for one in given.correlations],
        **_as_planned(few[0], surfaces[0], money, draws),
        "p_no_fleet": _share(answer.contender < 0),
        "gpus": quantiles(answer.gpus, GPU_SHARES),
        "resized": {
            "usd_per_query": quantiles(answer.usd_per_query, MONEY_SHARES),
            "margin_usd_per_query": quantiles(answer.margin, MONEY_SHARES),
        },
        "tornado": tornado(given.varied, few, surfaces, money, draws),
        "at_medians": at_medians(few, surfaces, money, draws),
        "surface": _surface_document(found, draws, answer, money) | {"checked": errors_of(checked)},
        "checked": checked,
    }


def _as_planned(planned: Contender, surface: Surface, money: Money, draws: Draws) -> dict[str, Any]:
    """What becomes of the fleet as it was planned, its spare replicas lost: limits, cost, margin.

    `p_slo_held_within_error` is P(SLO held) with the surface lower and higher by the root mean square of its error.
    Cost and margin are of the queries that the fleet carries within the limits: what comes on top earns nothing.
    """
    capacity = surface.rate_per_replica(draws.at(0), planned.serving) * planned.serving
    room = np.log(np.maximum(capacity, TINY) / (money.peak_qps * draws.peak_qps))
    held, off = room >= 0, surface.error
    queries = carried(capacity, money, draws)
    cost = None
    if planned.rates is not None:
        cost = usd_per_query(planned.gpus, planned.rates, money, draws, queries)
    left = margin(cost, money, draws, queries)
    return {
        "p_slo_held": _share(held),
        "p_slo_held_within_error": [_share(room >= off), _share(room >= -off)] if off else None,
        "p_margin_positive": None if left is None else _share(left > 0),
        "p_both": None if left is None else _share(held & (left > 0)),
        "usd_per_query": quantiles(cost, MONEY_SHARES),
        "margin_usd_per_query": quantiles(left, MONEY_SHARES),
    }


def _surface_document(found: Surfaces, draws: Draws, answer: Needed, money: Money) -> dict[str, Any]:
    """How many runs the surfaces rest on, and how far each is off a point that it was not fitted to.

    `error` is the planned candidate's: a relative error of the rate, in GPUs and $ per query of the planned fleet.
    """
    rows = [
        {
            **contender.named(),
            "simulations": simulations,
            "idle_runs": idle_runs,
            "points": len(surface.points),
            "error_share": surface.error,
            "typical_error_share": surface.typical_error,
            "shift": surface.shift,
            "share_of_draws": _share(answer.contender == place),
            "beyond_points_share": _share(surface.beyond(draws.at(place))),
        }
        for place, (contender, surface, simulations, idle_runs) in enumerate(
            zip(found.few, found.surfaces, found.simulations, found.idle_runs, strict=True)
        )
    ]
    planned, share = found.few[0], rows[0]["error_share"]
    gpus = None if share is None else share * planned.serving * planned.gpus_per_replica
    usd = None
    if gpus is not None and planned.rates is not None:
        usd = HOURS_PER_DAY * gpus * planned.rates.per_gpu / money.queries
    return {
        "simulations": sum(found.simulations),
        "candidates": rows,
        "error": {"gpus": gpus, "usd_per_query": usd},
    }


def _share(condition: NDArray[np.bool_]) -> float:
    return float(np.mean(condition))
