"""The surface held against whole plans: ten draws, each searched in full with the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from planner.deployment import Progress
from planner.scenario import INPUTS, Scenario
from planner.sizing import Sized, search
from planner.studies.uncertainty.answers import Draws, Money, Needed, usd_per_query
from planner.studies.uncertainty.contenders import Contender, rates_of
from planner.studies.uncertainty.laboratory import with_outputs
from planner.studies.uncertainty.worlds import StepTimes, in_draws

# By the GPUs needed: half over the bulk, half in the tail, where a surface is worst; that of the 99 % figure is last
RANKS = (0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.97, 0.98, 0.995, 0.99)
AT_ONCE = 2


def check(
    scenario: Scenario,
    few: Sequence[Contender],
    money: Money,
    draws: Draws,
    answer: Needed,
    times: StepTimes,
    seed: int,
    queries: int,
    tell: Progress,
) -> list[dict[str, Any]]:
    """One row for each of the draws at `RANKS`, by the GPUs that the surface says they need.

    A row is {draw, factors {input: factor}, surface {gpus, usd_per_query}, plan {gpus, usd_per_query},
    same_candidate}; GPUs are None where no fleet holds. The plan's search is over all candidates, in that draw's
    world, load and answers; prices and revenue need no search.
    """
    ranked = np.argsort(answer.gpus, kind="stable")
    places = np.array(RANKS) * (len(ranked) - 1)
    chosen = [int(ranked[place]) for place in np.rint(places).astype(int)]
    in_draw = in_draws(times, chosen)
    done = 0

    def planned(draw: int) -> Sized | None:
        nonlocal done
        changed = with_outputs(scenario, float(draws.output_tokens[draw]))
        changed = changed.with_values({"traffic.peak_qps": money.peak_qps * float(draws.peak_qps[draw])})
        in_world = partial(in_draw, draw)
        found = search(changed, seed, queries, lambda what, done, total: None, in_world).chosen
        done += 1
        tell("checking against plans", done, len(different))
        return found

    different = {_key(draws, times, draw): draw for draw in chosen}  # with prices alone varied all are one plan
    with ThreadPoolExecutor(AT_ONCE) as pool:  # the compiled simulator holds no lock
        plans = dict(zip(different, pool.map(planned, different.values()), strict=True))
    rows = []
    for draw in chosen:
        found = plans[_key(draws, times, draw)]
        rows.append(
            {
                "draw": draw,
                "factors": {name: float(np.atleast_2d(getattr(draws, name))[0, draw]) for name in INPUTS},
                "surface": _said(answer, draw),
                "plan": _planned(found, money, draws, draw),
                "same_candidate": _same(found, few, int(answer.contender[draw])),
            }
        )
    return rows


def _key(draws: Draws, times: StepTimes, draw: int) -> tuple[float, float, float]:
    """What tells the plan of one draw from another's: load, answers, and the step time's factor or world."""
    world = times.factors if times.order is None else times.order
    return float(draws.peak_qps[draw]), float(draws.output_tokens[draw]), float(world[draw])


def errors_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and largest distance of the surface from the plans: in GPUs, and as a share of the plan's $ per query.

    Draws in which only one of the two finds a fleet are counted, not measured.
    """
    both = [row for row in rows if row["surface"]["gpus"] is not None and row["plan"]["gpus"] is not None]
    gpus = [abs(row["surface"]["gpus"] - row["plan"]["gpus"]) for row in both]
    shares = [
        abs(row["surface"]["usd_per_query"] / row["plan"]["usd_per_query"] - 1)
        for row in both
        if row["plan"]["usd_per_query"] is not None
    ]
    return {
        "gpus": {"mean": float(np.mean(gpus)), "most": float(max(gpus))} if gpus else None,
        "usd_per_query_share": {"mean": float(np.mean(shares)), "most": float(max(shares))} if shares else None,
        "exact": sum(distance == 0 for distance in gpus),
        "only_one_finds_a_fleet": sum(
            (row["surface"]["gpus"] is None) != (row["plan"]["gpus"] is None) for row in rows
        ),
        "other_candidate": sum(not row["same_candidate"] for row in rows),
    }


def _said(answer: Needed, draw: int) -> dict[str, float | None]:
    if answer.contender[draw] < 0:
        return {"gpus": None, "usd_per_query": None}
    cost = answer.usd_per_query
    return {"gpus": float(answer.gpus[draw]), "usd_per_query": None if cost is None else float(cost[draw])}


def _planned(found: Sized | None, money: Money, draws: Draws, draw: int) -> dict[str, float | None]:
    if found is None:
        return {"gpus": None, "usd_per_query": None}
    rates = rates_of(found.option.prices)
    priced = None if rates is None else float(usd_per_query(float(found.gpus), rates, money, draws)[draw])
    return {"gpus": float(found.gpus), "usd_per_query": priced}


def _same(found: Sized | None, few: Sequence[Contender], place: int) -> bool:
    if found is None or place < 0:
        return found is None and place < 0
    one, other = found.option.deployment.candidate, few[place].deployment.candidate
    return (one.model, one.gpu, one.options, one.routing) == (other.model, other.gpu, other.options, other.routing)
