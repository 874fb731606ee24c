"""Bad scenarios: one line each, with key, value, rule and, where one is near, the right name."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from planner.errors import InputError, ScenarioError, UnsupportedError
from planner.scenario import Scenario

GOOD: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 10},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
    "slo": {"p99_ttft_ms": "<=1000"},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    """GOOD with one value put at a path of names and indices joined by slashes."""
    data = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in key.split("/")]
    place: Any = data
    for step in way:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    place[last] = value
    return data


NAN, INF = math.nan, math.inf
STAGE = "query/stages/0"
PROMPT = f"{STAGE}/prompt_tokens"
ARRIVALS = "traffic/arrivals"
NO_LIST = "a list may not stand here"
ROWS = [
    # where, value, the line starts with, and holds, because
    ("trafic", {}, "trafic", "unknown key; nearest: traffic", "unknown top-level key"),
    ("peak_qps", 3, "peak_qps (=3)", "nearest: traffic.peak_qps", "right key, wrong place"),
    ("engine/tensor_paralel_size", 2, "engine.tensor_paralel_size (=2)", "tensor_parallel_size", "misspelt"),
    (f"{STAGE}/prompt_token", 5, "query.stages[0].prompt_token (=5)", "nearest: prompt_tokens", "misspelt in a list"),
    ("engine/zzz", 1, "engine.zzz (=1)", "known: quantization", "nothing near: the known ones are listed"),
    ("version", 2, "version (=2)", "must be 1", "another language version"),
    ("version", "1", "version (=1)", "must be 1", "text for a number"),
    ("version", True, "version (=True)", "must be 1", "true is not 1"),
    ("model", [], "model (=[])", "the list is empty", "empty list"),
    ("model", 7, "model (=7)", "must be text", "wrong type"),
    ("model", "", "model", "must not be empty", "empty text"),
    ("model", ["a", "a"], "model (=['a', 'a'])", "names a twice", "duplicate choice"),
    ("model", [["a"]], "model", "may not hold lists", "list in a list"),
    ("hardware", ["h200", 3], "hardware[1] (=3)", "must be text", "wrong type in a list"),
    ("traffic/peak_qps", 0, "traffic.peak_qps (=0)", "must be > 0", "zero"),
    ("traffic/peak_qps", -1, "traffic.peak_qps (=-1)", "must be > 0", "negative"),
    ("traffic/peak_qps", NAN, "traffic.peak_qps (=nan)", "must be finite", "NaN"),
    ("traffic/peak_qps", INF, "traffic.peak_qps (=inf)", "must be finite", "infinite"),
    ("traffic/peak_qps", "40", "traffic.peak_qps (=40)", "must be a number", "text for a number"),
    ("traffic/peak_qps", True, "traffic.peak_qps (=True)", "must be a number", "true is not 1"),
    ("traffic/peak_qps", [1, 2], "traffic.peak_qps (=[1, 2])", NO_LIST, "list where none may be"),
    ("fleet/max_gpus", [8, 16], "fleet.max_gpus (=[8, 16])", NO_LIST, "list where none may be"),
    (PROMPT, [8, 16], "query.stages[0].prompt_tokens (=[8, 16])", NO_LIST, "list where none may be"),
    ("traffic", 5, "traffic (=5)", "must be a mapping", "scalar for a section"),
    ("traffic", [], "traffic (=[])", NO_LIST, "list for a section"),
    ("engine/max_num_seqs", 1.5, "engine.max_num_seqs (=1.5)", "must be a whole number", "fraction of a seat"),
    ("engine/max_num_seqs", True, "engine.max_num_seqs (=True)", "must be a whole number", "true is not 1"),
    ("engine/max_num_seqs", 0, "engine.max_num_seqs (=0)", "must be >= 1", "zero seats"),
    ("engine/max_model_len", 10**12, "engine.max_model_len", "must be <= 2147483647", "beyond 32 bits"),
    ("engine/max_num_seqs", 65_537, "engine.max_num_seqs (=65537)", "must be <= 65536", "more seats than memory"),
    ("engine/max_num_batched_tokens", 2**20 + 1, "engine.max_num_batched_tokens", "must be <= 1048576", "a long table"),
    ("engine/num_gpu_blocks_override", 20_000_001, "engine.num_gpu_blocks_override", "<= 20000000", "memory"),
    ("engine/block_size", 2**31, "engine.block_size", "must be <= 16384", "memory"),
    ("engine/data_parallel_size", 1025, "engine.data_parallel_size (=1025)", "must be <= 1024", "memory"),
    ("traffic/peak_qps", 1.1e7, "traffic.peak_qps (=11000000.0)", "must be <= 10000000", "beyond any fleet"),
    ("traffic/timeout_s", 1e-9, "traffic.timeout_s (=1e-09)", "must be >= 0.001", "nothing answers so soon"),
    (ARRIVALS, {"trace": {"format": "azure", "speedup": 1e-9}}, "traffic.arrivals.trace.speedup", ">= 1e-06", "slow"),
    (
        ARRIVALS,
        {"trace": {"format": "azure", "speedup": 1e300}},
        "traffic.arrivals.trace.speedup",
        "<= 1000000",
        "fast",
    ),
    (ARRIVALS, {"closed": {"concurrency": 10**7}}, "traffic.arrivals.closed.concurrency", "<= 2000000", "memory"),
    (ARRIVALS, {"closed": {"concurrency": 1, "think_s": 1e300}}, "traffic.arrivals.closed.think_s", "<= 1", "overflow"),
    (ARRIVALS, {"offline": {"requests": 10**8}}, "traffic.arrivals.offline.requests", "must be <= 50000000", "memory"),
    (
        ARRIVALS,
        {"closed": {"concurrency": 1000, "requests_per_client": 100_000}},
        "traffic.arrivals.closed.requests_per_client (=100000)",
        "with 1000 clients makes more than 50000000 queries",
        "their product counts",
    ),
    (PROMPT, {"lognormal": {"mean": 9, "cv": 1e300}}, "query.stages[0].prompt_tokens.lognormal.cv", "<= 100", "cv²"),
    (PROMPT, {"normal": {"mean": 9, "sd": 1e300}}, "query.stages[0].prompt_tokens.normal.sd", "<= 1", "overflow"),
    ("slo/p99.999_ttft_ms", "<=1", "slo.p99.999_ttft_ms (=<=1)", "at most 99.99", "a hundred million queries"),
    ("fleet/replicas", 20_001, "fleet.replicas (=20001)", "must be <= 20000", "memory"),
    ("fleet/spare_replicas", 20_001, "fleet.spare_replicas (=20001)", "must be <= 20000", "memory"),
    ("fleet/min_replicas", 20_001, "fleet.min_replicas (=20001)", "must be <= 20000", "memory"),
    ("fleet", {"replicas": 20_000, "max_gpus": 0}, "fleet.max_gpus (=0)", "must be >= 1", "no GPU"),
    ("prices/gpu_hour_usd", 1e300, "prices.gpu_hour_usd (=1e+300)", "must be <= 1000000000", "overflow"),
    ("engine/max_model_len", [8192, 1], "engine.max_model_len[1] (=1)", "must be >= 2", "no room for an answer"),
    ("engine/tensor_parallel_size", [1, 1], "engine.tensor_parallel_size (=[1, 1])", "twice", "duplicate choice"),
    ("engine/quantization", "fp9", "engine.quantization (=fp9)", "nearest: fp8", "unknown format"),
    ("engine/gpu_memory_utilization", 1.2, "engine.gpu_memory_utilization (=1.2)", "must be <= 1", "over all memory"),
    ("engine/enforce_eager", "no", "engine.enforce_eager (=no)", "must be true or false", "YAML 1.1's no is text"),
    ("engine/enforce_eager", 0, "engine.enforce_eager (=0)", "must be true or false", "0 is not false"),
    ("engine/vllm_version", 0.24, "engine.vllm_version (=0.24)", "quotes", "0.10 unquoted would be 0.1"),
    ("engine/vllm_version", "latest", "engine.vllm_version (=latest)", '"0.24"', "not a version"),
    (ARRIVALS, "poison", "traffic.arrivals (=poison)", "nearest: poisson", "misspelt"),
    (ARRIVALS, {"gama": {}}, "traffic.arrivals.gama", "nearest: gamma", "misspelt"),
    (ARRIVALS, {}, "traffic.arrivals (={})", "must be constant, poisson or a mapping", "empty mapping"),
    (ARRIVALS, ["poisson"], "traffic.arrivals", NO_LIST, "list where none may be"),
    (ARRIVALS, {"gamma": {"burstiness": 0}}, "traffic.arrivals.gamma.burstiness (=0)", "must be >=", "zero"),
    (ARRIVALS, {"gamma": {}}, "traffic.arrivals.gamma.burstiness", "is required", "missing"),
    (ARRIVALS, {"gamma": {"burstiness": 1}, "closed": {}}, "traffic.arrivals", "only one of: gamma, closed", "two"),
    (ARRIVALS, {"trace": {"format": "azur"}}, "traffic.arrivals.trace.format (=azur)", "nearest: azure", "misspelt"),
    (ARRIVALS, {"trace": {"format": "azure", "speedup": 0}}, "traffic.arrivals.trace.speedup", ">= 1e-06", "zero"),
    (ARRIVALS, {"closed": {"concurrency": 4}}, "traffic.peak_qps (=10)", "closed, which sets its own rate", "both"),
    (ARRIVALS, {"offline": {"requests": 4}}, "traffic.peak_qps (=10)", "offline", "both"),
    (ARRIVALS, {"trace": {"format": "azure"}}, "traffic.peak_qps (=10)", "trace", "both"),
    (ARRIVALS, {"closed": {"concurrency": 0}}, "traffic.arrivals.closed.concurrency (=0)", ">= 1", "zero"),
    (
        ARRIVALS,
        {"closed": {"concurrency": 1, "requests": 1, "requests_per_client": 1}},
        "traffic.arrivals.closed.requests (=1)",
        "not both",
        "two lengths",
    ),
    ("traffic/day", [1.0] * 23, "traffic.day", "at least 24 items, not 23", "an hour is missing"),
    ("traffic/day", [0.5] * 24, "traffic.day", "the largest of the 24 shares must be 1", "no peak"),
    ("traffic/day", [1.0] * 23 + [0], "traffic.day[23] (=0)", "must be >= 1e-06", "a dead hour"),
    ("traffic/day", [1.0] * 23 + [2], "traffic.day[23] (=2)", "must be <= 1", "above the peak"),
    ("traffic/day", 1, "traffic.day (=1)", "must be a list", "scalar for a list"),
    ("query/stages", [], "query.stages (=[])", "at least 1", "empty list"),
    ("query/stages", None, "query.stages", "is required", "no stage and no trace"),
    (f"{STAGE}/name", None, "query.stages[0].name", "is required", "missing"),
    (f"{STAGE}/output_tokens", None, "query.stages[0].output_tokens", "is required without a trace", "missing"),
    (f"{STAGE}/calls", 0, "query.stages[0].calls (=0)", "must be >= 1", "zero"),
    (PROMPT, 0, "query.stages[0].prompt_tokens (=0)", "must be >= 1", "zero"),
    (PROMPT, 10.5, "query.stages[0].prompt_tokens (=10.5)", "must be a whole number", "half a token"),
    (PROMPT, "long", "query.stages[0].prompt_tokens (=long)", "must be a whole number of tokens or", "text"),
    (PROMPT, {"lognorm": {}}, "query.stages[0].prompt_tokens.lognorm", "nearest: lognormal", "misspelt"),
    (PROMPT, {"lognormal": {"mean": 9, "cv": -1}}, "query.stages[0].prompt_tokens.lognormal.cv (=-1)", ">= 0", "cv"),
    (PROMPT, {"lognormal": {"mean": 0, "cv": 1}}, "query.stages[0].prompt_tokens.lognormal.mean (=0)", ">= 1", "mean"),
    (PROMPT, {"lognormal": {"mean": NAN, "cv": 1}}, "query.stages[0].prompt_tokens.lognormal.mean", "finite", "NaN"),
    (PROMPT, {"lognormal": {"mean": 9}}, "query.stages[0].prompt_tokens.lognormal.cv", "is required", "missing"),
    (PROMPT, {"uniform": [9, 3]}, "query.stages[0].prompt_tokens.uniform (=[9, 3])", "a <= b", "b < a"),
    (PROMPT, {"uniform": [9]}, "query.stages[0].prompt_tokens.uniform[1]", "is required", "one end"),
    (PROMPT, {"normal": {"mean": 9, "sd": -1}}, "query.stages[0].prompt_tokens.normal.sd (=-1)", ">= 0", "sd < 0"),
    (
        PROMPT,
        {"normal": {"mean": 9, "sd": 1, "min": 8, "max": 7}},
        "query.stages[0].prompt_tokens.normal.max (=7)",
        "at least min (=8)",
        "min > max",
    ),
    (
        PROMPT,
        {"normal": {"mean": 9, "sd": 1, "max": 7}},
        "query.stages[0].prompt_tokens.normal.mean (=9)",
        "between min and max",
        "mean beyond max",
    ),
    (
        PROMPT,
        {"joint": {"file": "f.csv", "columns": ["a", "b"]}},
        "query.stages[0].output_tokens (=100)",
        "must be left out",
        "joint draws both",
    ),
    (
        f"{STAGE}/output_tokens",
        {"joint": {"file": "f.csv", "columns": ["a", "b"]}},
        "query.stages[0].output_tokens",
        "joint stands in prompt_tokens",
        "joint on one side",
    ),
    (f"{STAGE}/shared_prefix", {"tokens": 1000}, "query.stages[0].prompt_tokens (=1000)", "longer", "all shared"),
    (f"{STAGE}/shared_prefix", {"tokens": 9, "zipf": -1}, "query.stages[0].shared_prefix.zipf (=-1)", ">= 0", "zipf"),
    ("query/response_cache", {"hit_rate": 1}, "query.response_cache.hit_rate (=1)", "must be < 1", "nothing left"),
    ("slo/p100_ttft_ms", "<=1", "slo.p100_ttft_ms (=<=1)", "above 0 and below 100", "percentile over 99"),
    ("slo/p101_ttft_ms", "<=1", "slo.p101_ttft_ms (=<=1)", "above 0 and below 100", "percentile over 100"),
    ("slo/p99_tfft_ms", "<=1", "slo.p99_tfft_ms (=<=1)", "nearest: p99_ttft_ms", "unknown metric"),
    ("slo/p99_speed_ms", "<=1", "slo.p99_speed_ms (=<=1)", "known: ttft, tpot, itl, e2e", "unknown metric"),
    ("slo/max_ttft_ms", "<=1", "slo.max_ttft_ms (=<=1)", "must be mean or a percentile", "unknown statistic"),
    ("slo/p99_ttft", "<=1", "slo.p99_ttft (=<=1)", "nearest: p99_ttft_ms", "no unit"),
    ("slo/p99_ttft_ms", 1000, "slo.p99_ttft_ms (=1000)", 'written as "<=1000"', "bare number"),
    ("slo/p99_ttft_ms", ">=1", "slo.p99_ttft_ms (=>=1)", 'written as "<=1000"', "wrong way round"),
    ("slo/p99_ttft_ms", "<=0", "slo.p99_ttft_ms (=<=0)", "above 0", "zero"),
    ("slo/p99_ttft_ms", "<=nan", "slo.p99_ttft_ms (=<=nan)", 'written as "<=1000"', "NaN"),
    ("slo/p99.0_ttft_ms", "<=5", "slo.p99.0_ttft_ms (=<=5)", "limited twice", "p99 and p99.0 are one"),
    ("slo", ["p99"], "slo (=['p99'])", "must be a mapping", "list"),
    ("fleet/spare_replicas", -1, "fleet.spare_replicas (=-1)", "must be >= 0", "negative"),
    ("fleet/replicas", 0, "fleet.replicas (=0)", "must be >= 1", "zero"),
    ("fleet/routing", "robin", "fleet.routing (=robin)", "nearest: round_robin", "misspelt"),
    ("prices/gpu_hour_usd", 0, "prices.gpu_hour_usd (=0)", "must be > 0", "a free GPU"),
    ("prices/gpu_hour_usd", {"ratecard": "x"}, "prices.gpu_hour_usd.ratecard (=x)", "nearest: rate_card", "misspelt"),
    ("prices/compute_share", 0, "prices.compute_share (=0)", "must be >= 1e-06", "zero"),
    ("prices/compute_share", 95, "prices.compute_share (=95)", "must be <= 1", "percent for a share"),
    ("revenue", {}, "revenue.ads", "is required", "revenue from nothing"),
    ("revenue/ads", {}, "revenue.ads.usd_per_query", "is required", "ads without a price"),
    ("revenue/ads", {"ecpm_usd": 5}, "revenue.ads.ads_per_query", "is required", "absent is never zero"),
    ("revenue/ads", {"usd_per_query": 1, "ecpm_usd": 5}, "revenue.ads.usd_per_query (=1)", "alone", "two bases"),
    ("revenue/ads", {"usd_per_query": 1, "fill": 0.5}, "revenue.ads.usd_per_query (=1)", "net of fill", "two bases"),
    ("revenue/ads", {"usd_per_query": 1, "fill": 1}, "revenue.ads.usd_per_query (=1)", "net of fill", "1 is given too"),
]


@pytest.mark.parametrize(("where", "value", "starts", "holds", "because"), ROWS, ids=[f"{r[0]}-{r[4]}" for r in ROWS])
def test_a_bad_value_is_refused_in_one_line(where: str, value: Any, starts: str, holds: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(changed(where, value))
    line = str(caught.value)
    assert line.startswith((f"{starts}:", f"{starts} (=")), (because, line)
    assert holds in line, (because, line)
    assert "\n" not in line
    assert caught.value.exit_code == 2


TOGETHER = [
    # engine, fleet, the line starts with, holds, because
    ({"max_num_seqs": [16, 65_536]}, {"replicas": 1000}, "engine.max_num_seqs", "50000000 over all 1000", "seats"),
    (
        {"num_gpu_blocks_override": 20_000_000},
        {"replicas": 26},
        "engine.num_gpu_blocks_override",
        "500000000",
        "blocks",
    ),
    ({"data_parallel_size": [1, 8]}, {"replicas": 2501}, "fleet.replicas (=2501)", "at most 20000", "ranks"),
]


@pytest.mark.parametrize(("engine", "fleet", "starts", "holds", "because"), TOGETHER, ids=[row[4] for row in TOGETHER])
def test_what_no_memory_holds_together_is_refused(
    engine: dict[str, Any], fleet: dict[str, Any], starts: str, holds: str, because: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD | {"engine": engine, "fleet": fleet})
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value), because


NOT_OPEN = [
    {"trace": {"format": "azure"}},
    {"closed": {"concurrency": 4}},
    {"offline": {"requests": 4}},
]


@pytest.mark.parametrize("arrivals", NOT_OPEN, ids=[next(iter(arrivals)) for arrivals in NOT_OPEN])
def test_a_day_stands_only_beside_a_rate(arrivals: dict[str, Any]) -> None:
    traffic = {"arrivals": arrivals, "day": [1.0] * 23 + [0.5]}
    with pytest.raises(ScenarioError, match=r"^traffic\.day \(=.*may not stand beside arrivals: "):
        Scenario.from_dict(GOOD | {"traffic": traffic})
    flat = Scenario.from_dict(GOOD | {"traffic": traffic | {"day": [1.0] * 24}})
    assert (1.0,) * 24 == flat.traffic.day


def test_a_response_cache_beside_a_closed_loop_is_not_supported_yet() -> None:
    data = GOOD | {"traffic": {"arrivals": {"closed": {"concurrency": 4, "think_s": 8}}}}
    query = GOOD["query"] | {"response_cache": {"hit_rate": 0.3}}
    with pytest.raises(
        UnsupportedError, match=r"^query\.response_cache\.hit_rate \(=0\.3\): .*closed is not supported"
    ):
        Scenario.from_dict(data | {"query": query})
    assert Scenario.from_dict(data | {"query": GOOD["query"] | {"response_cache": {"hit_rate": 0}}}).demand == "closed"


RESERVED = [
    ("query/classes", [{"name": "gold"}], "query.classes"),
    ("fleet/autoscaler", {"target": 1}, "fleet.autoscaler"),
    ("fleet/failures", {"mtbf_h": 1}, "fleet.failures"),
    ("fleet/pools", [], "fleet.pools"),
    ("fleet/routing", "prefix_aware", "fleet.routing (=prefix_aware)"),
    ("fleet/routing", ["random", "power_of_two"], "fleet.routing (=power_of_two)"),
    ("fleet/routing", "session_affinity", "fleet.routing (=session_affinity)"),
    ("engine/speculative", {"tokens": 3}, "engine.speculative"),
    ("query/response_cache/ttl_s", 60, "query.response_cache.ttl_s (=60)"),
    ("query/response_cache/popularity", {}, "query.response_cache.popularity"),
    ("query/response_cache/capacity_queries", 9, "query.response_cache.capacity_queries (=9)"),
    ("monitor", {"endpoints": []}, "monitor"),
]


@pytest.mark.parametrize(("where", "value", "starts"), RESERVED, ids=[row[0] for row in RESERVED])
def test_a_reserved_key_is_not_supported_yet(where: str, value: Any, starts: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Scenario.from_dict(changed(where, value))
    assert str(caught.value).startswith(starts)
    assert "not supported yet" in str(caught.value)


SESSION = {"name": "chat", "prompt_tokens": 100, "output_tokens": 10, "turns": 3, "think_s": 5}
BESIDE_TURNS = [
    # what is changed, the line starts with, and holds, because
    ({"query": {"stages": [SESSION | {"calls": 2}]}}, "query.stages[0].calls (=2)", "beside turns (=3)", "fan-out"),
    ({"query": {"stages": [SESSION | {"samples": 2}]}}, "query.stages[0].samples (=2)", "beside turns", "best of n"),
    (
        {"query": {"stages": [SESSION, GOOD["query"]["stages"][0]]}},
        "query.stages[0].turns (=3)",
        "beside other stages",
        "stages of a turn",
    ),
    (
        {"query": {"stages": [SESSION], "response_cache": {"hit_rate": 0.2}}},
        "query.response_cache.hit_rate (=0.2)",
        "beside turns (=3)",
        "a turn that is answered elsewhere",
    ),
    *(
        ({"traffic": {"arrivals": {kind: value}}}, "query.stages[0].turns (=3)", f"beside arrivals: {kind}", kind)
        for kind, value in (
            ("closed", {"concurrency": 4}),
            ("offline", {"requests": 4}),
            ("trace", {"file": "t.csv", "format": "azure"}),
        )
    ),
]


@pytest.mark.parametrize(("change", "starts", "holds", "because"), BESIDE_TURNS, ids=[row[3] for row in BESIDE_TURNS])
def test_what_may_not_yet_stand_beside_sessions(change: dict[str, Any], starts: str, holds: str, because: str) -> None:
    data = GOOD | {"query": {"stages": [SESSION]}} | change
    with pytest.raises(UnsupportedError) as caught:
        Scenario.from_dict(data)
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value)
    assert "not supported yet" in str(caught.value)
    assert "\n" not in str(caught.value)


TURNS = [
    ({"turns": 0}, "query.stages[0].turns (=0)", "must be >= 1", "none"),
    ({"turns": 257}, "query.stages[0].turns (=257)", "must be <= 256", "more than is kept in memory"),
    ({"turns": 2.5}, "query.stages[0].turns (=2.5)", "must be a whole number", "half a turn"),
    ({"turns": [2, 3]}, "query.stages[0].turns (=[2, 3])", NO_LIST, "no choice"),
    ({"turns": True}, "query.stages[0].turns (=True)", "must be a whole number", "no number"),
    ({"think_s": -1}, "query.stages[0].think_s (=-1)", "must be >= 0", "before the answer ends"),
    ({"think_s": INF}, "query.stages[0].think_s (=inf)", "must be finite", "for ever"),
    ({"think_s": {"lognormal": {"mean": 9, "cv": 1}}}, "query.stages[0].think_s", "must be a number", "drawn"),
    ({"turns": 1}, "query.stages[0].think_s (=5)", "give turns of at least 2", "a pause before nothing"),
]


@pytest.mark.parametrize(("change", "starts", "holds", "because"), TURNS, ids=[row[3] for row in TURNS])
def test_bad_turns_and_pauses_are_refused_in_one_line(
    change: dict[str, Any], starts: str, holds: str, because: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD | {"query": {"stages": [SESSION | change]}})
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_of_several_mistakes_is_named_and_the_others_counted() -> None:
    data = changed("traffic/peak_qps", -1) | {"fleet": {"replicas": 0, "max_gpus": "x"}}
    with pytest.raises(ScenarioError, match=r"^traffic.peak_qps \(=-1\): must be > 0 \(and 2 more to correct\)$"):
        Scenario.from_dict(data)


HEAD = "version: 1\nmodel: m\n"
FILES = [
    # text, the line holds, because
    ("", "is empty", "nothing in it"),
    ("- a\n- b\n", "must hold a mapping", "a list"),
    ("just words", "must hold a mapping", "a scalar"),
    ("a: [1, 2", "line 1: not valid YAML", "truncated"),
    ("a: b: c", "line 1: not valid YAML", "broken"),
    (HEAD + "a: !!python/object/apply:os.system [ls]\n", "line 3: tags", "a tag that would run code"),
    (HEAD + "a: !x 1\n", "line 3: tags", "a local tag"),
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: anchors and aliases", "YAML bomb"),
    ("a: *b\n", "line 1: anchors and aliases", "alias"),
    (HEAD + "model: n\n", "line 3: the key model is given twice", "repeated key"),
    ("? [a]\n: 1\n", "line 1: a key must be text", "list as a key"),
    ("[" * 5000, "nested more than 20 levels", "deep nesting"),
    (HEAD + "---\nversion: 1\n", "not valid YAML", "two documents"),
    ("a: \x07\n", "is not allowed in YAML", "control character"),
    (HEAD + "#" * 1_000_001, "larger than 1 MB", "too large"),
    ("a: [" + "1, " * 20_000 + "1]", "more than 20000 values", "a list without end"),
    (HEAD + "<<: {a: 1}\n", "<< (=", "merge keys are not read"),
    (HEAD + "1: x\n", "1 (=x): unknown key", "number as a key"),
    (HEAD + "traffic: {peak_qps: .nan}\n", "must be finite", "NaN in YAML"),
    (HEAD + "traffic: {peak_qps: 1:30}\n", "must be a number", "sexagesimal"),
    (HEAD + "traffic: {peak_qps: 0x10}\n", "must be a number", "hexadecimal"),
    (HEAD + f"traffic: {{peak_qps: {'9' * 5000}}}\n", "traffic.peak_qps", "a number of 5,000 digits"),
]


@pytest.mark.parametrize(("text", "holds", "because"), FILES, ids=[row[2] for row in FILES])
def test_a_bad_file_is_refused_in_one_line(text: str, holds: str, because: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Scenario.load(path)
    assert holds in str(caught.value), because
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", [b'{"record":"run"', b'\n{"record": "request"'])
@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_load_tests_records_are_told_from_a_scenario_whatever_their_size(
    start: bytes, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(start + b"}\n" + b"x" * size)
    with pytest.raises(ScenarioError, match="is a load test's records file; a scenario is YAML"):
        Scenario.load(path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"version: 1\nname: caf\xe9\n")
    with pytest.raises(ScenarioError, match="not UTF-8 text"):
        Scenario.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such file"):
        Scenario.load(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="is a folder"):
        Scenario.load(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        Scenario.load("a\0b")


SETS = [
    ("traffic.peak_qsp", "40", "traffic.peak_qsp (=40): unknown key; nearest: peak_qps", "misspelt"),
    ("zzz", "40", "zzz (=40): unknown key", "unknown"),
    ("requests", "40", "several keys end so", "closed and offline both have it"),
    ("query.stages[3].calls", "2", "there is no item 3: the list has 1", "beyond the list"),
    ("query.stages.calls", "2", "name an item", "list without index"),
    ("traffic[0]", "2", "traffic[0] (=2): traffic is not a list", "index on a mapping"),
    ("traffic..x", "2", "not a key", "broken path"),
    ("traffic.peak_qps", "[1", "not valid YAML", "broken value"),
    ("traffic.peak_qps", "&a 1", "anchors", "anchor"),
    ("model", "null", "model: is required", "removed though required"),
]


@pytest.mark.parametrize(("key", "value", "holds", "because"), SETS, ids=[f"{r[0]}-{r[3]}" for r in SETS])
def test_a_bad_setting_is_refused_in_one_line(key: str, value: str, holds: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD).with_values({key: value})
    assert holds in str(caught.value), because
    assert "\n" not in str(caught.value)
