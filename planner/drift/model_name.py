"""Whether the model that answers is the plan's: figures of another are held against the plan all the same, but said."""

from __future__ import annotations

from planner.observed import Observed, Trouble
from planner.planned import Planned

KEY = "monitor.model_name"


def wrong_model(planned: Planned, observed: Observed) -> tuple[Trouble, ...]:
    """A trouble where the fleet's own name of its model is neither the plan's nor `monitor.model_name`.

    vLLM calls a model by the argument it was given, a repository or a folder, unless --served-model-name names it: the
    last part of a path, in any case, is enough, and an instruction-tuned model has the shape of its base.
    """
    told, monitor = observed.model_name, planned.scenario.monitor
    if told is None:
        return ()
    named = None if monitor is None else monitor.model_name
    known = [named] if named is not None else [planned.hf_repo, planned.model_name]
    if _last(told) in {_last(name) for name in known if name is not None}:
        return ()
    of = f"{KEY} names {named}" if named is not None else f"the plan is for {planned.hf_repo or planned.model_name}"
    remedy = f"; if it is the plan's under another name, set {KEY}={told}" if named is None else ""
    return (Trouble(KEY, "missing", f"the fleet serves {told}, {of}{remedy}"),)


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower().removesuffix("-instruct")
