"""What the Chinchilla law says of catalogue models, where it says nothing, and how it stands beside smaller models."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import planner.catalogue
from planner import Scenario, plan
from planner.catalogue.models import model, model_names
from planner.catalogue.training_tokens import training_tokens
from planner.economics.models.quality import EQUAL_LOSS
from planner.studies.chosen import pinned
from planner.studies.levers import smaller
from planner.studies.model_sizes import ModelLoss, equal_loss, model_loss
from planner.studies.waterfall_options import options_of
from planner.summary.model_loss import loss_lines

ROWS = list(csv.DictReader((Path(planner.catalogue.__file__).parent / "data" / "training_tokens.csv").open()))

# model, trillions of tokens, loss, because
LOSSES = [
    ("gpt-3-175b", 0.3, 2.002, "the case chinchilla-parity has 2.002 for it"),
    ("llama-2-70b", 2.0, 1.922, "1.69 + 406.4/69e9^0.34 + 410.7/2e12^0.28"),
    ("llama-3.1-8b", 15.0, 1.948, "1.69 + 406.4/8.03e9^0.34 + 410.7/15e12^0.28"),
    ("llama-3.3-70b", 15.0, 1.857, "the same tokens, more parameters"),
    ("qwen3-32b", 36.0, 1.864, "half the parameters, more than twice the tokens"),
]


@pytest.mark.parametrize(("name", "trillions", "loss", "because"), LOSSES)
def test_a_dense_models_loss_is_that_of_its_parameters_and_tokens(
    name: str, trillions: float, loss: float, because: str
):
    found = model_loss(model(name))
    assert trillions * 1e12 == found.training_tokens, because
    assert loss == pytest.approx(found.loss, abs=1e-3), because
    assert found.note is None
    assert found.source


def test_the_loss_by_hand():
    loss = 1.69 + 406.4 / 175e9**0.34 + 410.7 / 300e9**0.28
    assert loss == pytest.approx(model_loss(model("gpt-3-175b")).loss, abs=2e-4)  # the shape has 174.6 B


# model, are its tokens known, says, because
NOT_SAID = [
    ("mixtral-8x7b", False, "fitted on dense models", "a mixture whose tokens are not published either"),
    ("deepseek-v3", True, "fitted on dense models", "a mixture whose tokens are"),
    ("dense-500b", False, "training tokens are not known", "a dense model of no maker"),
]


@pytest.mark.parametrize(("name", "known", "says", "because"), NOT_SAID)
def test_where_the_law_says_nothing_there_is_no_loss(name: str, known: bool, says: str, because: str):
    found = model_loss(model(name))
    assert found.loss is None, because
    assert (found.training_tokens is not None) is known, because
    assert says in (found.note or ""), because


def test_a_config_json_of_a_listed_name_is_not_the_listed_model():
    listed = model("qwen3-8b")
    assert training_tokens(replace(listed, hf_repo="Qwen/Qwen3-8B-tuned")) is not None
    assert training_tokens(replace(listed, source="config.json of qwen3-8b")) is None


def test_every_row_of_the_file_is_a_catalogue_model_with_a_source_and_a_date():
    assert len({row["model"] for row in ROWS}) == len(ROWS)
    assert {row["model"] for row in ROWS} <= set(model_names())
    for row in ROWS:
        assert 1e11 < float(row["training_tokens"]) < 1e14, row["model"]
        stated = re.search(r"([\d.]+)([TB])\b", row["source"].rsplit(":", 1)[-1])
        assert stated is not None, row["model"]
        assert float(stated[1]) * {"T": 1e12, "B": 1e9}[stated[2]] == pytest.approx(float(row["training_tokens"]))
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"])


# loss, other, equal, because
EQUAL = [
    (1.857, 1.864, True, "7 thousandths apart"),
    (1.85, 1.85 + EQUAL_LOSS / 2, True, "within the tolerance"),
    (1.975, 1.937, False, "a trillion parameters on 300 B tokens lose to Chinchilla"),
    (1.9, None, None, "one of them is not said"),
    (None, 1.9, None, "the other is not"),
]


@pytest.mark.parametrize(("one", "other", "equal", "because"), EQUAL)
def test_equal_is_within_the_tolerance(one: float | None, other: float | None, equal: bool | None, because: str):
    losses = [ModelLoss(loss, None, None, None) for loss in (one, other)]
    assert equal == equal_loss(*losses), because
    assert equal == equal_loss(*reversed(losses)), because


# --- in the answers ---

SCENARIO: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.3-70b",
    "hardware": "h200-sxm-141gb",
    "engine": {"quantization": "fp8", "tensor_parallel_size": 2, "max_model_len": 8192, "max_num_seqs": 64},
    "traffic": {"peak_qps": 4.0},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 50}]},
    "slo": {"p90_ttft_ms": "<=3000"},
    "prices": {"gpu_hour_usd": 4.0},
}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The lever of a 70 B model: an 8 B of its own family, dense ones of another, a mixture."""
    scenario = Scenario.from_dict(SCENARIO)
    document = plan(scenario, requests=1000, worlds=0).as_dict()
    return smaller(scenario, pinned(scenario, document), document, 0, 1000, lambda what, done, total: None)


