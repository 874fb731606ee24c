"""All combinations of a scenario's lists, each sized, the cheapest one settled.

unfold the lists → fit each into memory and find its price → size it on short runs → rank by price
→ verify on full-length runs, from the cheapest on, until no other can come out cheaper
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from planner.deployment import Candidate, Deployment, Progress, Rejected, candidates, deploy
from planner.deployment.autoscaled import beyond_max_gpus, refuse_scaled_ranks
from planner.economics import Cost, Demand, Prices, demand_at_own_rate, fleet_cost, usd_per_hour
from planner.errors import PlannerError
from planner.pricing import check_rate_cards, priced
from planner.provenance import Provenance
from planner.response_cache import day_hits
from planner.scenario import Scenario
from planner.simulation.load import Load, typical
from planner.simulation.outcome import Outcome
from planner.sizing.replicas import MOST_REPLICAS, Size, rough_size, verified_size
from planner.units import HOURS_PER_DAY

SLACK = 0.05  # a short run's size is taken to be off by at most a replica or this share of its GPUs


@dataclass(frozen=True)
class Option:
    """A combination that fits its GPUs and has its prices; `most_serving` replicas are within fleet.max_gpus, and what
    an autoscaler may have (`most_scaled`; None without one).
    """

    choice: dict[str, Any]
    deployment: Deployment
    prices: Prices
    price_rows: tuple[Provenance, ...]
    most_serving: int
    most_scaled: int | None = None


@dataclass(frozen=True)
class Sized:
    """An option with its size; `size.serving` is None where no fleet of it holds the service levels."""

    option: Option
    size: Size
    scenario: Scenario

    @property
    def spare(self) -> int:
        """Replicas beyond those that must hold the load."""
        return self.scenario.fleet.spare_replicas

    @property
    def replicas(self) -> int:
        """Serving and spare replicas. Only of an option that holds."""
        if self.size.serving is None:
            raise ValueError(f"no fleet holds: {self.size.reason}")
        return self.size.serving + self.spare

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.option.deployment.gpus_per_replica

    @property
    def demand(self) -> Demand:
        """The users' queries that this size serves: the scenario's, or where it names no rate the run's own."""
        probe = self.size.probe(self.replicas - self.spare)
        return demand_of(self.scenario, probe.load, probe.outcome)

    @property
    def cost(self) -> Cost | None:
        """Cost of the fleet; None without a GPU price."""
        return fleet_cost(self.gpus, self.option.prices, self.demand)

    def rank(self, gpus: float | None = None) -> tuple[float, int]:
        """What orders options: USD a query (GPU-hours a query where there is no price), then GPUs.

        `gpus` asks what it would come to with another number of them.
        """
        prices = self.option.prices
        one = usd_per_hour(1, prices.gpu_hour_usd or 1.0, prices.compute_share)
        hourly = one * (self.gpus if gpus is None else gpus) + prices.staff_usd_per_hour
        return hourly * HOURS_PER_DAY / self.demand.day_queries, self.gpus

    @property
    def least_rank(self) -> float:
        """The least that `rank` could still come to when this size is verified."""
        slack = max(self.option.deployment.gpus_per_replica, SLACK * self.gpus)
        return self.rank(max(self.gpus - slack, 0.0))[0]


def demand_of(scenario: Scenario, load: Load, outcome: Outcome) -> Demand:
    """The users' queries of a day, with the tokens that a query takes on average over all its calls."""
    counted = typical(load)
    prompt = float(load.prompt_tokens[counted].mean()) * load.width
    output = float(load.output_tokens[counted].mean()) * load.width
    hits = day_hits(scenario)
    uncached = 1.0 - hits.of_day
    if scenario.traffic.peak_qps is None:
        demand = demand_at_own_rate(outcome.figures["query_throughput"], uncached, prompt, output)
    else:
        demand = Demand(scenario.traffic.peak_qps, scenario.traffic.day, uncached, prompt, output)
        demand = replace(demand, uncached_by_hour=hits.uncached_by_hour)
    prompts = load.prompt_tokens[counted].reshape(-1, load.width)
    once, place = 0.0, 0
    for stage in load.stages:  # the samples of a prompt stand side by side
        once += float(prompts[:, place : place + stage.requests : stage.samples].sum(axis=1).mean())
        place += stage.requests
    last = load.stages[-1]
    # The user gets one sample of each call.
    answers = load.output_tokens[counted].reshape(-1, load.width)[:, -last.requests :]
    return replace(
        demand,
        answer_tokens=float(answers.mean()) * last.calls,
        cached_prompt_share=outcome.figures["prefix_cache_hit_rate"],
        prompt_once_tokens=min(once, prompt),
    )


@dataclass(frozen=True)
class Search:
    """Every combination, in the scenario's order, and the one chosen (None: none holds)."""

    sized: tuple[Sized, ...]
    rejected: tuple[Rejected, ...]
    chosen: Sized | None


