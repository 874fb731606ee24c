"""How fast the simulator, the main command, the emulator and the load test are on this machine.

    python tools/bench.py             print the table
    python tools/bench.py --record    also append a dated row to docs/bench-history.csv

Times are of warm, compiled code; figures of rates are the best and the median of several runs.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

import planner
from planner.coefficients import StepCost
from planner.deployment import Length, deploy, make_load, only_candidate, run
from planner.deployment.days import run_days
from planner.performance import breakdown
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.kernel_tables import REQUEST
from planner.simulation.load import Load, Prefixes
from planner.simulation.replay import replay
from planner.specs import SchedulerConfig
from planner.validation import compare, read_cases
from planner.workload import rates_of
from tools import bench_emulator, bench_loadtest, bench_prefixes

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ai-search.yaml"
HISTORY = ROOT / "docs" / "bench-history.csv"
SEATS, BUDGET_TOKENS = 256, 8192
REPEATS = 5
MILLION = 1_000_000


def engine(caching: bool) -> SchedulerConfig:
    """30,000 blocks of 16 tokens, 256 seats, a budget of 8,192 tokens a step, contexts of up to 16,384."""
    return SchedulerConfig(30_000, 16, SEATS, BUDGET_TOKENS, 16_384, enable_prefix_caching=caching)


def cost() -> StepCost:
    """5 ms a step, 20 µs a token, growing with context: about an 8-billion-parameter model on one GPU."""
    return StepCost(
        tokens_s=0.005 + 2e-5 * np.arange(BUDGET_TOKENS + 1),
        requests_s=2e-6 * np.arange(SEATS + 1),
        decode_attention_s=1e-4,
        decode_token_s=1e-9,
        prefill_token2_s=1e-11,
        prefill_step_s=1e-3,
        frontend_s=0.005,
        frontend_token_s=5e-7,
    )


def load(requests: int, rate_qps: float, prompts: tuple[int, int], shared_tokens: int = 0) -> Load:
    """Poisson arrivals, prompts uniform in a range, outputs in 80 to 180; all prompts may begin with one prefix."""
    rng = np.random.default_rng(0)
    prefixes = None
    if shared_tokens:
        prefixes = Prefixes(np.arange(requests + 1), np.zeros(requests, np.int32), np.array([shared_tokens], np.int32))
    return Load(
        np.cumsum(rng.exponential(1 / rate_qps, requests)),
        rng.integers(prompts[0], prompts[1] + 1, requests).astype(np.int32),
        rng.integers(80, 181, requests).astype(np.int32),
        prefixes=prefixes,
    )


def simulated(arriving: Load, caching: bool, replicas: int = 1) -> FleetRun:
    """One run through the kernel."""
    return run_fleet(arriving, engine(caching), cost(), replicas, "least_loaded", np.random.default_rng(1))


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Best and median wall time, after one run that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times), statistics.median(times)


def kernel_rate(arriving: Load, caching: bool, replicas: int = 1) -> tuple[float, float]:
    """Millions of simulated requests per second: best, median. Every request must have ended."""
    if not np.isfinite(simulated(arriving, caching, replicas).last_token_s).all():
        raise SystemExit("a request never ended: not a benchmark")
    best, median = seconds(lambda: simulated(arriving, caching, replicas))
    return arriving.requests / best / MILLION, arriving.requests / median / MILLION


def command_seconds() -> tuple[float, float]:
    """The whole command `planner plan examples/ai-search.yaml`, from the shell's point of view."""
    command = [sys.executable, "-m", "planner", "plan", str(EXAMPLE)]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), 3)


def search_seconds() -> tuple[float, float]:
    """The search alone: plan() in this process, imports and compilation over."""
    scenario = Scenario.load(EXAMPLE)
    return seconds(lambda: planner.plan(scenario), 3)


def peak_bytes(arriving: Load) -> float:
    """Most memory that the load's columns and the simulator hold, per request."""
    columns = (arriving.arrival_s, arriving.prompt_tokens, arriving.output_tokens)
    tracemalloc.start()
    simulated(arriving, caching=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (peak + sum(column.nbytes for column in columns)) / arriving.requests


def reference_ratio() -> tuple[float, float]:
    """How many times faster the kernel is than the plain scheduler on 2,000 requests: best, median."""
    small = load(2_000, 60, (50, 150))
    plain = seconds(lambda: replay(small, engine(False), cost()), 3)
    fast = seconds(lambda: simulated(small, caching=False))
    return plain[0] / fast[0], plain[1] / fast[1]


def step_cost_ms() -> tuple[float, float]:
    """The step cost of the dearest kind of engine: a mixture with latent attention, 16,384 tokens a step."""
    document = Scenario.load(EXAMPLE).as_dict() | {"model": "deepseek-r1", "hardware": "h200-sxm-141gb"}
    document["engine"] = {"tensor_parallel_size": 8, "max_model_len": 8192, "max_num_batched_tokens": 16384}
    candidate = only_candidate(Scenario.from_dict(document), "simulate")
    best, median = seconds(lambda: breakdown(candidate.model, candidate.gpu, candidate.options).cost(), 20)
    return 1e3 * best, 1e3 * median


def day(routing: str) -> Scenario:
    """64 replicas of an 8-billion-parameter model at 1,000 queries a second all day, prompts and outputs as above."""
    document = {
        "version": 1,
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "engine": {"max_model_len": 8192, "max_num_seqs": SEATS, "max_num_batched_tokens": BUDGET_TOKENS},
        "traffic": {"peak_qps": 1000.0},
        "query": {
            "stages": [
                {"name": "answer", "prompt_tokens": {"uniform": [50, 150]}, "output_tokens": {"uniform": [80, 180]}}
            ]
        },
        "fleet": {"replicas": 64, "routing": routing},
    }
    return Scenario.from_dict(document)


def day_seconds() -> float:
    """A whole day of 86 M requests under random routing, replica by replica."""
    scenario = day("random")
    deployment, rates = deploy(only_candidate(scenario, "simulate")), rates_of(scenario, 1)
    quiet = scenario.with_values({"traffic.peak_qps": 1.0})
    run_days(deployment, quiet, rates_of(quiet, 1), 0, silent)
    begun = time.perf_counter()
    found = run_days(deployment, scenario, rates, 0, silent)
    if found.way != "streams" or not sum(row["answered"] for row in found.rows) > 86 * MILLION:
        raise SystemExit("not all of the day was simulated: not a benchmark")
    return time.perf_counter() - begun


def busiest_hour_seconds() -> float:
    """An hour of 3.6 M requests over the same replicas, least loaded, drawn, run and summarised."""
    scenario = day("least_loaded")
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(1000, 0, 0))
    run(deployment, scenario, load, 64, 0)
    begun = time.perf_counter()
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(3_600_000, 0, 0))
    run(deployment, scenario, load, 64, 0)
    return time.perf_counter() - begun


