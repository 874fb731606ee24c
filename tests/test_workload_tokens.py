"""How many tokens queries have: moments, samples of files, and what is clipped to the context or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import DataFileError, ScenarioError
from tests.workload_loads import LOGNORMAL, load, scenario

# --- token counts ---

MOMENTS = [
    (250, 250.0, 0.0, 250, 250, "fixed"),
    ({"uniform": [80, 100]}, 90.0, 6.055, 80, 100, "sd of 21 whole numbers = sqrt((21**2 - 1) / 12)"),
    ({"lognormal": {"mean": 500, "cv": 0.8}}, 500.0, 400.0, 1, 30_000, "sd = cv × mean"),
    ({"lognormal": {"mean": 500, "cv": 0}}, 500.0, 0.0, 500, 500, "no variation"),
    ({"normal": {"mean": 500, "sd": 50}}, 500.0, 50.0, 200, 800, "within 6 sd"),
    ({"normal": {"mean": 500, "sd": 50, "min": 480, "max": 520}}, 500.0, None, 480, 520, "held between"),
]


@pytest.mark.parametrize(("given", "mean", "sd", "least", "most", "because"), MOMENTS, ids=[r[5] for r in MOMENTS])
def test_token_counts_have_the_moments_asked_for(
    given: Any, mean: float, sd: float | None, least: int, most: int, because: str
) -> None:
    run = load(scenario(stage__prompt_tokens=given), 100_000, max_model_len=1_000_000)
    tokens = run.prompt_tokens
    assert tokens.dtype == np.int32
    assert tokens.mean() == pytest.approx(mean, rel=0.01), because
    if sd is not None:
        assert tokens.std() == pytest.approx(sd, rel=0.03, abs=1e-9), because
    assert least <= tokens.min() <= tokens.max() <= most
    assert run.clipped_share == 0


def test_a_draw_is_never_below_one_token() -> None:
    run = load(scenario(stage__output_tokens={"lognormal": {"mean": 1, "cv": 3}}))
    assert run.output_tokens.min() == 1


def test_a_wild_distribution_stays_within_the_context() -> None:
    wild = {"lognormal": {"mean": 1e9, "cv": 100}}
    run = load(scenario(stage__prompt_tokens=wild, stage__output_tokens=wild), 10_000)
    assert (run.prompt_tokens.min(), run.output_tokens.min()) >= (1, 1)
    assert (run.prompt_tokens + run.output_tokens).max() == 8192


def test_samples_of_a_file_are_drawn_alone_or_together(tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text("in,out\n100,1\n200,2\n300,3\n0,4\n")
    alone = load(scenario(tmp_path, stage__prompt_tokens={"histogram": {"file": "lengths.csv", "column": "in"}}), 4000)
    assert set(alone.prompt_tokens.tolist()) == {1, 100, 200, 300}
    assert np.count_nonzero(alone.prompt_tokens == 200) == pytest.approx(1000, rel=0.1)
    joint = {"joint": {"file": "lengths.csv", "columns": ["in", "out"]}}
    both = load(scenario(tmp_path, stage__prompt_tokens=joint, stage__output_tokens=None))
    pairs = set(zip(both.prompt_tokens.tolist(), both.output_tokens.tolist(), strict=True))
    assert pairs == {(100, 1), (200, 2), (300, 3), (1, 4)}


BAD_SAMPLES = [
    (None, "no such file", "missing"),
    ("", "is empty", "empty"),
    ("in,out\n", "holds a header but no rows", "no rows"),
    ("inn,out\n1,2\n", "has no column in; it has: inn, out; nearest: inn", "wrong column"),
    ("in,out\n1,2\n-3,4\n", "line 3: in is '-3', not a whole number of tokens", "negative"),
    ("in,out\n1.5,4\n", "line 2: in is '1.5', not a whole number", "half a token"),
    ("in,out\n1,4\n2\n", "line 3: 1 fields where the header has 2; is the file cut off?", "cut off"),
    ("in,out\n99999999999,4\n", "line 2: in is '99999999999', more than", "beyond 32 bits"),
]


@pytest.mark.parametrize(("text", "holds", "because"), BAD_SAMPLES, ids=[row[2] for row in BAD_SAMPLES])
def test_bad_samples_are_refused_with_their_line(text: str | None, holds: str, because: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataFileError) as caught:
        load(scenario(tmp_path, stage__prompt_tokens={"histogram": {"file": "l.csv", "column": "in"}}))
    assert str(caught.value).startswith("query.stages[0].prompt_tokens.histogram.file (=")
    assert holds in str(caught.value), because


# --- fitting the context ---


def test_tails_are_clipped_and_their_share_reported() -> None:
    run = load(
        scenario(stage__prompt_tokens={"uniform": [1, 1000]}, stage__output_tokens=100), 20_000, max_model_len=600
    )
    assert run.prompt_tokens.max() == 500
    assert np.count_nonzero(run.prompt_tokens == 500) / run.requests == pytest.approx(0.5, abs=0.02)
    assert run.clipped_share == pytest.approx(0.5, abs=0.02)


def test_outputs_are_clipped_before_prompts() -> None:
    run = load(
        scenario(stage__prompt_tokens={"uniform": [5, 9]}, stage__output_tokens={"uniform": [900, 999]}),
        max_model_len=100,
    )
    assert set(run.output_tokens.tolist()) == {99}
    assert set(run.prompt_tokens.tolist()) == {1}
    assert run.clipped_share == 1.0


def test_a_fixed_prompt_keeps_its_length_and_the_output_is_clipped() -> None:
    run = load(scenario(stage__output_tokens={"uniform": [900, 999]}), max_model_len=1100)
    assert set(run.prompt_tokens.tolist()) == {1000}
    assert set(run.output_tokens.tolist()) == {100}


MISFITS = [
    (
        {},
        1099,
        "query.stages[0].prompt_tokens (=1000)",
        "with 100 output tokens it is longer than max_model_len (=1099)",
    ),
    ({"stage__output_tokens": {"uniform": [1, 2]}}, 1000, "query.stages[0].prompt_tokens (=1000)", "one output token"),
    (
        {"stage__prompt_tokens": LOGNORMAL},
        100,
        "query.stages[0].output_tokens (=100)",
        "with a prompt of 1 it is longer",
    ),
    (
        {"stage__prompt_tokens": LOGNORMAL, "stage__output_tokens": LOGNORMAL, "stage__shared_prefix": {"tokens": 99}},
        100,
        "query.stages[0].shared_prefix.tokens (=99)",
        "leaves no room",
    ),
]


@pytest.mark.parametrize(("values", "max_model_len", "starts", "holds"), MISFITS, ids=[row[2] for row in MISFITS])
def test_fixed_values_that_do_not_fit_are_refused(
    values: dict[str, Any], max_model_len: int, starts: str, holds: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(scenario(**values), max_model_len=max_model_len)
    assert str(caught.value).startswith(starts)
    assert holds in str(caught.value)


def test_what_just_fits_is_taken() -> None:
    assert load(scenario(), max_model_len=1100).clipped_share == 0
