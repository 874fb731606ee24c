"""The options that a waterfall takes away and puts back: what the scenario says of each, and what stands there without.

In the stated order: response cache, prefix cache, FP8 (or what number formats the scenario names), batching limits,
mixture of experts against a dense model; then those of the fleet (`waterfall_fleet`): data-parallel ranks against one
engine over the same GPUs, routing against the default one, admission, spare replicas, an autoscaler against a fleet of
one size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from planner.catalogue.models import model as find_model
from planner.memory import resolve_quantization
from planner.response_cache import cache_words
from planner.scenario import Scenario
from planner.scenario.sections import Quantization
from planner.specs import Model
from planner.studies.model_sizes import dense_counterpart, model_loss
from planner.studies.waterfall_fleet import admission, autoscaler, ranks, routing, spares
from planner.studies.waterfall_option import Option, choice_words, unused

Document = Mapping[str, Any]
QUALITY = "how well the answers are is not modelled"


def options_of(scenario: Scenario, document: Document) -> list[Option]:
    """The options in the stated order, with what the scenario says of each; `document` is its plan."""
    formats, experts = _like_formats(scenario, _formats(scenario), _experts(scenario, document))
    engine = [_response_cache(scenario), _prefix_cache(scenario), formats, _batching(scenario), experts]
    fleet = [ranks(scenario), routing(scenario), admission(scenario), spares(scenario)]
    return [*engine, *fleet, autoscaler(scenario, document)]


def _response_cache(scenario: Scenario) -> Option:
    cache, key = scenario.query.response_cache, "query.response_cache"
    if cache is None or not cache_words(scenario):
        return unused("response cache", f"the scenario has none ({key})")
    value = cache.model_dump(mode="json", exclude_none=True)
    return Option("response cache", cache_words(scenario), {key: value}, lacking="no response cache")


def _prefix_cache(scenario: Scenario) -> Option:
    given, key = scenario.engine.enable_prefix_caching, "engine.enable_prefix_caching"
    step = "prefix cache"
    if given is not None and not any(given):
        return unused(step, f"the scenario switches it off ({key})")
    stages = scenario.query.stages
    shared = {
        "a beginning that prompts share": any(stage.shared_prefix for stage in stages) or scenario.demand == "trace",
        "a document that calls share": any(stage.document for stage in stages),
        "the prompt of a call's samples": any(stage.samples > 1 for stage in stages),
        "what a session has said": scenario.session is not None,
    }
    names = [name for name, found in shared.items() if found]
    if not names:
        return unused(step, "no two prompts of the scenario begin alike")
    what = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} computed once"
    return Option(step, what, {key: None if given is None else list(given)}, {key: False}, "no prefix cache")


def _formats(scenario: Scenario) -> Option:
    engine = scenario.engine
    models = [find_model(name, scenario.base) for name in scenario.model]
    found = {resolve_quantization(model, asked) for model in models for asked in engine.quantization}
    step = "FP8" if found <= {"bf16", "fp8", "fp8_block"} else "number format"
    values: dict[str, Any] = {}
    without: dict[str, Any] = {}
    if found != {"bf16"}:
        values["engine.quantization"], without["engine.quantization"] = list(engine.quantization), "bf16"
    if any(kind != "auto" for kind in engine.kv_cache_dtype):
        values["engine.kv_cache_dtype"], without["engine.kv_cache_dtype"] = list(engine.kv_cache_dtype), "auto"
    if not values:
        return unused(step, "the scenario has bf16 weights only (engine.quantization)")
    formats = ", ".join(sorted(found)) + (" weights" if "engine.quantization" in values else "")
    if "engine.kv_cache_dtype" in values:
        formats += f", {', '.join(engine.kv_cache_dtype)} KV cache"
    return Option(step, f"{formats}; {QUALITY}", values, without, "bf16")


def _batching(scenario: Scenario) -> Option:
    given = {
        f"engine.{key}": list(values)
        for key in ("max_num_seqs", "max_num_batched_tokens")
        if (values := getattr(scenario.engine, key)) is not None
    }
    step = "batching limits"
    if not given:
        return unused(step, "the scenario leaves them to vLLM (engine.max_num_seqs, max_num_batched_tokens)")
    said = ", ".join(f"{key.removeprefix('engine.')} {choice_words(values)}" for key, values in given.items())
    return Option(step, f"{said} in place of vLLM's own", given, dict.fromkeys(given), "vLLM's own batching limits")


def _experts(scenario: Scenario, document: Document) -> Option:
    step = "mixture of experts"
    models = {name: find_model(name, scenario.base) for name in scenario.model}
    mixtures = [name for name, model in models.items() if model.experts is not None]
    if not mixtures:
        return unused(step, "the scenario's model is dense")
    dense = [name for name in models if name not in mixtures]
    if dense:
        against, why = dense, "the dense model that the scenario itself names"
    else:
        chosen = next(model for model in models.values() if model.name == document["model"]["name"])
        longest = max(scenario.engine.max_model_len or (1,))
        found = dense_counterpart(chosen, longest)
        if found is None:
            rule = f"the catalogue has no dense model of about as many parameters as {chosen.name}"
            return unused(step, f"{rule}, in all or active, with a context of {longest} tokens")
        against, why = [found.name], found.why
    values: dict[str, Any] = {"model": list(scenario.model)}
    without: dict[str, Any] = {"model": against}
    if any(scenario.engine.enable_expert_parallel):
        values["engine.enable_expert_parallel"] = list(scenario.engine.enable_expert_parallel)
        without["engine.enable_expert_parallel"] = False
    what = f"{choice_words(list(scenario.model))} in place of {choice_words(against)} ({why}); {QUALITY}"
    what += f"; {_losses([find_model(name, scenario.base) for name in against])}"
    return Option(step, what, values, without, f"{choice_words(against)}, dense")


def _losses(dense: list[Model]) -> str:
    """What the Chinchilla law says of the dense models; of a mixture it says nothing."""
    said = []
    for model in dense:
        found = model_loss(model)
        if found.loss is not None and found.training_tokens is not None:
            said.append(f"{model.name} {found.loss:.3f} on {found.training_tokens / 1e12:g} T tokens")
        else:
            said.append(f"{model.name} not said ({found.note})")
    return f"loss by the Chinchilla law: {', '.join(said)}; a mixture not said, it was fitted on dense models"


def _like_formats(scenario: Scenario, formats: Option, experts: Option) -> tuple[Option, Option]:
    """Both options so that the format is told apart from the experts.

    `auto` is each checkpoint's own format, on a dense model often bf16. So until the experts come back, the dense model
    is planned in the formats that the mixtures resolve to. Where a scenario cannot ask for such a format, it comes back
    with the experts, and both say so.
    """
    key = "engine.quantization"
    if key not in formats.values or "model" not in experts.without:
        return formats, experts
    asked = scenario.engine.quantization
    dense = [find_model(name, scenario.base) for name in experts.without["model"]]
    own = {resolve_quantization(model, kind) for model in dense for kind in asked}
    mixtures = [model for name in scenario.model if (model := find_model(name, scenario.base)).experts is not None]
    theirs = {resolve_quantization(model, kind) for model in mixtures for kind in asked}
    if own == theirs:
        return formats, experts
    names = choice_words(sorted(theirs))
    if not theirs <= set(get_args(Quantization)):
        what = f"{experts.what}; with it the weights come in {names}"
        later = f"no dense model can be planned in {names}; it comes back with the mixture of experts"
        cache = {name: value for name, value in formats.values.items() if name != key}
        if not cache:
            return unused(formats.step, later), replace(experts, what=what)
        kept = f"{', '.join(scenario.engine.kv_cache_dtype)} KV cache; of the weights, {later}; {QUALITY}"
        left = {name: formats.without[name] for name in cache}
        return replace(formats, what=kept, values=cache, without=left), replace(experts, what=what)
    values, without = {**experts.values, key: list(asked)}, {**experts.without, key: sorted(theirs)}
    return formats, replace(experts, values=values, without=without)
