"""What `run_fleet` refuses by name: loads that make no sense, and requests that would never end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.errors import MisfitError, ScenarioError
from planner.simulation.load import Load, leaders
from planner.simulation.operations import Control
from planner.specs import SchedulerConfig


def refuse_what_never_ends(load: Load, config: SchedulerConfig, replicas: int) -> None:
    """Raise ScenarioError for a load that makes no sense, MisfitError for a request that can never be served."""
    arrival = load.arrival_s
    if len(arrival) == 0:
        raise ScenarioError("traffic", None, "no query reaches the model: nothing to simulate")
    if replicas < 1:
        raise ScenarioError("fleet.replicas", replicas, "must be at least 1")
    if config.seats < 1:
        raise ScenarioError("engine.max_num_seqs", config.seats, "must be at least 1")
    if config.max_num_batched_tokens < config.seats:
        rule = f"must be at least max_num_seqs ({config.seats})"
        raise ScenarioError("engine.max_num_batched_tokens", config.max_num_batched_tokens, rule)
    if not np.isfinite(arrival).all() or arrival[0] < 0 or (np.diff(arrival) < 0).any():
        raise ScenarioError("traffic.arrivals", None, "arrival times must be finite, not negative and ascending")
    if load.follows is not None:
        _refuse_broken_sessions(load, load.follows)
    if load.requests != load.queries * load.width:
        raise ScenarioError("query.stages", load.requests, f"needs {load.width} requests a query")
    if (load.prompt_tokens < 1).any() or (load.output_tokens < 1).any():
        raise ScenarioError("query.stages", None, "prompts and outputs must have at least 1 token")
    if any(stage.samples > 1 for stage in load.stages):
        unequal = load.prompt_tokens != load.prompt_tokens[leaders(load)]
        if unequal.any():
            raise ScenarioError("query.stages", int(unequal.argmax()), "samples of one call must have the same prompt")
    longest = int(load.prompt_tokens.max())
    if longest >= config.max_model_len:
        rule = f"must be below max_model_len ({config.max_model_len})"
        raise ScenarioError("query.stages.prompt_tokens", longest, rule)
    if not config.enable_chunked_prefill and longest > config.max_num_batched_tokens:
        rule = f"a prompt of {longest} tokens never fits one step with chunked prefill off"
        raise MisfitError("engine.max_num_batched_tokens", config.max_num_batched_tokens, rule, f">= {longest}")
    total = np.minimum(load.prompt_tokens + load.output_tokens.astype(np.int64), config.max_model_len)
    # The last sampled token is never computed; alone in the engine no watermark applies.
    need = -(-(int(total.max()) - 1) // config.block_size)
    if need > config.usable_blocks:
        rule = f"the longest request needs {need} KV blocks of {config.block_size} tokens"
        raise MisfitError("engine.num_gpu_blocks_override", config.usable_blocks, rule, f">= {need + 1}")


def refuse_impossible_control(load: Load, replicas: int, control: Control) -> None:
    """Raise ScenarioError for what cannot be done to so many replicas, or would let a query wait for ever."""
    most = max(stage.samples for stage in load.stages)
    if 0 < control.room < most:
        rule = f"must be at least the {most} samples of a call, which go to one replica"
        raise ScenarioError("fleet.admission.max_requests_per_replica", control.room, rule, str(most))
    for change in control.changes:
        if not 0 <= change.replica < replicas:
            raise ScenarioError("fleet.failures", change.replica, f"there are {replicas} replicas, counted from 0")
        if not change.at_s >= 0 or not 0 < change.factor < np.inf or change.then >= len(control.changes):
            raise ScenarioError("fleet.failures", change.at_s, "times must not be negative, factors above 0")
    returns = any(change.what == "start" for change in control.changes)
    gone = {change.replica for change in control.changes if change.what in {"stop", "drain"}}
    if control.serving == 0 or (len(gone) == replicas and not returns and not np.isfinite(load.timeout_s)):
        rule = "no replica is left and none comes back: give back_after_s, or traffic.timeout_s"
        raise ScenarioError("fleet.failures", len(gone), rule)


def _refuse_broken_sessions(load: Load, follows: NDArray[np.int64]) -> None:
    """Raise where turns do not follow one another in the load's order, or not each at its own time."""
    key = "query.stages.turns"
    if load.clients > 0:
        raise ScenarioError(key, load.clients, "sessions come in an open loop: there may be no clients")
    if len(follows) != load.queries or not ((follows >= -1) & (follows < np.arange(load.queries))).all():
        raise ScenarioError(key, None, "a query must follow an earlier one, or none (-1)")
    if np.bincount(follows[follows >= 0], minlength=1).max() > 1:
        raise ScenarioError(key, None, "at most one query may follow another")
    think_s = load.think_s
    if think_s is None or len(think_s) != load.queries or not (np.isfinite(think_s) & (think_s >= 0)).all():
        raise ScenarioError("query.stages.think_s", None, "each query of a session needs a finite time, not negative")
