"""One replica's exposition: what is read of it, and everything for which it is not believed."""

from __future__ import annotations

import math

import pytest
from fleet_fakes import MODEL, exposition

from planner import vllm_metrics as names
from planner.errors import EndpointError
from planner.live.fleet.reading import GOOD, NOT_A_BUCKET, Reading, checked
from planner.live.metrics import label_text, parse_scrape
from planner.observed import Trouble

LATENCIES = (names.TTFT, names.TPOT, names.ITL, names.E2E)


def read(text: str, model_name: str | None = None) -> Reading | Trouble:
    return checked(parse_scrape(text, buckets=LATENCIES, model_name=model_name), "h:1", model_name, 5.0)


def test_a_whole_exposition_is_read_and_its_engines_are_added_up():
    found = read(exposition(10.0, engines=2))
    assert isinstance(found, Reading)
    assert (found.at_s, found.running, found.waiting, found.kv_usage) == (5.0, 2.0, 4.0, (0.5, 0.5))
    assert found.models == {MODEL}
    assert found.counts[GOOD, NOT_A_BUCKET] == 20.0  # stop and length; aborted ones did not end well
    assert found.counts[names.PREFIX_HITS_TOTAL, NOT_A_BUCKET] == 500.0
    assert found.counts[f"{names.REQUEST_PROMPT}_sum", NOT_A_BUCKET] == 2000.0
    assert [found.counts[names.TTFT, bound] for bound in (0.1, 1.0, math.inf)] == [0.0, 20.0, 20.0]
    assert not any(name == names.TPOT for name, _ in found.counts)  # not told is not there


IMPOSSIBLE = [  # (an old line's text, its new one, reason, words, because)
    ("} 1000.0", "} NaN", "impossible", "prefix_cache_queries_total is nan", "NaN is no count"),
    ("} 1000.0", "} -1.0", "impossible", "prefix_cache_queries_total is -1", "a count is not negative"),
    ("} 1000.0", "} +Inf", "impossible", "prefix_cache_queries_total is inf", "nor infinite"),
    ("} 0.5", "} 1.5", "impossible", "kv_cache_usage_perc is 1.5, a share", "no cache is one and a half full"),
    ("} 0.5", "} NaN", "impossible", "kv_cache_usage_perc is nan", "gauges too"),
    ('"stop"} 7.5', '"stop"} -7.5', "impossible", 'finished_reason="stop"} is -7.5', "not even within a sum"),
    ('le="0.1"} 0.0', 'le="0.1"} 99.0', "garbage", "do not add up", "buckets are cumulative"),
    ('le="+Inf"} 10.0', 'le="+Inf"} 9.0', "garbage", "do not add up", "the last bucket holds everybody"),
    ("vllm:num_requests_running{", "vllm:other{", "missing", "no vllm:num_requests_running", "another server"),
    ("vllm:request_success_total{", "vllm:other{", "missing", "no vllm:request_success_total", "half of it"),
]


@pytest.mark.parametrize(("old", "new", "reason", "words", "because"), IMPOSSIBLE)
def test_a_replica_with_an_impossible_figure_is_not_believed(old: str, new: str, reason: str, words: str, because: str):
    text = exposition(10.0)
    assert old in text, because
    found = read(text.replace(old, new))
    assert isinstance(found, Trouble), because
    assert (found.source, found.reason) == ("h:1", reason), because
    assert words in found.text, because


@pytest.mark.parametrize(
    ("kept", "reason", "because"),
    [
        (0.2, "missing", "gauges alone: no requests"),
        (0.6, "garbage", "one engine tells what the other does not"),
        (0.95, "garbage", "a histogram of one engine only"),
    ],
)
def test_an_exposition_that_ends_between_two_lines_is_half_of_one(kept: float, reason: str, because: str):
    lines = exposition(10.0, engines=2).splitlines(keepends=True)
    found = read("".join(lines[: int(kept * len(lines) / (2 if kept < 0.5 else 1))]))
    assert isinstance(found, Trouble), because
    assert found.reason == reason, f"{because}: {found.text}"


def test_text_that_is_no_exposition_is_refused_by_the_parser():
    for text in ("vllm:num_requests_running{engine=", "vllm:num_requests_running{} many\n"):
        with pytest.raises(EndpointError, match="no Prometheus text"):
            parse_scrape(text)
    bucket = f'{names.TTFT}_bucket{{engine="0",le="wide"}} 3\n'
    with pytest.raises(EndpointError, match="no Prometheus text"):
        parse_scrape(exposition() + bucket, buckets=LATENCIES)


def test_with_a_model_name_only_its_series_count():
    both = exposition(10.0) + exposition(1000.0, model="org/other")
    found = read(both, MODEL)
    assert isinstance(found, Reading)
    assert found.counts[GOOD, NOT_A_BUCKET] == 10.0
    assert found.counts[names.E2E, math.inf] == 10.0
    unnamed = read(both)
    assert isinstance(unnamed, Reading)
    assert unnamed.models == {MODEL, "org/other"}
    none = read(both, "org/third")
    assert isinstance(none, Trouble)
    assert (none.reason, none.text) == ("missing", f"no metrics of model org/third; it serves: {MODEL}, org/other")


def test_a_model_name_with_quotes_keeps_its_buckets():
    hostile = 'a"b,le="5",\\'
    found = read(exposition(10.0, model=label_text(hostile)), hostile)
    assert isinstance(found, Reading)
    assert found.counts[names.TTFT, 1.0] == 10.0
