"""Documents that calls read: who reads which, what of a prompt they are, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import ScenarioError, UnsupportedError
from planner.simulation.load import Load, shared_blocks
from tests.workload_loads import load, scenario

PREFIX, FREE = {"tokens": 100}, {"uniform": [1, 9000]}


def read(tokens: int = 300, corpus: int = 5, **more: Any) -> dict[str, Any]:
    return {"tokens": tokens, "corpus": corpus, **more}


def chains(run: Load) -> list[list[int]]:
    assert run.prefixes is not None
    return [run.prefixes.chain_segment[start:end].tolist() for start, end in pairwise(run.prefixes.chain_start)]


def contents(run: Load) -> list[list[tuple[int, int]]]:
    """Each prompt's shared beginning, as (segment, tokens)."""
    assert run.prefixes is not None
    sizes = run.prefixes.segment_tokens
    return [[(segment, int(sizes[segment])) for segment in chain] for chain in chains(run)]


def test_a_prompt_begins_with_its_prefix_and_then_its_document() -> None:
    run = load(scenario(stage__shared_prefix=PREFIX, stage__document=read()), 200)
    assert {(first, size) for (first, size), _ in contents(run)} == {(0, 100)}
    assert {pair[1] for pair in contents(run)} == {(1 + document, 300) for document in range(5)}
    assert set(run.prompt_tokens.tolist()) == {1000}, "part of the prompt, not added to it"


def test_all_calls_of_a_query_read_one_document_or_each_its_own() -> None:
    together = load(scenario(stage__calls=4, stage__document=read(corpus=50)), 100)
    rows = np.array(chains(together)).reshape(100, 4)
    assert (rows == rows[:, :1]).all()
    assert len(np.unique(rows)) > 30
    apart = load(scenario(stage__calls=4, stage__document=read(corpus=50, per="call")), 100)
    rows = np.array(chains(apart)).reshape(100, 4)
    assert max(len(set(row)) for row in rows.tolist()) == 4
    assert len({tuple(row) for row in rows.tolist()}) > 95


def test_a_document_behind_another_prefix_is_other_content() -> None:
    run = load(scenario(stage__shared_prefix={"tokens": 100, "groups": 3}, stage__document=read(corpus=4)), 400)
    pairs = {tuple(chain) for chain in chains(run)}
    assert len(pairs) == 3 * 4
    assert len({document for _, document in pairs}) == 3 * 4, "prefix caching is by prefix"
    shared = shared_blocks(run.prefixes, run.requests, 100)
    assert shared.contents == 3 * 1 + 12 * 3


def test_samples_share_the_document_and_then_their_own_prompt() -> None:
    run = load(scenario(stage__samples=2, stage__document=read(corpus=1)), 3)
    assert contents(run) == [pair for call in (1, 2, 3) for pair in [[(0, 300), (call, 700)]] * 2]


def test_stages_read_documents_of_their_own() -> None:
    stage = {"prompt_tokens": 500, "output_tokens": 5, "document": read(corpus=1)}
    run = load(scenario(query__stages=[{"name": "a", **stage}, {"name": "b", **stage}]), 4)
    assert chains(run) == [[0], [1]] * 4


@pytest.mark.parametrize(("zipf", "first"), [(0.0, 0.25), (1.0, 0.48), (2.0, 0.7024)])
@pytest.mark.parametrize("per", ["call", "query"])
def test_documents_are_drawn_by_their_popularity(per: str, zipf: float, first: float) -> None:
    document = read(corpus=4, zipf=zipf, per=per)
    run = load(scenario(stage__calls=2, stage__document=document), 40_000)
    assert run.prefixes is not None
    shares = np.bincount(run.prefixes.chain_segment, minlength=4) / run.requests
    weights = np.arange(1, 5) ** -zipf
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    assert shares[0] == pytest.approx(first, abs=0.01)