def test_each_smaller_model_has_its_loss_and_tokens_beside_the_planned_ones(found: dict[str, Any]):
    rows = {row["model"]: row for row in found["rows"]}
    assert {"llama-3.1-8b", "qwen3-32b", "qwen3-14b", "mixtral-8x7b"} == rows.keys()
    assert "llama-3.3-70b" == found["planned"]["model"]
    assert 1.857 == pytest.approx(found["planned"]["loss"], abs=1e-3)
    assert rows["qwen3-32b"]["equal_loss"] is True
    assert rows["qwen3-32b"]["training_tokens"] == 36e12
    assert rows["llama-3.1-8b"]["equal_loss"] is False
    assert (rows["mixtral-8x7b"]["loss"], rows["mixtral-8x7b"]["equal_loss"]) == (None, None)
    assert "fitted on dense models" in rows["mixtral-8x7b"]["loss_note"]
    assert {row["quality"] for row in rows.values()} == {"quality not modelled"}
    assert json.loads(json.dumps(found)) == found


# what the text says, because
SAID = [
    ("llama-3.3-70b 1.857 as planned 15 T tokens", "the planned model first"),
    ("qwen3-32b 1.864 EQUAL 36 T tokens", "equal by the law"),
    ("llama-3.1-8b 1.948 +0.091 15 T tokens", "a greater loss, by how much"),
    ("mixtral-8x7b not said a mixture of experts", "not said, and why"),
    ("equal: within 0.01", "the tolerance"),
    ("Hoffmann et al. 2022", "the source"),
    ("Loss is not the quality of answers", "the law's limits"),
]


@pytest.mark.parametrize(("says", "because"), SAID)
def test_the_text_says(found: dict[str, Any], says: str, because: str):
    assert says in " ".join(" ".join(loss_lines(found)).split()), because


def test_without_smaller_models_nothing_is_said():
    assert loss_lines({"rows": [], "loss_law": {"limits": "x"}, "planned": {}}) == []
    assert loss_lines({"rows": [{"model": "a"}]}) == []


# model, says, because
WATERFALLS = [
    (
        "qwen3-30b-a3b",
        "loss by the Chinchilla law: qwen3-32b 1.864 on 36 T tokens; a mixture not said",
        "held against it",
    ),
    ("qwen3-235b-a22b", "", "no dense model of its size"),
]


@pytest.mark.parametrize(("name", "says", "because"), WATERFALLS)
def test_the_waterfall_says_the_loss_of_the_dense_model_that_a_mixture_is_held_against(
    name: str, says: str, because: str
):
    scenario = Scenario.from_dict(SCENARIO | {"model": name})
    (option,) = [one for one in options_of(scenario, {"model": {"name": name}}) if one.step == "mixture of experts"]
    assert says in option.what, because
    assert bool(option.unused) is not bool(says), because
