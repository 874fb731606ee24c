"""A recorded run made ready: the deployment that it ran on, its sends as a Load, and its replay in the simulator.

A request is replayed when the client sent it, whatever made the client send it then: open or closed loop, stages of a
query, client limits. One replica only; what shares a prefix is taken from the scenario's own arrays, built again from
the seed in the file's header. Requests that failed are not in the arrays: when the engine may have worked for one of
them unseen is `planner.calibration.unseen`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.calibration.unseen import Unseen, unseen_work
from planner.coefficients import StepCost
from planner.deployment import Candidate, Deployment, deploy, only_candidate
from planner.deployment.recorded import verified_load
from planner.errors import DataFileError, InputError, UnknownNameError, UnsupportedError
from planner.readers.recordings import Recording
from planner.records import RunHeader
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Prefixes, SharedBlocks, shared_blocks
from planner.workload.prefixes import select_chains

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
KV_TOKENS = "kv_cache_tokens"  # in what a header or an end says of the server


@dataclass(frozen=True)
class RecordedRun:
    """A recording beside its deployment. Arrays have a place for each request that reached the engine, as sent.

    `row` is a request's place in the recording; `whole` = answered to the last token; `counted` = no warm-up.
    `output_tokens` of a request that broke off are those that came. `cached_tokens` of the prompt needed no
    computing: as the server said, else as the prefixes of the scenario imply.
    """

    recording: Recording
    scenario: Scenario
    deployment: Deployment
    load: Load
    row: I64
    whole: Bools
    counted: Bools
    cached_tokens: I64
    unseen: Unseen

    @property
    def sent_s(self) -> F64:
        """When each request was sent."""
        return self.load.arrival_s

    @property
    def first_s(self) -> F64:
        """When its first token came."""
        return self.recording.first_token_s[self.row]

    @property
    def last_s(self) -> F64:
        """When its last token came."""
        return self.recording.last_token_s[self.row]

    @property
    def due_s(self) -> F64:
        """When it was due."""
        return self.recording.scheduled_s[self.row]

    @property
    def kv_cache_tokens(self) -> int | None:
        """KV tokens as the server reported them."""
        for said in (self.recording.header, self.recording.end):
            value = None if said is None else said.server.get(KV_TOKENS)
            if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1:
                return int(value)
        return None


def recorded_runs(
    recordings: Sequence[Recording], scenario: Scenario | None, changes: Mapping[str, Any] | None = None
) -> list[RecordedRun]:
    """Recordings made ready, each under its own scenario, or under `scenario` where that is given.

    `changes` are values put into either, as by `--set`. Raises DataFileError for files without a header where no
    scenario is given, and UnsupportedError for runs of several engines.
    """
    return [_recorded_run(recording, scenario, changes or {}) for recording in recordings]


def _recorded_run(recording: Recording, given: Scenario | None, changes: Mapping[str, Any]) -> RecordedRun:
    scenario = _scenario(recording, given, changes)
    replicas, ranks = scenario.fleet.replicas or 1, max(scenario.engine.data_parallel_size)
    if replicas > 1 or ranks > 1:
        key = "fleet.replicas" if replicas > 1 else "engine.data_parallel_size"
        rule = f"{recording.name}: which engine served a request is not in the records; record one engine"
        raise UnsupportedError(key, max(replicas, ranks), rule, "1")
    deployment = deploy(_candidate(recording, scenario))
    # Never true of NaN: what was not sent, or brought no token, is no work that the engine did.
    began = (recording.sent_s <= recording.first_token_s) & (recording.first_token_s <= recording.last_token_s)
    gaps = np.diff(recording.gap_start)
    output = np.where(recording.answered, recording.output_tokens, gaps + 1)
    usable = began & (recording.prompt_tokens > 0) & (output > 0)
    if not usable.any():
        raise DataFileError("records", recording.path, f"{recording.name} holds no request that was answered")
    row = np.flatnonzero(usable)
    row = row[np.argsort(recording.sent_s[row], kind="stable")]
    built = _as_sent(recording, scenario)
    if built is not None and built.follows is not None and deployment.config.enable_prefix_caching:
        _refuse_unknown_history(recording, row)
    load = Load(
        arrival_s=np.maximum(recording.sent_s[row], 0.0),
        prompt_tokens=recording.prompt_tokens[row].astype(np.int32),
        output_tokens=output[row].astype(np.int32),
        prefixes=None if built is None else _prefixes(built, recording.request[row]),
    )
    header = recording.header
    counted = recording.request[row] >= (0 if header is None else header.warmup * header.width)
    load = replace(load, warmup=int(np.count_nonzero(~counted)))
    shared = shared_blocks(load.prefixes, load.requests, deployment.config.block_size)
    return RecordedRun(
        recording=recording,
        scenario=scenario,
        deployment=deployment,
        load=load,
        row=row,
        whole=recording.answered[row],
        counted=counted,
        cached_tokens=_cached(recording, row, load, shared, deployment),
        unseen=unseen_work(recording, built),
    )


def _candidate(recording: Recording, scenario: Scenario) -> Candidate:
    """The scenario's single combination; a model's file that the records cannot find is to be named by a scenario."""
    try:
        return only_candidate(scenario, "a recorded run")
    except (DataFileError, UnknownNameError) as error:
        if recording.header is None or scenario.base != recording.path.parent:
            raise
        rule = f"{error.rule} (as {recording.name} has it; name the scenario that was tested with --scenario)"
        raise type(error)(error.key, error.value, rule, error.nearest) from None


def _scenario(recording: Recording, given: Scenario | None, changes: Mapping[str, Any]) -> Scenario:
    """The scenario that a run is of, completed by what its server said."""
    if given is not None:
        scenario = given
    elif recording.header is None:
        rule = f"{recording.source} says nothing of model, hardware and engine: name the scenario with --scenario"
        raise DataFileError("records", recording.path, rule)
    else:
        scenario = sent_scenario(recording.header, recording.path.parent)
    if changes:
        scenario = scenario.with_values(changes)
    return as_served(recording, scenario)


def sent_scenario(header: RunHeader, base: Path) -> Scenario:
    """The scenario that was sent, without the calibration that it was planned with; its paths start from `base`."""
    return Scenario.from_dict(header.scenario | {"calibration": None}, base)


def as_served(recording: Recording, scenario: Scenario) -> Scenario:
    """The scenario with what the server said where it leaves that open; InputError where the two disagree."""
    server = {} if recording.header is None else recording.header.server
    if isinstance(server.get("engines"), int) and server["engines"] > 1:
        rule = f"{recording.name}: which engine served a request is not in the records; record one engine"
        raise UnsupportedError("server.engines", server["engines"], rule, "1")
    filled: dict[str, Any] = {}
    for name, said in _said(recording).items():
        stated = getattr(scenario.engine, name)
        if stated is None:
            filled[f"engine.{name}"] = said
        elif not _agree(name, stated[0], said):
            shown = str(said).lower() if isinstance(said, bool) else said
            raise InputError(f"engine.{name}", stated[0], f"{recording.name}: the server said {shown}", str(shown))
    return scenario.with_values(filled) if filled else scenario


def _said(recording: Recording) -> dict[str, Any]:
    """vLLM's arguments that the server told, under their names in a scenario."""
    server = {} if recording.header is None else recording.header.server
    kinds: dict[str, type | tuple[type, ...]] = {
        "block_size": int,
        "enable_prefix_caching": bool,
        "gpu_memory_utilization": (int, float),
    }
    said = {name: server[name] for name, kind in kinds.items() if isinstance(server.get(name), kind)}
    version = server_version(recording)
    return said if version is None else said | {"vllm_version": version}


