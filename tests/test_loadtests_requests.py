"""What one request is made of: server-sent events, token ids, bodies."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.prompts import WORDS, Bodies
from loadtests.sse import EventStream
from planner.errors import ScenarioError
from planner.workload.token_ids import OWN, SEGMENT, IdRange, Run, ordinary_ids, runs_of, token_ids

# --- server-sent events ---

# what comes, the events' data, because
EVENTS: list[tuple[bytes, list[bytes], str]] = [
    (b"data: a\n\n", [b"a"], "what OpenAI's API sends"),
    (b"data:a\n\n", [b"a"], "the space after the colon is optional"),
    (b"data:  a\n\n", [b" a"], "only one space is taken off"),
    (b"data: a\r\n\r\n", [b"a"], "CR LF ends a line too"),
    (b"data: a\r\r", [b"a"], "and CR alone, once another byte shows that no LF follows"),
    (b"data: a\ndata: b\n\n", [b"a\nb"], "data on two lines is one event"),
    (b": ping\n\n", [], "a comment is no event"),
    (b"event: x\nid: 1\nretry: 5\n\n", [], "an event without data is none"),
    (b"event: x\ndata: a\n\n", [b"a"], "other fields are left out"),
    (b"data\n\n", [b""], "a field without colon has the empty value"),
    (b"data: a\n\ndata: b\n\n", [b"a", b"b"], "two events in one chunk"),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"], "a byte order mark may stand first"),
    (b"data: a\n", [], "an event that was not ended is none"),
    (b"database: a\n\n", [], "another field that begins alike"),
]


@pytest.mark.parametrize(("text", "data", "because"), EVENTS, ids=[row[2] for row in EVENTS])
def test_events_are_those_of_the_standard(text: bytes, data: list[bytes], because: str) -> None:
    extra = b":" if text.endswith(b"\r\r") else b""
    assert EventStream().feed(text + extra) == data, because


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([row[0] for row in EVENTS[:-2]]), max_size=6), st.data())
def test_it_does_not_matter_where_the_stream_is_cut(texts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(texts) + b": end"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stream = EventStream()
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    found = [event for piece in pieces for event in stream.feed(piece)]
    assert found == EventStream().feed(text)
    assert stream.unfinished


# --- token ids ---


def test_ids_are_whole_and_the_same_wherever_they_are_made() -> None:
    ids = ordinary_ids(32_000)
    drawn = token_ids(7, Run(SEGMENT, 3, 5000), ids)
    assert drawn.min() >= ids.first == 256
    assert drawn.max() < ids.end == 31_000
    assert len(np.unique(drawn)) > 4000  # of 30,744 ids drawn 5,000 times: 4,617 expected
    assert np.array_equal(drawn[:100], token_ids(7, Run(SEGMENT, 3, 100), ids)), "a longer run begins with a shorter"
    for other in (Run(SEGMENT, 4, 100), Run(OWN, 3, 100)):
        assert np.count_nonzero(drawn[:100] == token_ids(7, other, ids)) < 5
    assert np.count_nonzero(drawn[:100] == token_ids(8, Run(SEGMENT, 3, 100), ids)) < 5
    # Frozen: records name a seed, and the same seed must give the same prompts in later versions.
    assert token_ids(0, Run(SEGMENT, 0, 4), IdRange(0, 1000)).tolist() == [693, 971, 426, 806]


def test_a_vocabulary_without_enough_words_is_refused() -> None:
    with pytest.raises(ScenarioError, match="vocabulary of 70"):
        ordinary_ids(70)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), max_size=5), st.integers(1, 80))
def test_runs_fill_a_prompt_exactly(chain: list[tuple[int, int]], tokens: int) -> None:
    runs = runs_of(chain, 5, tokens)
    assert sum(run.tokens for run in runs) == tokens
    assert all(run.tokens > 0 for run in runs)
    shared = [(run.number, run.tokens) for run in runs if run.owner == SEGMENT]
    assert [number for number, _ in shared] == [number for number, _ in chain[: len(shared)]]
    assert sum(run.owner == OWN for run in runs) == (sum(size for _, size in chain) < tokens)


# --- bodies ---


def test_a_body_is_json_of_the_exact_length() -> None:
    bodies = Bodies("completions", 'a "model"', 0, IdRange(10, 500))
    body = json.loads(bodies.body(3, [(0, 20), (1, 10)], 50, 7, 1))
    again = json.loads(bodies.body(4, [(0, 20), (2, 10)], 50, 7, 2))
    assert len(body["prompt"]) == len(again["prompt"]) == 50
    assert body["prompt"][:20] == again["prompt"][:20] != body["prompt"][20:40]
    assert body["prompt"][30:] != again["prompt"][30:]
    assert body | {"prompt": 0} == {
        "model": 'a "model"', "prompt": 0, "max_tokens": 7, "n": 1, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert (again["n"], again["temperature"]) == (2, 1)


def test_chat_prompts_are_as_many_words() -> None:
    bodies = Bodies("chat", "m", 0, IdRange(10, 500))
    one, two = (json.loads(bodies.body(i, [(0, 20)], 50, 7, 1))["messages"][0] for i in (1, 2))
    assert one["role"] == "user"
    words = one["content"].split(" ")
    assert len(words) == 50
    assert set(words) <= set(WORDS)
    assert words[:20] == two["content"].split(" ")[:20]
    assert words[20:] != two["content"].split(" ")[20:]
