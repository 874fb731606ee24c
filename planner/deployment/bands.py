"""80 % bands: the same load on the same fleet in other possible worlds.

Every world draws the time of each kernel, the overheads and the KV cache from how well they are known, and simulates.
Where a queue is about to form, a world that is a few per cent slower saturates: so the bands widen by themselves near
saturation, as far as the run is long.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from planner.deployment.calibrated import draw_calibrated
from planner.deployment.runs import Deployment, make_load, run, run_length
from planner.performance import RUN_TO_RUN, draw_factors, layered_normals, log_spreads
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome

WORLDS, LEAST_WORLDS = 60, 20
WORLD_REQUESTS = 1_000_000  # in all worlds together: longer loads are seen in fewer worlds
THREADS = 4
LOW, HIGH = 0.1, 0.9
BAND_QUERIES, BAND_SPANS = 3000, 3  # an open-loop run in a drawn world counts so many, and lasts so many times E2E
CACHE = "kv_cache_tokens"
LATENCIES = ("ttft_ms", "ttft_from_send_ms", "tpot_ms", "itl_ms", "e2e_ms")
RATES = ("request_throughput", "query_throughput", "output_throughput", "total_token_throughput", "goodput_rps")


@dataclass(frozen=True)
class Bands:
    """`band80` by figure ("ttft_ms.mean": [low, high]), and in what share of the worlds the fleet does well.

    `holds_share`: every limit holds by the run's own figure and no backlog grows; None without limits.
    `saturated_share`: the backlog grows. Both are None where no world was drawn.
    """

    band80: dict[str, list[float]]
    holds_share: float | None
    saturated_share: float | None
    worlds: int


NO_BANDS = Bands({}, None, None, 0)


@dataclass(frozen=True)
class World:
    """Another possible world of one deployment: factors on the drivers of its step cost, and its KV-cache blocks."""

    factors: dict[str, float]
    num_blocks: int


def draw_worlds(deployment: Deployment, seed: int, count: int) -> list[World]:
    """`count` worlds of a deployment, from how well its step cost and its memory are known."""
    if deployment.calibrated is None:
        factors = draw_factors(deployment.breakdown, count, seed)
    else:
        factors = draw_calibrated(deployment.calibrated, deployment.candidate, count, seed)
    blocks = deployment.config.num_blocks * np.exp(deployment.kv.spread * layered_normals(CACHE, count, seed))
    least = -(-deployment.config.max_model_len // deployment.config.block_size) + 1  # below, vLLM would not start
    return [World(drawn, max(int(size), least)) for drawn, size in zip(factors, blocks, strict=True)]


def in_world(deployment: Deployment, world: World) -> Deployment:
    """The deployment as it would be in one of its worlds."""
    config = replace(deployment.config, num_blocks=world.num_blocks)
    return replace(deployment, cost=deployment.breakdown.cost(world.factors), config=config)


def worlds(deployment: Deployment, seed: int, count: int) -> list[Deployment]:
    """The deployment in `count` possible worlds."""
    return [in_world(deployment, world) for world in draw_worlds(deployment, seed, count)]


def bands(
    deployment: Deployment, scenario: Scenario, point: Outcome, load: Load, replicas: int, seed: int, most: int = WORLDS
) -> Bands:
    """Bands around `point`, the outcome of `replicas` under `load`, from at most `most` worlds (0: no bands).

    A long open-loop run is drawn at a shorter length: each figure of a world is then `point`'s times the ratio to the
    same short run in the nominal world, and it is that figure which the limits judge.
    """
    if most == 0:
        return NO_BANDS
    short = _shortened(deployment, scenario, point, load, replicas, seed)
    base = point if short is load else run(deployment, scenario, short, replicas, seed)
    count = max(LEAST_WORLDS, min(most, WORLD_REQUESTS // short.requests))
    with ThreadPoolExecutor(THREADS) as pool:  # the compiled simulator holds no lock
        others = worlds(deployment, seed, count)
        drawn = list(pool.map(lambda world: run(world, scenario, short, replicas, seed), others))
    holds = [_holds(outcome, base, point) for outcome in drawn]
    band80 = _bands(_flat(point.figures), _flat(base.figures), [_flat(outcome.figures) for outcome in drawn], seed)
    reach = np.exp(float(ndtri(HIGH)) * deployment.kv.spread)
    cache = deployment.kv.logged_tokens
    return Bands(
        band80=band80 | {CACHE: [float(cache / reach), float(cache * reach)]},
        holds_share=sum(holds) / count if point.checks else None,
        saturated_share=sum(outcome.saturated for outcome in drawn) / count,
        worlds=count,
    )


def _holds(outcome: Outcome, base: Outcome, point: Outcome) -> bool:
    """Whether every limit holds in a world by the figure that the bands are made of."""
    values = []
    for check, nominal, said in zip(outcome.checks, base.checks, point.checks, strict=True):
        if check.value_ms is None or not nominal.value_ms or said.value_ms is None:
            values.append(check.met)
        else:
            values.append(said.value_ms * (check.value_ms / nominal.value_ms) <= check.limit_ms)
    return not outcome.saturated and all(values)


def _shortened(
    deployment: Deployment, scenario: Scenario, point: Outcome, load: Load, replicas: int, seed: int
) -> Load:
    """The load itself, or a shorter one of the same process where it is long."""
    e2e = point.figures["e2e_ms"]
    if scenario.demand != "open" or e2e is None or load.queries <= 2 * BAND_QUERIES:
        return load
    length = run_length(scenario, BAND_QUERIES, float(e2e["p99"]) / 1000.0, BAND_SPANS)
    if length.counted + length.warmup + length.cooldown >= load.queries:
        return load
    return make_load(scenario, deployment.config.max_model_len, seed, length)


def _flat(figures: dict[str, Any]) -> dict[str, float]:
    """The figures that carry bands, by their dotted names."""
    flat = {name: float(figures[name]) for name in RATES if figures.get(name) is not None}
    for name in LATENCIES:
        flat |= {f"{name}.{statistic}": float(value) for statistic, value in (figures.get(name) or {}).items()}
    return flat


def _bands(
    point: dict[str, float], base: dict[str, float], drawn: list[dict[str, float]], seed: int
) -> dict[str, list[float]]:
    """[low, high] of each figure: its value times the quantiles of the worlds' ratio to `base`, run-to-run noise in.

    A world in which nothing was completed has no latency: it counts as an endless one, and as no throughput.
    """
    result = {}
    spread = log_spreads()[RUN_TO_RUN]
    for name, value in point.items():
        if base.get(name):
            lost = 0.0 if name in RATES else np.inf
            ratios = np.array([world.get(name, lost) / base[name] for world in drawn])
            ratios = ratios * np.exp(spread * layered_normals(name, len(ratios), seed))
            low, high = np.quantile(ratios, [LOW, HIGH], method="nearest")
            if np.isfinite(high):
                result[name] = [value * float(low), value * float(high)]
    return result
