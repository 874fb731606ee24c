"""Parameters of catalogue models, and which other model one is held against."""

from __future__ import annotations

import pytest

from planner.catalogue.models import model
from planner.studies.model_sizes import dense_counterpart, parameters, smaller_models

# name, billions in all, billions active, tolerance, source
PUBLISHED = [
    ("llama-3.1-8b", 8.03, 8.03, 0.01, "Meta's model card"),
    ("llama-3.3-70b", 70.6, 70.6, 0.01, "Meta's model card"),
    ("mixtral-8x7b", 46.7, 12.9, 0.01, "Mistral's announcement"),
    ("mixtral-8x22b", 141.0, 39.0, 0.01, "Mistral's announcement"),
    ("qwen3-30b-a3b", 30.5, 3.3, 0.02, "Qwen's model card"),
    ("qwen3-235b-a22b", 235.0, 22.0, 0.02, "Qwen's model card"),
    ("deepseek-v3", 671.0, 37.0, 0.02, "DeepSeek-V3 report"),
    ("yuan2-m32", 40.0, 3.7, 0.03, "Yuan2.0-M32 paper"),
]


@pytest.mark.parametrize(("name", "total", "active", "within", "source"), PUBLISHED)
def test_parameters_are_those_published(name: str, total: float, active: float, within: float, source: str):
    found = parameters(model(name))
    assert total == pytest.approx(found.total / 1e9, rel=within), source
    assert active == pytest.approx(found.active / 1e9, rel=within), source


# mixture, context, counterpart, because
COUNTERPARTS = [
    ("qwen3-30b-a3b", 8192, "qwen3-32b", "30.5 B in all"),
    ("yuan2-m32", 8192, "qwen3-32b", "40 B in all, 1.22 times 32.8 B"),
    ("mixtral-8x7b", 4096, "llama-2-13b", "nothing near 46.7 B in all; 12.9 B active"),
    ("mixtral-8x7b", 8192, "qwen3-14b", "llama-2-13b has a context of 4,096: the next of about 12.9 B active"),
    ("qwen3-235b-a22b", 4096, None, "nothing near 235 B in all, nor near 22 B active"),
]


@pytest.mark.parametrize(("mixture", "context", "name", "because"), COUNTERPARTS)
def test_a_mixture_of_experts_has_the_dense_model_nearest_in_size(
    mixture: str, context: int, name: str | None, because: str
):
    found = dense_counterpart(model(mixture), context)
    assert name == (None if found is None else found.name), because


def test_smaller_models_are_smaller_in_every_way_and_of_the_same_family_first():
    found = smaller_models(model("llama-3.3-70b"), 8192, 4)
    mine = parameters(model("llama-3.3-70b"))
    assert found[0].name == "llama-3.1-8b"
    assert len(found) == 4
    for other in found:
        size = parameters(other)
        assert size.total < mine.total
        assert size.active < mine.active
        assert other.max_position >= 8192


def test_a_quantised_twin_is_not_listed_beside_its_plain_model():
    names = [other.name for other in smaller_models(model("llama-3.1-405b"), 4096, 50)]
    assert "llama-3.1-70b" in names
    assert "llama-3.1-70b-fp8" not in names


def test_the_smallest_model_has_none_below_it():
    assert smaller_models(model("qwen3-0.6b"), 1024, 4) == []
