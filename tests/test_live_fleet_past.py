"""Readings over a window: rates, restarts, silences, and all replicas put together."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from fleet_fakes import exposition
from hypothesis import given
from hypothesis import strategies as st

from planner import vllm_metrics as names
from planner.live.fleet.past import MARKS, Past
from planner.live.fleet.reading import ENDED_BADLY, ENDED_WELL, GOOD, NOT_A_BUCKET, Reading, checked
from planner.live.fleet.sums import PERCENTILES, bucket_quantile, figures
from planner.live.metrics import parse_scrape

DONE = (GOOD, NOT_A_BUCKET)


QUEUES = [  # (requests that wait, counters, growth, because)
    ((0.0, 5.0, 30.0), (0, 9, 20), 30.0, "all of it since the first reading"),
    ((30.0, 5.0), (0, 9), -25.0, "a queue that drains"),
    ((10.0, 40.0, 6.0), (5, 9, 2), 36.0, "30 more, then a restart: those 40 are lost, six came since"),
    ((10.0, None, 6.0), (0, 5, 9), None, "once not told: a new past, of one reading"),
    ((None, None, None), (0, 5, 9), None, "never told"),
]


@pytest.mark.parametrize(("waiting", "shown", "growth", "because"), QUEUES)
def test_a_queue_grows_by_what_came_and_was_not_served(
    waiting: tuple[float | None, ...], shown: tuple[float, ...], growth: float | None, because: str
):
    past = Past(300.0, 5.0)
    for turn, (queue, count) in enumerate(zip(waiting, shown, strict=True)):
        past.add(bare(10.0 * turn, count)._replace(waiting=queue))
    span = past.span()
    assert growth == (None if span is None else span.queued), because


def test_a_fleets_queue_grows_by_those_of_its_replicas_and_is_not_told_where_one_is_silent():
    spans = []
    for queue in (4.0, -1.0, None):
        past = Past(300.0, 5.0)
        for turn in range(3):
            at = bare(10.0 * turn, turn)
            past.add(at._replace(waiting=None if queue is None else 20.0 + queue * turn))
        spans.append(past.span())
    known = [span for span in spans if span is not None]
    assert 3 == len(known)
    two = figures([bare(20.0, 2.0)] * 2, known[:2], ())
    assert two["waiting_growth_per_s"] == pytest.approx(0.4 - 0.1)
    assert figures([bare(20.0, 2.0)] * 3, known, ())["waiting_growth_per_s"] is None


def test_every_way_to_end_is_an_answer_or_a_failure():
    assert sorted(names.REASONS) == sorted([*ENDED_WELL, *ENDED_BADLY])


def reading(at_s: float, done: float, running: float = 1.0) -> Reading:
    scrape = parse_scrape(exposition(done, running=running), buckets=(names.TTFT, names.ITL, names.E2E))
    found = checked(scrape, "h:1", None, at_s)
    assert isinstance(found, Reading)
    return found


def bare(at_s: float, done: float) -> Reading:
    return Reading(at_s, {DONE: done}, 1.0, None, (), frozenset())


RESTARTS = [  # (counts shown, increase, restarts, because)
    ((10, 30), 20, 0, "nothing special"),
    ((10, 10), 0, 0, "an idle server"),
    ((10, 30, 5), 25, 1, "20, then a restart and 5 since"),
    ((10, 3, 2), 5, 2, "two restarts: 3 since the first, 2 since the second"),
    ((10, 0), 0, 1, "restarted and nothing done since"),
    ((0, 7, 7, 9), 9, 0, "zero is where every server begins"),
]


@pytest.mark.parametrize(("shown", "increase", "restarts", "because"), RESTARTS)
def test_increases_see_through_restarts(shown: tuple[float, ...], increase: float, restarts: int, because: str):
    past = Past(300.0, 5.0)
    told = [past.add(bare(10.0 * turn, count)) for turn, count in enumerate(shown)]
    span = past.span()
    assert span is not None
    assert (span.increases[DONE], span.restarts, sum(told)) == (increase, restarts, restarts), because
    assert span.seconds == 10.0 * (len(shown) - 1)


def test_a_restart_tells_for_all_counters_of_a_server():
    past = Past(300.0, 5.0)
    past.add(reading(0.0, 10.0))
    one = reading(10.0, 5.0)
    higher = one._replace(counts={**one.counts, (f"{names.TTFT}_sum", NOT_A_BUCKET): 99.0})
    assert past.add(higher)
    span = past.span()
    assert span is not None
    assert span.increases[f"{names.TTFT}_sum", NOT_A_BUCKET] == 99.0  # above the old value, and still all of it is new


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=80), st.floats(0.5, 20.0))
def test_the_increase_of_a_window_is_that_of_its_steps(shown: list[int], step_s: float):
    """However often it is read: marks are thinned out, increases are not."""
    past = Past(1e6, 0.0)
    for turn, count in enumerate(shown):
        past.add(bare(turn * step_s, float(count)))
    span = past.span()
    assert span is not None
    assert span.increases[DONE] == sum(
        after - before if after >= before else after for before, after in pairwise(shown)
    )
    assert span.readings == len(shown) - 1


def test_what_is_older_than_the_window_is_forgotten():
    past = Past(60.0, 1.0)
    for turn in range(100):
        past.add(bare(10.0 * turn, turn**2))
    span = past.span()
    assert span is not None
    assert span.seconds == 60.0
    assert span.increases[DONE] == 99**2 - 93**2
    assert len(past._marks) <= MARKS + 2


def test_a_window_that_is_read_very_often_keeps_few_marks():
    past = Past(60.0, 0.0)
    for turn in range(5000):
        past.add(bare(0.1 * turn, turn))
    span = past.span()
    assert span is not None
    assert span.seconds == pytest.approx(60.0, abs=60.0 / MARKS + 0.1)
    assert span.increases[DONE] == pytest.approx(10 * span.seconds)
    assert len(past._marks) <= MARKS + 2


def test_a_past_begins_anew_after_a_long_silence_and_with_other_metrics():
    past = Past(60.0, 1.0)
    past.add(bare(0.0, 10.0))
    past.add(bare(10.0, 20.0))
    past.add(bare(100.0, 900.0))
    assert past.span() is None  # 880 in 90 s are no rate of the last minute
    past.add(bare(110.0, 910.0))
    span = past.span()
    assert span is not None
    assert (span.seconds, span.increases[DONE]) == (10.0, 10.0)
    past.add(reading(120.0, 5.0))
    assert past.span() is None


def test_replicas_put_together_by_hand():
    """One does 2 requests/s over 10 s, the other 0.5/s over 20 s, both as `exposition` says."""
    fast, slow = Past(300.0, 5.0), Past(300.0, 5.0)
    for turn in range(6):
        fast.add(reading(2.0 * turn, 4.0 * turn, running=1.0))
        slow.add(reading(4.0 * turn, 2.0 * turn, running=float(turn % 2)))
    spans = [span for past in (fast, slow) if (span := past.span()) is not None]
    found = figures([reading(10.0, 20.0), reading(20.0, 10.0, running=0.0)], spans, PERCENTILES)
    assert found["replicas"] == 2.0
    assert found["requests_per_s"] == pytest.approx(2.5)
    assert (found["running"], found["waiting"]) == (1.0, 4.0)
    assert (found["kv_usage_mean"], found["kv_usage_max"]) == (0.5, 0.5)
    assert (found["prompt_tokens"], found["output_tokens"]) == (pytest.approx(100.0), pytest.approx(20.0))
    assert found["prefix_hit_rate"] == pytest.approx(0.25)
    assert found["preemptions_per_s"] == pytest.approx(0.25)
    assert found["busy_share"] == (5 + 3) / 10
    latencies = found["latencies_ms"]
    assert latencies["ttft_ms.mean"] == pytest.approx(500.0)
    assert latencies["itl_ms.mean"] == pytest.approx(50.0)
    assert latencies["ttft_ms.p50"] == pytest.approx(550.0)  # half way up the bucket from 0.1 to 1 s
    assert "tpot_ms.mean" not in latencies


def test_a_figure_that_one_replica_does_not_tell_is_told_of_none():
    whole, half = Past(300.0, 5.0), Past(300.0, 5.0)
    for turn in range(2):
        one = reading(10.0 * turn, 10.0 * turn)
        whole.add(one)
        less = {key: count for key, count in one.counts.items() if not key[0].startswith(names.PREEMPTIONS_TOTAL)}
        half.add(one._replace(counts=less))
    spans = [span for past in (whole, half) if (span := past.span()) is not None]
    found = figures([reading(10.0, 10.0), reading(10.0, 10.0)._replace(waiting=None, kv_usage=())], spans, ())
    assert found["preemptions_per_s"] is None
    assert "waiting" not in found
    assert "kv_usage_mean" not in found
    assert found["requests_per_s"] == 2.0
    assert found["busy_share"] is None  # a share of two readings says little


def test_idle_replicas_have_rates_and_no_means():
    past = Past(300.0, 5.0)
    for turn in range(11):
        past.add(reading(10.0 * turn, 7.0, running=0.0))
    span = past.span()
    assert span is not None
    found = figures([reading(100.0, 7.0, running=0.0)], [span], PERCENTILES)
    assert (found["requests_per_s"], found["busy_share"]) == (0.0, 0.0)
    assert (found["prompt_tokens"], found["prefix_hit_rate"], found["latencies_ms"]) == (None, None, {})


QUANTILES = [  # (buckets, share, value, because)
    ({1.0: 10.0, 2.0: 10.0, math.inf: 10.0}, 0.5, 0.5, "linear from 0 in the first bucket"),
    ({1.0: 0.0, 2.0: 10.0, math.inf: 10.0}, 0.5, 1.5, "all in the second: half way up"),
    ({1.0: 5.0, 2.0: 10.0, math.inf: 10.0}, 0.5, 1.0, "exactly the first bound"),
    ({1.0: 5.0, 2.0: 5.0, math.inf: 10.0}, 0.9, 2.0, "above the last finite bound: that bound, as Prometheus says"),
    ({1.0: 8.0, 2.0: 9.0, 4.0: 10.0, math.inf: 10.0}, 0.95, 3.0, "half of the third bucket's one"),
    ({1.0: 0.0, math.inf: 0.0}, 0.5, None, "nobody, nothing"),
    ({}, 0.5, None, "no buckets"),
    ({math.inf: 5.0}, 0.5, None, "one bucket of everything says nothing"),
]


@pytest.mark.parametrize(("buckets", "share", "value", "because"), QUANTILES)
def test_quantiles_of_buckets(buckets: dict[float, float], share: float, value: float | None, because: str):
    assert bucket_quantile(buckets, share) == value, because