def _agree(name: str, stated: Any, said: Any) -> bool:
    """Whether a stated value is what the server said; of versions the release decides."""
    if name == "vllm_version":
        return bool(stated.split(".")[:2] == said.split(".")[:2])
    return bool(stated == said)


def server_version(recording: Recording) -> str | None:
    """vLLM's version as the server said it, "0.32.0"; None where it did not, or said no number."""
    server = {} if recording.header is None else recording.header.server
    said = re.match(r"\d+\.\d+(\.\d+)?", str(server.get("version") or server.get("vllm_version") or ""))
    return said.group() if said else None


def _as_sent(recording: Recording, scenario: Scenario) -> Load | None:
    """The load's arrays, built again; None where the recorder did not say what they were built from."""
    header = recording.header
    if header is None:
        return None
    return verified_load(recording, sent_scenario(header, scenario.base or recording.path.parent))


def _prefixes(load: Load, request: I64) -> Prefixes | None:
    """Which of the sent prompts begin alike; None where nothing is shared."""
    if load.prefixes is None:
        return None
    keep = np.zeros(load.requests, np.bool_)
    keep[request] = True
    chains = select_chains(load.prefixes, keep)
    return _reordered(chains, np.argsort(np.argsort(request)))


def _reordered(chains: Prefixes, place: I64) -> Prefixes:
    """The chains with request i's taken from place `place[i]`."""
    lengths = np.diff(chains.chain_start)[place]
    start = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    links = np.repeat(chains.chain_start[:-1][place] - start[:-1], lengths) + np.arange(start[-1])
    return Prefixes(start, chains.chain_segment[links], chains.segment_tokens)