def test_a_document_moves_no_other_draw() -> None:
    keys = {"stage__calls": 2, "stage__prompt_tokens": {"uniform": [500, 900]}, "stage__output_tokens": 9}
    keys["stage__shared_prefix"] = {"tokens": 100, "groups": 7}
    without, beside = load(scenario(**keys)), load(scenario(**keys, stage__document=read()))
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(without, name), getattr(beside, name))
    assert [chain[0] for chain in chains(beside)] == [chain[0] for chain in chains(without)]


def test_the_first_documents_do_not_depend_on_how_many_follow() -> None:
    made = scenario(stage__document=read(corpus=3))
    short, long = chains(load(made, 50)), chains(load(made, 500))
    assert set(map(tuple, short)) == {(0,), (1,), (2,)}
    assert short == long[:50]


def test_a_prompt_drawn_shorter_than_what_it_begins_with_is_raised_and_counted() -> None:
    made = scenario(stage__prompt_tokens={"uniform": [301, 500]}, stage__shared_prefix=PREFIX, stage__document=read())
    run = load(made, 10_000)
    assert run.prompt_tokens.min() == 401
    (note,) = run.notes
    assert int(note.split(": ")[1].split(" of ")[0]) == pytest.approx(5000, rel=0.1)
    assert "longer than their shared prefix and their document and raised to 401 tokens" in note


def test_a_huge_corpus_costs_only_the_documents_that_are_read() -> None:
    run = load(
        scenario(stage__shared_prefix={"tokens": 9, "groups": 10_000_000}, stage__document=read(corpus=9_000_000)), 50
    )
    assert run.prefixes is not None
    assert len(run.prefixes.segment_tokens) == 10_000_000 + 50


def test_a_trace_says_that_it_has_its_own_documents(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n")
    trace = {"trace": {"file": "t.csv", "format": "azure"}}
    made = scenario(tmp_path, traffic={"arrivals": trace}, query__stages=[{"name": "a", "document": read()}])
    assert "query.stages[0].document is not used: token counts and prefixes come from the trace" in load(made).notes


STAGE = "query.stages[0]"
REFUSED = [
    ({"stage__document": read(1000)}, f"{STAGE}.prompt_tokens (=1000)", "document.tokens (=1000)", "all document"),
    (
        {"stage__document": read(900), "stage__shared_prefix": PREFIX},
        f"{STAGE}.prompt_tokens (=1000)",
        "longer than its shared_prefix.tokens (=100) + document.tokens (=900)",
        "nothing is left for the question",
    ),
    ({"stage__document": {"tokens": 9}}, f"{STAGE}.document.corpus", "is required", "absent is not 1"),
    ({"stage__document": read(9, 0)}, f"{STAGE}.document.corpus (=0)", ">= 1", "no documents"),
    ({"stage__document": read(9, 2.5)}, f"{STAGE}.document.corpus (=2.5)", "whole number", "half a document"),
    ({"stage__document": read(9, zipf=-1)}, f"{STAGE}.document.zipf (=-1)", ">= 0", "the unpopular first"),
    ({"stage__document": read(9, per="stage")}, f"{STAGE}.document.per (=stage)", "call, query", "no such unit"),
    ({"stage__document": read(9, group=3)}, f"{STAGE}.document.group", "unknown key", "prefixes have groups"),
]


@pytest.mark.parametrize(("keys", "starts", "holds", "because"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_is_no_document_is_refused(keys: dict[str, Any], starts: str, holds: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(**keys)
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value), because


def test_a_document_beside_turns_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedError, match=r"^query.stages\[0\].document .*beside turns \(=3\) it is not supported"
    ):
        scenario(stage__document=read(), stage__turns=3)


def test_a_document_that_leaves_no_room_is_refused_by_its_own_key() -> None:
    made = scenario(stage__prompt_tokens=FREE, stage__output_tokens=FREE, stage__document=read(8192))
    with pytest.raises(
        ScenarioError, match=r"^query.stages\[0\].document.tokens \(=8192\): leaves no room .* \(=8192\)"
    ):
        load(made)
