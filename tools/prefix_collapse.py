"""How a prefix cache collapses: hit rate and TTFT of examples/chat-sessions.yaml against load and cache size.

    python -m tools.prefix_collapse

Writes docs/prefix-collapse.png, and the tables between `<!-- made: … -->` and `<!-- end: … -->` of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from planner.deployment import deploy, only_candidate
from planner.deployment.collapse import cache_tokens, touched_tokens
from planner.deployment.runs import IDLE_QUERIES, idle_e2e_s, idle_outcome, make_load, run, run_length
from planner.report.charts import COLOURS, image
from planner.scenario import Scenario
from planner.simulation.load import Load

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "chat-sessions.yaml"
PAGE = ROOT / "docs" / "fleet.md"
PICTURE = ROOT / "docs" / "prefix-collapse.png"
TURNS_QPS = (2.0, 3.0, 4.0, 4.5, 4.75, 5.0, 5.25, 5.5, 5.75, 6.0, 7.0, 8.0, 9.0)
AT_QPS = 5.0
CACHES = (0.5, 0.75, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0)  # times what the GPU has
TURNS = 10_000  # counted, and as many more as three sessions' length takes
SEED = 0


class Point(NamedTuple):
    """One replica at one load with one cache. `fills_qps`: where what is read within a pause would fill the cache."""

    turns_qps: float
    cache_tokens: int
    fills_qps: float
    hit_rate: float
    saved_tokens: int
    evicted_blocks: int
    p95_ttft_ms: float
    saturated: bool


def point(scenario: Scenario, turns_qps: float, cache_share: float = 1.0, turns: int = TURNS) -> Point:
    """The scenario's sessions on one replica, with `cache_share` times the KV blocks that its GPU has room for."""
    scenario = scenario.with_values({"traffic.peak_qps": turns_qps, "fleet.replicas": 1})
    deployment = deploy(only_candidate(scenario, "simulate"))
    if cache_share != 1.0:
        blocks = max(round(deployment.config.num_blocks * cache_share), 1)
        cut = scenario.with_values({"engine.num_gpu_blocks_override": blocks})
        deployment = deploy(only_candidate(cut, "simulate"))
    _, idle = idle_outcome(deployment, scenario, IDLE_QUERIES, SEED)
    length = run_length(scenario, turns, idle_e2e_s(idle), 1)
    load = make_load(scenario, deployment.config.max_model_len, SEED, length)
    figures = run(deployment, scenario, load, 1, SEED).figures
    return Point(
        turns_qps,
        cache_tokens(deployment),
        fills_at_qps(scenario, load, cache_tokens(deployment), idle.figures["e2e_ms"]["mean"] / 1e3),
        figures["prefix_cache_hit_rate"],
        figures["saved_prefill_tokens"],
        figures["evicted_blocks"],
        figures["ttft_ms"]["p95"],
        figures["saturated"],
    )


def fills_at_qps(scenario: Scenario, load: Load, kv_tokens: int, e2e_s: float) -> float:
    """Turns/s at which the tokens read and written between two turns of a session are as many as the cache holds.

    Least recently used goes first, so a history is there if what was touched since fits (`touched_tokens`, which grows
    with the rate along a straight line once every prefix group is met within a pause).
    """
    at_qps = scenario.traffic.peak_qps or 0.0
    once, twice = (
        touched_tokens(scenario.with_values({"traffic.peak_qps": factor * at_qps}), load, 1, e2e_s) for factor in (1, 2)
    )
    shared = 2 * once - twice  # what all sessions begin with, whatever the rate
    return at_qps * (kv_tokens - shared) / (once - shared)


# --- picture and page ---


def picture(by_load: Sequence[Point], by_cache: Sequence[Point]) -> Figure:
    """Hit rate above, p95 TTFT below; left against turns/s, right against the cache."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    _column(panels[:, 0], by_load, [one.turns_qps for one in by_load], by_load[0].fills_qps)
    touched_tokens = AT_QPS * by_cache[0].cache_tokens / by_cache[0].fills_qps
    _column(panels[:, 1], by_cache, [one.cache_tokens / 1e3 for one in by_cache], touched_tokens / 1e3)
    panels[0, 0].set_ylabel("prompt tokens found [%]")
    panels[1, 0].set_ylabel("TTFT, p95 [ms]")
    panels[1, 0].set_xlabel(f"turns/s on one replica (KV cache of {by_load[0].cache_tokens:,} tokens)")
    panels[1, 1].set_xlabel(f"KV cache [1,000 tokens] at {AT_QPS:g} turns/s")
    panels[0, 1].legend(loc="lower right", fontsize="small")
    return figure


def _column(panels: Sequence[Axes], points: Sequence[Point], x: list[float], edge: float) -> None:
    above, below = panels
    above.plot(x, [100 * one.hit_rate for one in points], "o-", color=COLOURS[0], label="simulated")
    below.plot(x, [one.p95_ttft_ms for one in points], "s-", color=COLOURS[1])
    below.set_yscale("log")
    above.set_ylim(0, 100)
    for axes in panels:
        axes.axvline(edge, color="black", linestyle="--", linewidth=1, label="what a pause touches fills the cache")
        axes.grid(alpha=0.3)


def table(points: Sequence[Point]) -> str:
    """The points as rows of Markdown."""
    rows = [
        "| turns/s | KV cache [tokens] | found in the cache | evicted blocks | p95 TTFT [ms] | |",
        "| ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    rows += [
        f"| {one.turns_qps:g} | {one.cache_tokens:,} | {100 * one.hit_rate:.0f} % | {one.evicted_blocks:,}"
        f" | {one.p95_ttft_ms:,.0f} | {'saturated' if one.saturated else ''} |"
        for one in points
    ]
    return "\n".join(rows)


def with_table(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of `name`; ValueError where they do not stand there once."""
    start, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->\n"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"the marks of {name!r} must stand in the page once")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{text}\n\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Simulate every point and write."""
    scenario = Scenario.load(EXAMPLE)
    by_load = [point(scenario, turns_qps) for turns_qps in TURNS_QPS]
    by_cache = [point(scenario, AT_QPS, share) for share in CACHES]
    PICTURE.write_bytes(image(picture(by_load, by_cache), "png"))
    edge = f"What a pause touches fills the cache at {by_load[0].fills_qps:.2f} turns/s, by the rule."
    made = {"collapse by load": f"{table(by_load)}\n\n{edge}", "collapse by cache": table(by_cache)}
    page = PAGE.read_text(encoding="utf-8")
    for name, text in made.items():
        page = with_table(page, name, text)
        print(text, end="\n\n")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
