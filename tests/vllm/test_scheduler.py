"""The reference scheduler against vLLM's own in this environment: the table still holds, and random loads agree.

A disagreement is printed as a case for `tests/scheduler_cases.json`, cut off behind the call where it shows.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from scheduler_replay import replay
from scheduler_table import TABLE, Case, read_case

from tools.vllm_cpu.server import ENVIRONMENT

ROOT = Path(__file__).parents[2]
DRIVER = [str(ENVIRONMENT / "bin" / "python"), str(ROOT / "tools" / "drive_vllm_scheduler.py")]
CASES, FIRST_SEED = 240, 0
OBSERVED = ("scheduled", "running", "waiting", "preempted", "admitted", "tables", "emitted", "finished")


@contextmanager
def driven(cases: int, first_seed: int) -> Iterator[IO[str]]:
    """What vLLM did with random cases, one a line, as it does them."""
    command = [*DRIVER, "--random", str(cases), "--seed", str(first_seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0


def disagreement(raw: dict[str, Any], case: Case) -> str | None:
    """The first call in which the reference does not do what vLLM did, and how to see it alone; None: there is none."""
    call = 0
    try:
        for expected, actual, _ in replay(case):
            call = expected.call
            if expected != actual:
                names = [name for name, value in vars(expected).items() if value != getattr(actual, name)]
                lines = [f"  {name}: vLLM {getattr(expected, name)}, ours {getattr(actual, name)}" for name in names]
                break
        else:
            return None
    except Exception as error:  # whatever the reference raises: told with the case, not with a bare traceback
        lines = [f"  ours: {error!r}"]
    cut = {key: value for key, value in raw.items() if key not in ("steps", "totals")}
    cut["requests"] = [request for request in raw["requests"] if request["call"] <= call]
    cut["aborts"] = {at: ids for at, ids in raw["aborts"].items() if int(at) <= call}
    cut |= {"calls": call + 1, "steps": []}
    return "\n".join([f"{case.id}, call {call}:", *lines, json.dumps(cut)])


@pytest.fixture(scope="module")
def compared() -> tuple[list[str], Counter[str]]:
    """Disagreements, and how often what was put to the test."""
    defaults = json.loads(TABLE.read_text())["defaults"]
    found: list[str] = []
    seen: Counter[str] = Counter()
    with driven(CASES, FIRST_SEED) as lines:
        for line in lines:
            raw = json.loads(line)
            case = read_case(raw, defaults)
            if differs := disagreement(raw, case):
                found.append(differs)
            settings, totals = case.settings, case.totals
            facts = {
                "cases": 1,
                "steps": len(case.steps),
                "short cases": len(case.steps) < 200,
                "asynchronous": settings["async_scheduling"],
                "caching off": not settings["enable_prefix_caching"],
                "chunking off": not settings["enable_chunked_prefill"],
                "reserving off": not settings["scheduler_reserve_full_isl"],
                "watermark": int(settings["watermark"] * settings["num_blocks"]) > 0,
                "one seat": settings["max_num_seqs"] == 1,
                "many seats": settings["max_num_seqs"] >= 16,
                "throttled": bool(case.throttled),
                "preempting": totals["preemptions"] > 0,
                "preemptions": totals["preemptions"],
                "hitting": totals["hits"] > 0,
                "hitting again": totals["readmission_hits"] > 0,
                "aborting": bool(case.aborts),
                "stopping": any(len(request.outputs) < request.max_tokens for request in case.requests),
                "ending in the queue": any(set(step.finished) & set(step.waiting) for step in case.steps),
                "calls without work": sum(not step.scheduled and bool(step.running) for step in case.steps),
            }
            seen.update(facts)
            for name in OBSERVED:
                seen[f"calls with {name}"] += sum(bool(getattr(step, name)) for step in case.steps)
    return found, seen


def test_the_table_says_what_this_vllm_does():
    told = subprocess.run([*DRIVER, "--check"], capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stdout + told.stderr[-2000:]


def test_every_call_of_every_random_case_is_vllms_own(compared: tuple[list[str], Counter[str]]):
    found, _ = compared
    assert not found, "\n".join([f"{len(found)} of {CASES} cases differ, the first of them:", *found[:3]])


@pytest.mark.parametrize(
    ("what", "least"),
    [
        ("cases", CASES),
        ("steps", 300 * CASES),
        ("asynchronous", CASES // 3),
        ("caching off", CASES // 10),
        ("chunking off", CASES // 10),
        ("reserving off", CASES // 10),
        ("watermark", CASES // 10),
        ("one seat", CASES // 20),
        ("many seats", CASES // 10),
        ("throttled", CASES // 20),
        ("preempting", CASES // 3),
        ("preemptions", 10 * CASES),
        ("hitting", CASES // 3),
        ("hitting again", CASES // 5),
        ("aborting", CASES // 3),
        ("stopping", CASES // 3),
        ("ending in the queue", 3),
        ("calls without work", CASES),
        *((f"calls with {name}", CASES) for name in OBSERVED),
    ],
)
def test_the_random_cases_put_it_to_the_test(compared: tuple[list[str], Counter[str]], what: str, least: int):
    _, seen = compared
    assert seen[what] >= least


def test_nearly_every_random_case_lasts_several_hundred_calls(compared: tuple[list[str], Counter[str]]):
    _, seen = compared
    assert seen["short cases"] <= CASES // 50
