"""What records can tell: parts that move together are refused whatever their number, parts that do not matter kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import World, scenario_of, write_run

from planner.calibration import calibrate
from planner.calibration.fit import Fit, Problem, bare_variance, solve
from planner.calibration.identify import MATTERS, TOLD, doubts
from planner.errors import InputError
from planner.readers.recording_files import read_recordings

DATE = "2026-11-22"
NOISY = World(jitter_s=0.0005, step_noise=0.05)


def fitted(share: np.ndarray, noise: float = 0.05) -> Fit:
    """Equations whose truth is the planner's own cost."""
    rng = np.random.default_rng(3)
    measured = share.sum(axis=1) * np.exp(noise * rng.standard_normal(len(share)))
    count = len(share)
    blocks = np.arange(count) * 30 // count
    problem = Problem(measured, share, np.ones(count), np.zeros(count, np.int64), blocks)
    return solve(problem, np.zeros(share.shape[1]))


@pytest.mark.parametrize("rows", [100, 2_000, 10_000, 100_000])
def test_exact_collinearity_is_infinite_doubt_whatever_the_number_of_rows(rows: int) -> None:
    """What more rows of the same kind add is no knowledge of the two parts, only of their sum."""
    context = np.linspace(0.2, 3.0, rows)
    share = np.column_stack([np.full(rows, 1.0), np.full(rows, 0.25), context])
    fit = fitted(share)
    assert np.isinf(fit.linear_sd[:2]).all()
    assert np.isfinite(fit.linear_sd[2])
    doubt = doubts(np.array([0.4, 0.1, 0.5]), fit)
    assert (doubt[:2] > MATTERS).all()
    assert fit.log_sd[1] > TOLD
    assert doubt[2] < MATTERS


def test_random_designs_that_are_collinear_are_never_told() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        share = rng.uniform(0.1, 1.0, (5_000, 4))
        weights = rng.uniform(0.2, 2.0, 2)
        share = np.column_stack([share, share[:, :2] @ weights])
        information = share.T @ share * rng.uniform(1e2, 1e8)
        variance = bare_variance(information)
        assert np.isinf(variance[[0, 1, 4]]).all()
        assert np.isfinite(variance[2:4]).all()


def test_a_part_that_no_row_has_is_not_known_to_cost_nothing() -> None:
    share = np.column_stack([np.linspace(1.0, 2.0, 1000), np.zeros(1000)])
    assert np.isinf(fitted(share).linear_sd[1])
    assert doubts(np.array([1.0, 0.0]), fitted(share))[1] == 0.0


def test_a_small_part_of_its_own_is_told_to_be_small() -> None:
    """A thousandth of the time, moving by itself: its own factor is unknown, the time that it takes is not."""
    rng = np.random.default_rng(4)
    share = np.column_stack([np.ones(10_000), 1e-3 * rng.integers(0, 2, 10_000)])
    fit = fitted(share)
    assert fit.log_sd[1] > TOLD
    assert np.isfinite(fit.linear_sd[1])
    assert doubts(np.array([1.0, 5e-4]), fit)[1] < 0.01


def test_a_part_that_would_not_matter_at_fifty_times_its_size_is_no_doubt() -> None:
    share = np.column_stack([np.ones(10_000), np.full(10_000, 1e-4)])
    fit = fitted(share)
    assert np.isinf(fit.linear_sd).all()
    assert fit.log_sd[0] < TOLD < fit.log_sd[1]
    assert doubts(np.array([1.0, 1e-4]), fit)[1] < MATTERS
    assert doubts(np.array([1.0, 1e-2]), fit)[1] > MATTERS


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        calibrate(read_recordings(path), date=DATE)
    return str(error.value)


@pytest.mark.parametrize("rate", [1e-5, 1e-3])
def test_ten_thousand_spans_of_requests_alone_do_not_tell_what_a_second_one_costs(tmp_path: Path, rate: float) -> None:
    """Never, or twice, a step held two: a busy plan on such a file would be a guess under a measurement's name."""
    load = scenario_of(rate, {"uniform": [100, 3000]}, 800)
    path = write_run(tmp_path / "alone.jsonl", load, {"sequences": 8.0}, 120, 1, NOISY)
    (recording,) = read_recordings(path)
    assert len(recording.gaps_s) > 80_000
    said = refused(path)
    assert "calibration of sequences of a step" in said
    assert "add a run at a higher rate" in said


def test_a_constant_number_of_requests_does_not_tell_them_from_the_step(tmp_path: Path) -> None:
    """Eight at once from the first step to the last: the step and its eight sequences are one number."""
    engine: dict[str, Any] = {
        "max_model_len": 4096,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 4096,
        "vllm_version": "0.32",
    }
    traffic = {"arrivals": {"offline": {"requests": 160}}}
    load = scenario_of(1, 300, 600, engine=engine, traffic=traffic)
    path = write_run(tmp_path / "eight.jsonl", load, {"sequences": 8.0}, 160, 1, NOISY)
    (recording,) = read_recordings(path)
    assert len(recording.gaps_s) > 80_000
    assert "cannot be told from these records" in refused(path)