def search(
    scenario: Scenario,
    seed: int,
    queries: int,
    progress: Progress,
    world: Callable[[Deployment], Deployment] = lambda deployment: deployment,
) -> Search:
    """Size every combination and choose the cheapest; `queries` is the length of a full run.

    A combination that cannot be is kept with its reason; where it is the scenario's only one its InputError is
    raised. One that holds at no size is an answer. `world` makes each deployment what it is in another possible
    world (see `planner.deployment.bands`).

    Sized is the peak. Of an autoscaler nothing is read but the most replicas that it may have; sizes are ranked as
    fleets that are on all day.
    """
    scaler = scenario.fleet.autoscaler
    scenario = scenario if scaler is None else scenario.with_values({"fleet.autoscaler": None})
    check_rate_cards(scenario)
    options: list[Option] = []
    rejected: list[Rejected] = []
    for found in candidates(scenario):
        option = _option(found, scenario, None if scaler is None else scaler.most)
        if isinstance(option, Option):
            options.append(replace(option, deployment=world(option.deployment)))
        else:
            rejected.append(option)
    rough = _rough_sizes(options, scenario, seed, queries, progress)
    return _settle(rough, tuple(rejected), scenario, seed, queries, progress)


def _option(found: Candidate | Rejected, scenario: Scenario, scaled: int | None) -> Option | Rejected:
    """Fit one candidate into memory and find its price; in a search what cannot be is kept with its reason."""
    if isinstance(found, Rejected):
        return found
    try:
        if scaled is not None:
            refuse_scaled_ranks(found.options.data_parallel_size)
        price = priced(found.gpu, scenario)
        deployment = deploy(found)
    except PlannerError as error:
        if not found.choice:
            raise
        return Rejected(found.choice, str(error))
    if found.choice and "reserve_doubt" in deployment.kv.terms:  # alone it is answered, and flagged
        return Rejected(found.choice, "may not start: memory falls short by less than the doubt about it")
    spare, most = scenario.fleet.spare_replicas, MOST_REPLICAS
    if scenario.fleet.max_gpus is not None:
        most = scenario.fleet.max_gpus // deployment.gpus_per_replica - spare
    if most < 1:
        beside = f" beside {spare} spare" if spare else ""
        rule = f"does not hold one replica of {deployment.gpus_per_replica} GPUs{beside}"
        return Rejected(found.choice, f"fleet.max_gpus (={scenario.fleet.max_gpus}): {rule}")
    rule = "" if scaled is None else beyond_max_gpus(scenario.fleet.max_gpus, deployment.gpus_per_replica, scaled)
    if rule:
        return Rejected(found.choice, f"fleet.max_gpus (={scenario.fleet.max_gpus}): {rule}")
    return Option(found.choice, deployment, price.prices, price.provenance, min(most, scaled or most), scaled)


def _told(option: Option, size: Size) -> Size:
    """A size that there is none of names the autoscaler's bound, where that was in the way."""
    obstacle = size.obstacle
    if option.most_scaled is None or obstacle is None or not obstacle.too_few:
        return size
    return replace(size, obstacle=obstacle._replace(bound=f"fleet.autoscaler.max_replicas (={option.most_scaled})"))


def _rough_sizes(options: list[Option], scenario: Scenario, seed: int, queries: int, progress: Progress) -> list[Sized]:
    """Short-run sizes, on all cores: the kernel runs without the interpreter's lock."""
    done = 0

    def size(option: Option) -> Sized:
        nonlocal done
        found = rough_size(option.deployment, scenario, seed, queries, option.most_serving)
        done += 1
        progress("sizing candidates", done, len(options))
        return Sized(option, _told(option, found), scenario)

    first = [size(option) for option in options[:1]]  # alone: it compiles, which threads would do twice over
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [*first, *pool.map(size, options[1:])]


def _settle(
    rough: list[Sized], rejected: tuple[Rejected, ...], scenario: Scenario, seed: int, queries: int, progress: Progress
) -> Search:
    """Verify the cheapest, then every other that might still turn out cheaper than the best so far."""
    settled = {id(sized.option): sized for sized in rough}
    best: Sized | None = None
    holding = [sized for sized in rough if sized.size.serving is not None]
    for number, sized in enumerate(sorted(holding, key=lambda sized: sized.rank()), start=1):
        if best is not None and sized.least_rank >= best.rank()[0]:
            continue
        progress("verifying the cheapest", number, number)
        size = verified_size(sized.size, scenario, seed, queries, sized.option.most_serving)
        verified = replace(sized, size=_told(sized.option, size))
        settled[id(sized.option)] = verified
        if size.serving is not None and (best is None or verified.rank() < best.rank()):
            best = verified
    return Search(tuple(settled.values()), rejected, best)
