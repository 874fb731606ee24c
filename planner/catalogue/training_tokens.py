"""How many tokens a catalogue model was trained on, where its makers have published it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.models import model as find_model
from planner.catalogue.tables import read_rows
from planner.specs import Model

FILE = "training_tokens.csv"


@dataclass(frozen=True)
class TrainingTokens:
    """Tokens of the pre-training, with where and when they were published."""

    tokens: float
    source: str
    date: str


def training_tokens(model: Model) -> TrainingTokens | None:
    """What is published of a catalogue model; None where nothing is, and of a model from a config.json."""
    for row in read_rows(FILE):
        if row["model"] == model.name and _is_listed(model):
            return TrainingTokens(float(row["training_tokens"]), row["source"], row["date"])
    return None


def _is_listed(model: Model) -> bool:
    """Whether a model is the catalogue's of that name: a config.json's folder may have the name of another's."""
    return replace(model, hf_repo=None) == replace(find_model(model.name), hf_repo=None)
