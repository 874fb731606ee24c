"""Whether the model that answers is the plan's: figures of another are held against the plan all the same, but said."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from planner.observed import Observed, Trouble
from planner.planned import Planned

KEY = "monitor.model_name"
# What publishers of quantised checkpoints append to a model's name, by the formats of which it may be.
FORMATS = {
    ("-fp8", "-fp8-dynamic", "-fp8-block"): ("fp8", "fp8_block"),
    ("-w8a8", "-quantized.w8a8", "-int8", "-w8a8-int8"): ("int8",),
    ("-awq", "-awq-int4"): ("awq",),
    ("-gptq", "-gptq-int4", "-gptq-int8"): ("gptq",),
    ("-w4a16", "-quantized.w4a16", "-int4"): ("awq", "gptq", "int4"),
    ("-bnb-4bit", "-unsloth-bnb-4bit"): ("int4",),
    ("-nvfp4", "-fp4"): ("nvfp4",),
    ("-mxfp4",): ("mxfp4",),
}


class Served(NamedTuple):
    """Whose figures these are: the plan's name of its model, the fleet's, whether both may be one (None: not told)."""

    planned: str
    told: str | None
    matches: bool | None


def served_of(planned: Planned, observed: Observed) -> Served:
    """The model that answers, beside `monitor.model_name` or, without one, the plan's.

    vLLM calls a model by the argument it was given, a repository or a folder, unless --served-model-name names it: the
    last part of a path, in any case, is enough, an instruction-tuned model has the shape of its base, and a checkpoint
    in the plan's own quantisation has that in its name.
    """
    told, monitor = observed.model_name, planned.scenario.monitor
    named = None if monitor is None else monitor.model_name
    own = named if named is not None else planned.hf_repo or planned.model_name
    if told is None:
        return Served(own, None, None)
    if named is not None:
        return Served(own, told, _last(told) == _last(named))
    endings = _endings(planned)
    known = {_model(name, endings) for name in (planned.hf_repo, planned.model_name) if name is not None}
    return Served(own, told, _model(told, endings) in known)


def wrong_model(planned: Planned, observed: Observed) -> tuple[Trouble, ...]:
    """A trouble where the fleet's own name of its model is neither the plan's nor `monitor.model_name`."""
    served = served_of(planned, observed)
    if served.told is None or served.matches is not False:
        return ()
    named = planned.scenario.monitor is not None and planned.scenario.monitor.model_name is not None
    of = f"{KEY} names {served.planned}" if named else f"the plan is for {served.planned}"
    setting = f"set {KEY}={shlex.quote(served.told)}"
    remedy = "" if named else f"; if it is the plan's under another name, {setting}"
    return (Trouble(KEY, "missing", f"the fleet serves {served.told}, {of}{remedy}"),)


def _endings(planned: Planned) -> tuple[str, ...]:
    """How a checkpoint in the plan's quantisation may end, the longest first; none of a plan without one."""
    value: Any = planned.document.get("fleet")
    for key in ("engine", "quantization"):
        value = value.get(key) if isinstance(value, dict) else None
    found = [ending for endings, formats in FORMATS.items() if value in formats for ending in endings]
    return tuple(sorted(found, key=len, reverse=True))


def _model(name: str, endings: tuple[str, ...]) -> str:
    last = name.rstrip("/").rpartition("/")[2].lower()
    ending = next((one for one in endings if last.endswith(one)), "")
    plain = last.removesuffix(ending).removesuffix("-instruct")
    return plain.removeprefix("meta-")  # with which Llama's repositories began once


def _last(name: str) -> str:
    return _model(name, ())
