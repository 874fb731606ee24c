"""A window of a fleet as JSON: written, read back, and refused where it is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from planner.errors import DataFileError
from planner.observed import Observed, Trouble, believable, read_observed

WHOLE = Observed(
    ended_unix_s=1.7e9,
    window_s=300.0,
    replicas=4.0,
    asked=5,
    answered=5,
    requests_per_s=20.0,
    prompt_tokens=300.0,
    latencies_ms={"itl_ms.mean": 40.0},
    revenue_usd_per_s=-0.5,
    waiting_growth_per_s=-0.25,
    model_name="org/m",
    troubles=(Trouble("10.0.0.7:8000", "down", "no route"),),
)


@pytest.mark.parametrize("observed", [WHOLE, Observed(1.7e9, 60.0), replace(WHOLE, restarts=3, busy_share=0.0)])
def test_a_window_is_read_back_equal(observed: Observed) -> None:
    """What was not told stays so, and zero stays zero."""
    assert observed == read_observed(json.loads(json.dumps(observed.as_dict())))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, "is no window"),
        ([1], "is no window"),
        ({"window_s": 60}, "is no window"),
        (WHOLE.as_dict() | {"schema_version": 9}, "schema_version (=9) must be 1"),
        (WHOLE.as_dict() | {"replica": 4}, "replica: unknown key"),
        (WHOLE.as_dict() | {"replicas": "4"}, "replicas"),
        (WHOLE.as_dict() | {"replicas": True}, "must be a number"),
        (WHOLE.as_dict() | {"asked": 2.5}, "must be a whole number"),
        (WHOLE.as_dict() | {"requests_per_s": -1}, "must be from 0"),
        (WHOLE.as_dict() | {"requests_per_s": float("nan")}, "must be from 0"),
        (WHOLE.as_dict() | {"requests_per_s": 1e-300}, "must be 0, or at least 1e-15"),
        (WHOLE.as_dict() | {"prefix_hit_rate": 1.2}, "must be from 0 to 1"),
        (WHOLE.as_dict() | {"window_s": 0}, "window_s (=0): must be a number above 0"),
        (WHOLE.as_dict() | {"ended_unix_s": None}, "ended_unix_s"),
        (WHOLE.as_dict() | {"restarts": None}, "restarts"),
        (WHOLE.as_dict() | {"waiting_growth_per_s": -1e16}, "waiting_growth_per_s"),
        (WHOLE.as_dict() | {"model_name": 7}, "model_name (=7): must be a text"),
        (WHOLE.as_dict() | {"latencies_ms": [1]}, "latencies_ms"),
        (WHOLE.as_dict() | {"latencies_ms": {"itl_ms.mean": -1}}, "latencies_ms.itl_ms.mean"),
        (WHOLE.as_dict() | {"troubles": {}}, "troubles: must be a list"),
        (WHOLE.as_dict() | {"troubles": [{"source": "a"}]}, "troubles: each must have"),
        (WHOLE.as_dict() | {"troubles": [{"source": "a", "reason": "gone", "text": ""}]}, "reason (='gone')"),
    ],
)
def test_what_is_no_window_is_refused(document: Any, words: str) -> None:
    with pytest.raises(DataFileError) as caught:
        read_observed(document)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "left", "said", "because"),
    [
        (
            {"prefix_hit_rate": 1.5},
            {"prefix_hit_rate": None},
            ["prefix_hit_rate is 1.5, a share"],
            "more than looked up",
        ),
        ({"kv_usage_max": 1.0005}, {"kv_usage_max": 1.0}, [], "rates are rounded"),
        ({"requests_per_s": 1e16}, {"requests_per_s": None}, ["requests_per_s is 1e+16"], "more than is read back"),
        ({"prefix_hit_rate": 1.0}, {"prefix_hit_rate": 1.0}, [], "all of it cached"),
        (
            {"waiting_growth_per_s": 0.1 + 0.2 - 0.3},
            {"waiting_growth_per_s": 0.1 + 0.2 - 0.3},
            [],
            "queues that cancel",
        ),
    ],
)
def test_a_window_that_was_read_live_can_be_read_from_its_file(
    changes: dict[str, Any], left: dict[str, Any], said: list[str], because: str
) -> None:
    found = believable(replace(WHOLE, troubles=(), **changes), "10.0.0.7:8000")
    assert replace(WHOLE, **left, troubles=found.troubles) == found, because
    assert len(said) == len(found.troubles)
    assert all(one.text.startswith(text) for one, text in zip(found.troubles, said, strict=True))
    assert found == read_observed(json.loads(json.dumps(found.as_dict())))


@pytest.mark.parametrize(
    ("running", "waiting", "expected", "because"),
    [
        (40.0, 41.0, True, "more wait than run"),
        (40.0, 40.0, False, "a queue as long as the batch may be a burst"),
        (0.0, 1.0, False, "one request that is about to begin"),
        (0.0, 2.0, True, "and two before engines that do nothing"),
        (None, 50.0, False, "not told"),
        (50.0, None, False, "not told"),
    ],
)
def test_a_queue_stands_where_more_wait_than_run(
    running: float | None, waiting: float | None, expected: bool, because: str
) -> None:
    assert expected == replace(WHOLE, running=running, waiting=waiting).queue_stands, because


def test_a_window_of_an_older_planner_is_read_back() -> None:
    """Without the figures that it did not know yet."""
    old = {key: value for key, value in WHOLE.as_dict().items() if key not in ("waiting_growth_per_s", "model_name")}
    assert replace(WHOLE, waiting_growth_per_s=None, model_name=None) == read_observed(old)


def test_a_window_in_which_nobody_answered_is_read_back() -> None:
    dark = Observed(1.7e9, 0.0, replicas=0.0, asked=2, answered=0, troubles=WHOLE.troubles)
    assert dark == read_observed(dark.as_dict())
