"""Whether a scenario is the one that a run was sent by: refused where it cannot be, warned of where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from planner.calibration.replayed import RecordedRun, as_served, sent_scenario
from planner.deployment import Candidate, only_candidate
from planner.errors import DataFileError, InputError
from planner.readers.recordings import Recording
from planner.scenario import Scenario

BLOCKS = "engine.num_gpu_blocks_override"
FEW_REQUESTS = 20  # below it a p95 is the slowest request but none


def refuse_other_query(recording: Recording, scenario: Scenario) -> None:
    """Raise DataFileError where a query of `scenario` is built otherwise than those that were sent.

    Stages, calls, samples and turns count. Lengths, rates and pauses may differ: those that were sent are replayed.
    """
    if recording.header is None:
        return
    sent, given = _stages(_sent(recording, scenario)), _stages(scenario)
    if len(sent) != len(given):
        rule = f"were not sent by this scenario: its query has {len(given)} stages, theirs {len(sent)}"
        raise DataFileError("records", recording.name, rule)
    for index, (theirs, ours) in enumerate(zip(sent, given, strict=True)):
        for key, value in theirs.items():
            if ours[key] != value:
                where = f"query.stages[{index}].{key}"
                rule = f"were not sent by this scenario: {where} is {ours[key]} in it, {value} in them"
                raise DataFileError("records", recording.name, rule)


def warnings_of(run: RecordedRun, counted: int) -> list[str]:
    """What must be known of the comparison: another deployment than was tested, too few `counted` requests."""
    said = []
    other = _differences(run)
    if other:
        here = ", ".join(f"{key} {mine}" for key, mine, _ in other)
        there = ", ".join(str(theirs) for _, _, theirs in other)
        said.append(f"{run.recording.name} was recorded on another deployment: simulated {here}; recorded {there}")
    if counted < FEW_REQUESTS:
        say = "request says" if counted == 1 else "requests say"
        said.append(f"{run.recording.name}: percentiles of {counted} {say} little")
    return said


def _differences(run: RecordedRun) -> list[tuple[str, Any, Any]]:
    """Keys of the deployment with their value as simulated and as recorded, where the two differ."""
    if run.recording.header is None:
        return []
    tested = _tested(run)
    if tested is None:
        return []
    here, there = _settings(run.deployment.candidate), _settings(tested)
    if there[BLOCKS] is None and run.kv_cache_tokens is not None:  # `planner init` writes down what the server reported
        there[BLOCKS] = here[BLOCKS] and run.kv_cache_tokens // here["engine.block_size"]
    return [(key, mine, there[key]) for key, mine in here.items() if mine != there[key]]


def _tested(run: RecordedRun) -> Candidate | None:
    """What the records say was tested.

    A model whose file is not at hand is taken to be the one that was named instead of it. None where the rest of it
    is unknown here as well.
    """
    sent = as_served(run.recording, _sent(run.recording, run.scenario))
    named = {"model": run.scenario.model[0], "hardware": (run.scenario.hardware or ("",))[0]}
    own = {} if sent.hardware else {"hardware": named["hardware"]}
    for changes in (own, own | {"model": named["model"]}):
        try:
            return only_candidate(sent.with_values(changes), "a recorded run")
        except InputError:
            continue
    return None


def _sent(recording: Recording, scenario: Scenario) -> Scenario:
    """The scenario in the records; its paths start as those of the given one."""
    assert recording.header is not None
    return sent_scenario(recording.header, scenario.base or recording.path.parent)


def _stages(scenario: Scenario) -> list[Mapping[str, int]]:
    """How a query is built; of a trace without stages, one call."""
    keys = ("calls", "samples", "turns")
    return [{key: getattr(stage, key) for key in keys} for stage in scenario.query.stages] or [dict.fromkeys(keys, 1)]


def _settings(candidate: Candidate) -> dict[str, Any]:
    """A candidate by the scenario's keys; of vLLM's version the release."""
    options = candidate.options
    engine = {f"engine.{field.name}": getattr(options, field.name) for field in fields(options)}
    engine["engine.vllm_version"] = ".".join(map(str, options.release))
    return {"model": candidate.model.name, "hardware": candidate.gpu.name} | engine