def _cached(recording: Recording, row: I64, load: Load, shared: SharedBlocks, deployment: Deployment) -> I64:
    """Tokens of each prompt that needed no computing.

    Where the server did not say: the leading shared blocks that an earlier request held; never the prompt's last token.
    """
    block = deployment.config.block_size
    implied = np.zeros(load.requests, np.int64)
    if deployment.config.enable_prefix_caching and shared.contents:
        seen: set[int] = set()
        for i in range(load.requests):
            ids = shared.ids[shared.start[i] : shared.start[i] + shared.count[i]].tolist()
            hits = next((place for place, content in enumerate(ids) if content not in seen), len(ids))
            implied[i] = min(hits, (int(load.prompt_tokens[i]) - 1) // block) * block
            computed = int(load.prompt_tokens[i] + load.output_tokens[i]) - 1  # all but the last token
            seen.update(ids[: computed // block])
    if recording.cached_tokens is None:
        return implied
    said = recording.cached_tokens[row]
    return np.where(said >= 0, np.minimum(said, load.prompt_tokens - 1), implied)


def _refuse_unknown_history(recording: Recording, row: I64) -> None:
    """UnsupportedError for sessions whose server did not say what its cache held, where nothing else can tell either.

    A completion that was re-sent as given lies in the prompt where the schedule has it. One that was made up is in no
    cache, and behind a chat template the history stands elsewhere.
    """
    said, header, end = recording.cached_tokens, recording.header, recording.end
    if said is not None and bool((said[row] >= 0).all()):
        return
    if header is not None and header.api == "chat":
        why = "of a chat the server counts the template too"
    elif end is not None and end.made_up:
        why = f"{end.made_up} answers were re-sent as made-up tokens"
    else:
        return
    rule = f"how much of its sessions' prompts was cached is not known ({why}, and the server sent no cached_tokens)"
    raise UnsupportedError("records", recording.name, f"{rule}; record with vllm serve --enable-prompt-tokens-details")


def replay_run(run: RecordedRun, cost: StepCost) -> FleetRun:
    """The run in the simulator: every request sent when it was sent."""
    generator = np.random.default_rng(0)  # one replica: nothing is drawn
    return run_fleet(run.load, run.deployment.config, cost, 1, "round_robin", generator)


def with_kv(run: RecordedRun, tokens: int | None) -> RecordedRun:
    """The run on a KV cache of as many tokens as the server reported."""
    if tokens is None:
        return run
    config = run.deployment.config
    blocks = max(tokens // config.block_size, -(-config.max_model_len // config.block_size) + 1)
    return replace(run, deployment=replace(run.deployment, config=replace(config, num_blocks=blocks)))
