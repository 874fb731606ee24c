"""GuideLLM's single requests, in the shapes of its releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guidellm_specimens import current, flat, previous

from planner.errors import DataFileError
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording

Specimen = Callable[..., dict[str, Any]]
SHAPES = [current, previous, flat]


def read(folder: Path, document: Any) -> Recording:
    path = folder / "report.json"
    path.write_text(json.dumps(document))
    (recording,) = read_recordings(path)
    return recording


def refusal(folder: Path, document: Any) -> str:
    with pytest.raises(DataFileError) as caught:
        read(folder, document)
    return str(caught.value)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_release_says_when_each_request_was_sent_and_answered(tmp_path: Path, shape: Specimen) -> None:
    """Times from the first send; the request that was never sent is nobody's load."""
    recording = read(tmp_path, shape())
    assert recording.errors == ("", "cut off")
    np.testing.assert_allclose(recording.sent_s, [0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(recording.first_token_s, [0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(recording.last_token_s, [0.5, 0.45], atol=1e-6)
    assert recording.prompt_tokens.tolist() == [100, 50]
    assert recording.output_tokens.tolist() == [4, 2]  # of the one cut off: as many as events brought one


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("strategy", "due_s", "because"),
    [
        ("constant", -0.1, "a schedule says when a request is due, and it was sent 0.1 s late"),
        ("poisson", -0.1, "likewise"),
        ("concurrent", 0.0, "a free client sends at once: its target is no arrival"),
        ("synchronous", 0.0, "likewise"),
        ("throughput", 0.0, "all have the start as their target"),
    ],
)
def test_a_request_is_due_by_schedule_where_there_is_one(
    tmp_path: Path, shape: Specimen, strategy: str, due_s: float, because: str
) -> None:
    assert read(tmp_path, shape(strategy)).scheduled_s[0] == pytest.approx(due_s, abs=1e-6), because


def test_a_request_without_a_target_is_due_when_it_was_sent(tmp_path: Path) -> None:
    recording = read(tmp_path, flat())  # the one cut off: targeted_start_time −1
    assert recording.scheduled_s[1] == recording.sent_s[1]


def test_tokens_from_the_cache_are_known_from_the_release_on_that_tells_them(tmp_path: Path) -> None:
    assert read(tmp_path, current()).cached_tokens.tolist() == [64, -1]
    assert read(tmp_path, previous()).cached_tokens.tolist() == [-1, -1]


@pytest.mark.parametrize("shape", [current, previous])
def test_token_counts_are_found_in_the_usage_too(tmp_path: Path, shape: Specimen) -> None:
    """A request with pictures has null for `prompt_tokens` in 0.4: its usage holds the total."""
    recording = read(tmp_path, shape(prompt_tokens=None, output_tokens=None))
    assert (recording.prompt_tokens[0], recording.output_tokens[0]) == (100, 4)


@pytest.mark.parametrize(("shape", "place"), [(current, "scheduler_metrics"), (flat, "run_stats")])
def test_a_sample_of_the_requests_is_refused_because_it_is_not_the_servers_load(
    tmp_path: Path, shape: Specimen, place: str
) -> None:
    report = shape()
    report["benchmarks"][0][place]["requests_made"]["successful"] = 500
    said = refusal(tmp_path, report)
    assert said == (
        "report.benchmarks[0].requests.successful (=1 requests): report.json: must list all 500 that were answered: "
        "no sample, no warm-up cut off"
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    (flat(first_token_time=-1.0), "requests.successful[0]: report.json: must have its times of start, first and last"),
    (flat(prompt_tokens=None), "requests.successful[0]: report.json: must have its times of start, first and last"),
    (flat(output_tokens=0), "requests.successful[0]: report.json: must have its times of start, first and last"),
    (flat(start_time="soon"), "requests.successful[0].start_time (=soon): report.json: must be a number"),
    (flat(start_time=-2.0), "requests.successful[0].start_time (=-2.0): report.json: must be >= 0"),
    (current(info={"timings": {}}), "requests.successful[0]: report.json: must have its times of start, first and"),
    (current(input_metrics={"total_tokens": "x"}), "input_metrics.total_tokens (=x): report.json: must be a whole"),
    (current(info=[]), "requests.successful[0].info (=[]): report.json: must be a mapping"),
]


@pytest.mark.parametrize(("document", "said"), WRONG)
def test_a_request_that_cannot_be_used_is_refused_by_its_place(
    tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    assert said in refusal(tmp_path, document)
