"""Parameters of catalogue models, and which other model of the catalogue one may be held against.

How well a model answers is not modelled: a counterpart is found by its size alone, and every answer says so. Beside it
stands what can be said: the loss that the Chinchilla law gives a dense model of that size on its published training
tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.catalogue.models import model as find_model
from planner.catalogue.models import model_names
from planner.catalogue.training_tokens import training_tokens
from planner.economics.models.quality import EQUAL_LOSS, chinchilla_loss
from planner.memory.weights import BF16_BYTES, weight_bytes
from planner.specs import Model

ABOUT_EQUAL = 1.25  # two sizes are about equal up to this ratio


@dataclass(frozen=True)
class Parameters:
    """Parameter counts: of the whole model, and those that one token passes through."""

    total: float
    active: float


@dataclass(frozen=True)
class Counterpart:
    """A dense model that a mixture of experts is held against, and why this one."""

    name: str
    why: str


@dataclass(frozen=True)
class ModelLoss:
    """A model's loss in nats a token by its size and training; None where it is not said, and `note` says why.

    `training_tokens` may be known where the loss is not said. `source` is theirs, with its date.
    """

    loss: float | None
    training_tokens: float | None
    source: str | None
    note: str | None


def model_loss(model: Model) -> ModelLoss:
    """L(N, D) of Hoffmann et al. 2022 for N parameters in all and the published training tokens D.

    Not said of a mixture of experts (the law was fitted on dense models), nor where no tokens are published.
    """
    found = training_tokens(model)
    tokens, source = (None, None) if found is None else (found.tokens, f"{found.source} ({found.date})")
    if model.experts is not None:
        return ModelLoss(None, tokens, source, "a mixture of experts: the law was fitted on dense models")
    if tokens is None:
        return ModelLoss(None, None, None, "its training tokens are not known")
    return ModelLoss(chinchilla_loss(parameters(model).total, tokens).loss, tokens, source, None)


def equal_loss(one: ModelLoss, other: ModelLoss) -> bool | None:
    """Whether two losses are at most `EQUAL_LOSS` apart; None where either is not said."""
    if one.loss is None or other.loss is None:
        return None
    return abs(one.loss - other.loss) <= EQUAL_LOSS


def parameters(model: Model) -> Parameters:
    """Parameters from the model's shape, embeddings counted; a token visits k of E routed experts.

    active = total − routed experts · (1 − k/E): the convention in which Mixtral 8x7B has 12.9 of 46.7 billion.
    """
    weights = weight_bytes(model, "bf16")
    total = weights.total / BF16_BYTES
    if model.experts is None:
        return Parameters(total, total)
    unvisited = 1.0 - model.experts.per_token / model.experts.count
    return Parameters(total, total - weights.routed_experts / BF16_BYTES * unvisited)


def family(model: Model) -> str:
    """What models of one line have in common: the architecture, mixtures of experts beside the dense ones."""
    return model.architecture.replace("Moe", "")


def dense_counterpart(mixture: Model, least_context: int) -> Counterpart | None:
    """The dense catalogue model of about as many parameters in all, else of about as many active ones; None if none.

    About equal is a ratio of at most `ABOUT_EQUAL`; of several it is the nearest. It must have a bf16 checkpoint, a
    known shape and a context of at least `least_context` tokens.
    """
    mine = parameters(mixture)
    dense = [
        model
        for model in map(find_model, model_names())
        if model.experts is None
        and model.checkpoint == "bf16"
        and not model.shape_assumed
        and model.max_position >= least_context
    ]
    for size, words in ((mine.total, "parameters in all"), (mine.active, "active parameters")):
        near = [model for model in dense if _ratio(parameters(model).total, size) <= ABOUT_EQUAL]
        if near:
            best = min(
                near, key=lambda model: (_ratio(parameters(model).total, size), family(model) != family(mixture))
            )
            counts = f"{billions(parameters(best).total)} against {billions(size)} {words}"
            return Counterpart(best.name, f"the dense model of the catalogue nearest in size: {counts}")
    return None


def smaller_models(model: Model, least_context: int, most: int) -> list[Model]:
    """At most `most` catalogue models with fewer parameters in all and fewer active ones, larger active counts first.

    Those of the same family stand first. A model that is listed both plain and quantised counts once, plain.
    """
    mine = parameters(model)
    names = set(model_names())
    found = [
        other
        for other in map(find_model, model_names())
        if parameters(other).total < mine.total / ABOUT_EQUAL
        and parameters(other).active < mine.active / ABOUT_EQUAL
        and not other.shape_assumed
        and other.max_position >= least_context
        and not any(other.name == f"{name}-fp8" for name in names)
    ]
    found.sort(key=lambda other: (family(other) != family(model), -parameters(other).active, other.name))
    return found[:most]


def billions(count: float) -> str:
    """ "70.6 B"."""
    return f"{count / 1e9:.3g} B"


def _ratio(one: float, other: float) -> float:
    return math.exp(abs(math.log(one / other)))
