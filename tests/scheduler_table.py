"""Reads `scheduler_cases.json`: what vLLM's own scheduler did with a few requests, step by step.

Notation of the file. Ids of blocks are runs, `6..32 3..1` = 6, 7 … 32, 3, 2, 1. Tokens are runs, `0+9 500+2` = 9 tokens
from 0 up, then 500 and 501. `scheduled` reads `A 8+1` = request A computes 1 token after 8 that are there; `admitted`
reads `B 8/9` = B came in and 8 of its 9 tokens were hit. `free` is the length of the free queue before schedule(),
after it and after the update. A step without a key has nothing there. Requests are added before the call that they
name, aborts follow in the same call; calls that are left out found the engine idle. With `async_scheduling` the update
of a call is that of the step before; nothing is updated where no step was under way.

Only the standard library is used, because tools/drive_vllm_scheduler.py reads it inside vLLM's own environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "scheduler_cases.json"
# An output token by which vLLM ends an answer early.
STOP_TOKEN = 1


@dataclass(frozen=True)
class CaseRequest:
    """One request of a case, as the client sent it."""

    id: str
    call: int  # added before this call
    prompt: list[int]
    outputs: list[int]  # the tokens that it will be answered with
    max_tokens: int
    cache_salt: str | None = None
    skip_reading_prefix_cache: bool = False

    def block_names(self, block_size: int) -> list[tuple[str | None, tuple[int, ...]]]:
        """Content of each full block, told by everything up to its end."""
        tokens = self.prompt + self.outputs
        ends = range(block_size, len(tokens) + 1, block_size)
        return [(self.cache_salt, tuple(tokens[:end])) for end in ends]


@dataclass(frozen=True)
class CaseStep:
    """What one call of schedule() and the update after it did."""

    call: int
    free: tuple[int, int, int]
    scheduled: list[tuple[str, int, int]] = field(default_factory=list)  # id, computed before, tokens
    running: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    admitted: list[tuple[str, int, int]] = field(default_factory=list)  # id, hits, queries
    tables: dict[str, list[int]] = field(default_factory=dict)
    emitted: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    free_queue: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One story: settings, requests, and every step."""

    id: str
    shows: str
    settings: dict[str, Any]  # vLLM's names, defaults filled in
    requests: list[CaseRequest]
    aborts: dict[int, list[str]]  # by call
    throttled: list[int]  # calls that ask for a step without prefills
    calls: int | None  # where a case would never end: how many are made
    steps: list[CaseStep]
    totals: dict[str, int]


def load_cases(asynchronous: bool = False) -> list[Case]:
    """The table's cases for one of the two ways of scheduling."""
    table = json.loads(TABLE.read_text())
    cases = [read_case(raw, table["defaults"]) for raw in table["cases"]]
    return [case for case in cases if case.settings["async_scheduling"] == asynchronous]


def read_case(raw: dict[str, Any], defaults: dict[str, Any]) -> Case:
    """One case as the file writes it, parsed."""
    return Case(
        id=raw["id"],
        shows=raw["shows"],
        settings=defaults | raw.get("settings", {}),
        requests=[_request(request) for request in raw["requests"]],
        aborts={int(call): ids.split() for call, ids in raw.get("aborts", {}).items()},
        throttled=read_ids(raw.get("throttled", "")),
        calls=raw.get("calls"),
        steps=[_step(step) for step in raw.get("steps", [])],
        totals=raw.get("totals", {}),
    )


def write_ids(ids: list[int]) -> str:
    """Numbers as runs, up or down: [6, 7, 8, 3, 2, 1] is `6..8 3..1`."""
    runs: list[list[int]] = []
    for number in ids:
        if runs and len(runs[-1]) == 1 and abs(number - runs[-1][0]) == 1:
            runs[-1].append(number)
        elif runs and len(runs[-1]) == 2 and number - runs[-1][1] == (1 if runs[-1][1] > runs[-1][0] else -1):
            runs[-1][1] = number
        else:
            runs.append([number])
    return " ".join("..".join(map(str, run)) for run in runs)


def read_ids(text: str) -> list[int]:
    """The inverse of `write_ids`."""
    ids: list[int] = []
    for run in text.split():
        first, _, last = run.partition("..")
        start, stop = int(first), int(last or first)
        step = 1 if stop >= start else -1
        ids += range(start, stop + step, step)
    return ids


def _request(raw: dict[str, Any]) -> CaseRequest:
    prompt = [
        token
        for run in raw["prompt"].split()
        for first, _, count in [run.partition("+")]
        for token in range(int(first), int(first) + int(count))
    ]
    answer = list(range(raw["out_base"], raw["out_base"] + raw["max_tokens"]))
    stop_at = raw.get("stop_at")
    return CaseRequest(
        id=raw["id"],
        call=raw.get("call", 0),
        prompt=prompt,
        outputs=answer if stop_at is None else [*answer[: stop_at - 1], STOP_TOKEN],
        max_tokens=raw["max_tokens"],
        cache_salt=raw.get("cache_salt"),
        skip_reading_prefix_cache=raw.get("skip_reading_prefix_cache", False),
    )


def _step(raw: dict[str, Any]) -> CaseStep:
    before, scheduled, updated = raw["free"]
    return CaseStep(
        call=raw["call"],
        free=(before, scheduled, updated),
        scheduled=[_triple(text, "+") for text in _parts(raw, "scheduled")],
        running=raw.get("running", "").split(),
        waiting=raw.get("waiting", "").split(),
        preempted=raw.get("preempted", "").split(),
        admitted=[_triple(text, "/") for text in _parts(raw, "admitted")],
        tables={request: read_ids(ids) for request, ids in raw.get("tables", {}).items()},
        emitted=raw.get("emitted", "").split(),
        finished=raw.get("finished", "").split(),
        free_queue=read_ids(raw.get("free_queue", "")),
        cached=read_ids(raw.get("cached", "")),
    )


def _parts(raw: dict[str, Any], key: str) -> list[str]:
    return raw[key].split(", ") if key in raw else []


def _triple(text: str, separator: str) -> tuple[str, int, int]:
    request, numbers = text.split()
    first, second = numbers.split(separator)
    return request, int(first), int(second)
