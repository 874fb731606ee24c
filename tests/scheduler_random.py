"""Random cases for vLLM's scheduler and ours, in the notation of `scheduler_table`: a seed says all of one.

They are drawn so that a case lasts several hundred calls and is crowded for most of them: a cache that holds little
more than the longest request, arrivals at about the rate at which requests can leave, prompts that begin alike or go on
from an earlier request's answer. Only the standard library is used, because tools/drive_vllm_scheduler.py makes the
cases too, inside vLLM's own environment.
"""

from __future__ import annotations

import random
from typing import Any

CALLS, MOST_CALLS = 360, 450  # arrivals end at the first, a case at the second if it is not done before
FAMILIES = 4  # of prompts that begin alike
OWN, ANSWERS = 1_000_000, 10_000_000  # tokens from here on are of one request's prompt, of one's answer


def random_case(seed: int) -> dict[str, Any]:
    """One case without its steps."""
    rng = random.Random(seed)
    settings = _settings(rng)
    requests = _requests(rng, settings)
    aborted = rng.choice([0.0, 0.0, 0.05, 0.2])
    aborts: dict[str, list[str]] = {}
    for request in requests:
        if rng.random() < aborted:
            call = request["call"] + rng.choice([0, 1, 2, rng.randint(3, 60)])
            aborts.setdefault(str(call), []).append(request["id"])
    throttled = rng.random() < 0.15
    return {
        "id": f"random {seed}",
        "shows": "random",
        "settings": settings,
        "requests": requests,
        "aborts": {call: " ".join(ids) for call, ids in aborts.items()},
        "throttled": " ".join(str(call) for call in range(CALLS) if call % 4) if throttled else "",
        "calls": MOST_CALLS,
    }


def _settings(rng: random.Random) -> dict[str, Any]:
    """Any engine that vLLM would start: the longest request fits the cache, and a step if it may not be cut."""
    block_size = rng.choice([1, 2, 4, 4, 8, 16])
    model_len = rng.choice([24, 48, 96, 160])
    seats = rng.choice([1, 2, 3, 5, 8, 16, 40])
    chunked = rng.random() < 0.8
    budget = rng.choice([seats, seats + 1, seats + 6, 32, 64, 256])
    needed = 1 - (-model_len // block_size)
    return {
        "block_size": block_size,
        "num_blocks": needed + rng.choice([0, 1, needed // 8, needed // 4, needed // 2, needed, 2 * needed]),
        "max_num_seqs": seats,
        "max_num_batched_tokens": max(budget, seats, 2) if chunked else max(budget, seats, model_len),
        "max_model_len": model_len,
        "enable_chunked_prefill": chunked,
        "long_prefill_token_threshold": rng.choice([0, 0, 0, 3, 8, 17]),
        "long_prefill_token_threshold_adaptive": rng.random() < 0.3,
        "watermark": rng.choice([0.0, 0.0, 0.02, 0.1, 0.3]),
        "scheduler_reserve_full_isl": rng.random() < 0.7,
        "enable_prefix_caching": rng.random() < 0.8,
        "max_num_active_seqs": rng.choice([None, None, None, max(1, seats - 1)]),
        "async_scheduling": rng.random() < 0.5,
    }


def _requests(rng: random.Random, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Arrivals over CALLS calls, at 0.9 to 2.5 times the rate at which they could leave."""
    model_len = settings["max_model_len"]
    longest_prompt = rng.randint(2, model_len - 1)
    most_outputs = rng.choice([3, 10, 30, 60])
    # A request's share of a call: of the seats for as many calls as it has tokens, of the budget for its prompt, of the
    # cache for its blocks as long as it holds a seat.
    stops = rng.choice([0.0, 0.3, 1.0])
    calls = (1 + most_outputs) / 2 * (1 - stops / 2)
    tokens = min((longest_prompt + most_outputs) / 2, model_len)
    slots = (settings["num_blocks"] - 1) * settings["block_size"]
    share = max(
        calls / settings["max_num_seqs"],
        (longest_prompt / 2 + calls) / settings["max_num_batched_tokens"],
        calls * tokens / slots,
    )
    gap = max(share / rng.choice([0.9, 1.2, 1.6, 2.5]), 0.4)
    alike = rng.choice([0.0, 0.3, 0.8])
    goes_on = rng.choice([0.0, 0.3])
    families = [rng.randint(1, model_len) for _ in range(FAMILIES)]
    requests: list[dict[str, Any]] = []
    texts: list[list[int]] = []  # of each request: its prompt and answer
    at = 0.0
    while at < CALLS:
        index = len(requests)
        head: list[int] = []
        if texts and rng.random() < goes_on:
            head = texts[-rng.randint(1, min(len(texts), 8))]
        elif rng.random() < alike:
            family = rng.randrange(FAMILIES)
            head = list(range(10_000 * family, 10_000 * family + families[family]))
        length = rng.randint(1, longest_prompt)
        prompt = head[: rng.choice([length, max(1, length - rng.randint(0, 9))])]
        prompt = prompt + list(range(OWN + 1000 * index, OWN + 1000 * index + length - len(prompt)))
        outputs = rng.randint(1, most_outputs)
        request: dict[str, Any] = {
            "id": f"r{index}",
            "call": int(at),
            "prompt": write_tokens(prompt),
            "max_tokens": outputs,
            "out_base": ANSWERS + 1000 * index,
        }
        if rng.random() < stops:
            request["stop_at"] = rng.randint(1, outputs)
        if rng.random() < 0.05:
            request["cache_salt"] = "salt"
        if rng.random() < 0.05:
            request["skip_reading_prefix_cache"] = True
        requests.append(request)
        texts.append(prompt + list(range(request["out_base"], request["out_base"] + outputs)))
        at += rng.expovariate(1 / gap) if rng.random() < 0.8 else 0.0
    return requests


def write_tokens(tokens: list[int]) -> str:
    """Tokens as runs: [0, 1, 2, 500] is `0+3 500+1`."""
    runs: list[list[int]] = []
    for token in tokens:
        if runs and token == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([token, 1])
    return " ".join(f"{first}+{count}" for first, count in runs)