def silent(what: str, done: int, total: int) -> None:
    """Say nothing of the progress."""


def slowest_row_seconds() -> float:
    """The measured row that takes longest, its bands and the naive roofline included."""
    times = []
    for case in read_cases():
        begun = time.perf_counter()
        compare(case)
        times.append(time.perf_counter() - begun)
    return max(times)


class Row(NamedTuple):
    """One figure: its column in the history, what it is, its unit, best, median, what it should be."""

    key: str
    what: str
    unit: str
    best: float
    median: float | None
    aim: str


def measure() -> Iterator[Row]:
    """Every figure, as it is measured."""
    short = load(MILLION, 60, (50, 150))
    rate, times = "M requests/s", "times faster"
    yield Row("one_replica", "1 M requests, 1 replica, no prefix hits", rate, *kernel_rate(short, False), ">= 5")
    long = load(MILLION, 15, (1500, 2500), shared_tokens=400)
    what = "1 M requests of 2,000 tokens, 400 shared, caching"
    yield Row("prefix_caching", what, rate, *kernel_rate(long, True), ">= 0.3")
    what = "300,000 turns of sessions, 750 prompt tokens"
    yield Row("sessions", what, rate, *kernel_rate(bench_prefixes.sessions(300_000), True), ">= 0.3")
    what = "200,000 requests with a trace's blocks, 7,400 tokens"
    yield Row("trace_blocks", what, rate, *kernel_rate(bench_prefixes.recorded_blocks(200_000), True), ">= 0.05")
    many = load(MILLION, 60 * 64, (50, 150))
    what = "1 M requests, 64 replicas, least loaded"
    yield Row("replicas_64", what, rate, *kernel_rate(many, False, 64), ">= 1")
    what = "a day of 64 replicas at 1,000/s, random: 86 M requests"
    yield Row("day_streams_s", what, "s", day_seconds(), None, "<= 60")
    what = "the busiest hour of it, least loaded: 3.6 M requests"
    yield Row("busiest_hour_s", what, "s", busiest_hour_seconds(), None, "<= 10")
    yield Row("plan_command_s", "planner plan ai-search, whole command", "s", *command_seconds(), "<= 5")
    yield Row("plan_search_s", "planner plan ai-search, plan() alone", "s", *search_seconds(), "<= 2")
    what = "step cost of deepseek-r1, 16,384 tokens a step"
    yield Row("step_cost_ms", what, "ms", *step_cost_ms(), "<= 5")
    what = "slowest of 384 measured rows, bands and roofline in"
    yield Row("slowest_row_s", what, "s", slowest_row_seconds(), None, "<= 1")
    yield Row("row_bytes", "a request in flight: its row in the simulator", "bytes", REQUEST.itemsize, None, "")
    what = "a request of 1 M: most memory, arrays and simulator"
    yield Row("peak_bytes", what, "bytes", peak_bytes(short), None, "<= 200")
    yield Row("kernel_to_reference", "kernel against the plain scheduler", times, *reference_ratio(), "")
    emulated = bench_emulator.measure()
    yield Row("emulator_tokens_s", "emulator, 64 streams", "tokens/s", emulated.tokens_per_s, None, ">= 3000")
    yield Row("emulator_late_ms", "emulator: tokens late by, median", "ms", emulated.late_p50_ms, None, "<= 5")
    cpu_ms = emulated.cpu_ms_per_1000_tokens
    yield Row("emulator_cpu_ms", "emulator: CPU for 1,000 tokens", "ms", cpu_ms, None, "")
    for key, what, unit, value in bench_loadtest.measure():
        yield Row(key, what, unit, value, None, "")


def main() -> None:
    """Measure, print, and record where asked."""
    machine = {
        "cores": str(os.cpu_count()),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
    print(", ".join(f"{value} {name}" if name == "cores" else f"{name} {value}" for name, value in machine.items()))
    print(f"{'':<58}{'best':>9}{'median':>9}  {'unit':<14}aim")
    figures = {}
    for row in measure():
        middle = "" if row.median is None else f"{row.median:,.3g}"
        print(f"{row.what:<58}{row.best:>9,.3g}{middle:>9}  {row.unit:<14}{row.aim}".rstrip(), flush=True)
        figures[row.key] = f"{row.best:.4g}"
    if "--record" in sys.argv[1:]:
        record = {"date": datetime.date.today().isoformat(), **machine, **figures}
        with HISTORY.open(newline="", encoding="utf-8") as file:
            before = list(csv.DictReader(file))
        with HISTORY.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(record), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows([*before, record])


if __name__ == "__main__":
    main()
