"""Shorter answers: what they take off a plan, and the length at which a query no longer pays (or begins to)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from planner.catalogue.models import model as find_model
from planner.deployment import Progress
from planner.scenario import Scenario
from planner.studies.chosen import with_read_values
from planner.studies.sweep import planned
from planner.studies.token_counts import mean_of, scaled

Document = Mapping[str, Any]
Row = dict[str, Any]
SHORTER_BY = (0.10, 0.25, 0.50)
BREAK_EVEN_QUERIES = 20_000  # counted in a run of the search for the break-even length
BREAK_EVEN_PLANS = 10
BREAK_EVEN_WITHIN = 0.02  # of the length
LONGER = (2.0, 4.0)  # times as long as now: how far the answer of a query that pays is drawn out
SHORTER = (0.5, 0.25, 0.1)  # likewise of one that does not


def shorter_answers(chosen: Scenario, document: Document, seed: int, requests: int | None, tell: Progress) -> Row:
    """Answers shorter by 10, 25 and 50 %, and the mean length at which the margin is 0.

    {stage, output_tokens, rows [{shorter_by, output_tokens, …figures, removed {gpus, usd_per_query,
    margin_usd_per_query}}], break_even {output_tokens, note, tried[]}, reason}. The answer is the output of the last
    stage; the stages before keep theirs. `break_even.output_tokens` is the longest mean that was found to pay, a
    training bill included where one is given, as in the margins of `tried`.
    """
    stage = chosen.query.stages[-1] if chosen.query.stages else None
    mean = None if stage is None or chosen.demand == "trace" else mean_of(stage.output_tokens)
    if stage is None or mean is None:
        why = "the token counts come from a file, which is not rescaled"
        return {"stage": None, "output_tokens": None, "rows": [], "break_even": None, "reason": why}
    rows = []
    for index, by in enumerate(SHORTER_BY):
        tell("levers: shorter answers", index, len(SHORTER_BY))
        figures = planned(_with_answers(chosen, 1.0 - by), seed, requests)
        rows.append({"shorter_by": by, "output_tokens": (1.0 - by) * mean, **beside_plan(figures, document)})
    found = (
        None if margin_after_training(document) is None else _break_even(chosen, document, mean, seed, requests, tell)
    )
    return {"stage": stage.name, "output_tokens": mean, "rows": rows, "break_even": found, "reason": None}


def margin_after_training(document: Document) -> float | None:
    """A plan's margin per query less its share of the training bill, in USD; None where there is no margin."""
    if document["margin"] is None:
        return None
    return float(document["margin"]["usd_per_query"]) - _training(document)


def _training(document: Document) -> float:
    """USD of the training bill on a query; the same whatever the fleet, as the queries are."""
    return float((document["cost"] or {}).get("amortised_training_usd_per_query") or 0.0)


def _with_answers(chosen: Scenario, factor: float) -> Scenario:
    last = len(chosen.query.stages) - 1
    return with_read_values(
        chosen, {f"query.stages[{last}].output_tokens": scaled(chosen.query.stages[last].output_tokens, factor)}
    )


def _break_even(
    chosen: Scenario, document: Document, mean: float, seed: int, requests: int | None, tell: Progress
) -> Row:
    """The mean length of answers at which the margin is 0: between one that pays and one that does not.

    A query that pays is tried with longer answers, one that does not with shorter ones, then the two lengths on both
    sides of 0 are narrowed down. Shorter answers need not be cheaper under limits on TPOT: of a short one, each pause
    for somebody else's prompt is a larger part.
    """
    counted = min(requests or BREAK_EVEN_QUERIES, BREAK_EVEN_QUERIES)
    trained = _training(document)
    now = _Length(mean, margin_after_training(document))
    tried = [now]

    def at(tokens: float) -> _Length:
        tell("levers: break-even length", len(tried) - 1, BREAK_EVEN_PLANS)
        changed = _with_answers(chosen, tokens / mean)
        length = mean_of(changed.query.stages[-1].output_tokens) or tokens  # of whole tokens, and no answer has none
        known = next((one for one in tried if one.output_tokens == length), None)
        if known is not None:
            return known
        margin = planned(changed, seed, counted)["margin_usd_per_query"]
        tried.append(_Length(length, None if margin is None else margin - trained))
        return tried[-1]

    def answer(tokens: float | None, note: str) -> Row:
        return {
            "output_tokens": tokens,
            "note": note,
            "tried": [length._asdict() for length in sorted(tried, key=_tokens)],
        }

    good, bad = (now, None) if now.pays else (None, now)
    room = longest_answer(chosen)
    for factor in LONGER if now.pays else SHORTER:
        if (good is not None and bad is not None) or tried[-1].margin_usd_per_query is None or factor * mean > room:
            break
        length = at(factor * mean)
        good, bad = (length, bad) if length.pays else (good, length)
    if bad is None:
        last = tried[-1].output_tokens
        if last == mean:
            note = f"the answers of now pay, and the context leaves no room for ones {LONGER[0]:.2g} times as long"
            return answer(None, note)
        return answer(None, f"answers of {last:,.0f} tokens on average, {last / mean:.2g} times as long, pay too")
    if good is None:
        shortest = min(map(_tokens, tried))
        if shortest == mean:
            return answer(None, "the answers of now do not pay, and there are no shorter ones")
        return answer(None, f"no shorter answer that was tried pays, down to {shortest:,.0f} tokens on average")
    while (
        bad.margin_usd_per_query is not None
        and abs(bad.output_tokens - good.output_tokens) > max(1.0, BREAK_EVEN_WITHIN * good.output_tokens)
        and len(tried) <= BREAK_EVEN_PLANS
    ):
        length = at(_between(good, bad))
        if length in (good, bad):  # no whole number of tokens lies between
            break
        good, bad = (length, bad) if length.pays else (good, length)
    broke = "the margin is below 0" if bad.margin_usd_per_query is not None else "no fleet holds the service levels"
    return answer(good.output_tokens, f"at {bad.output_tokens:,.0f} {broke}")


class _Length(NamedTuple):
    """A mean length of answers that was planned for; no margin where no fleet fits."""

    output_tokens: float
    margin_usd_per_query: float | None

    @property
    def pays(self) -> bool:
        return self.margin_usd_per_query is not None and self.margin_usd_per_query >= 0


def _tokens(length: _Length) -> float:
    return length.output_tokens


def _between(good: _Length, bad: _Length) -> float:
    """Where the straight line between two lengths meets a margin of 0, kept off both ends."""
    gain, loss = good.margin_usd_per_query or 0.0, bad.margin_usd_per_query or 0.0
    share = min(max(gain / (gain - loss), 0.1), 0.9) if gain > loss else 0.5
    return good.output_tokens + share * (bad.output_tokens - good.output_tokens)


def longest_answer(chosen: Scenario) -> float:
    """Tokens that the context leaves for an answer beside the mean prompt of the last stage."""
    given = chosen.engine.max_model_len
    context = given[0] if given else find_model(chosen.model[0], chosen.base).max_position
    prompt = mean_of(chosen.query.stages[-1].prompt_tokens) or 0.0
    return context - prompt


def beside_plan(figures: Row, document: Document) -> Row:
    """A plan's figures with what it removes from the plan's own."""
    now = {
        "gpus": document["fleet"]["gpus"],
        "usd_per_query": document["cost"]["usd_per_query"],
        "margin_usd_per_query": None if document["margin"] is None else document["margin"]["usd_per_query"],
    }
    shown = ("feasible", "reason", "model", "quantization", "tensor_parallel_size", *now)
    removed = {
        key: None if value is None or figures[key] is None else value - figures[key] for key, value in now.items()
    }
    gained = removed.pop("margin_usd_per_query")
    row = {key: figures[key] for key in shown}
    return {**row, "removed": removed, "gained_usd_per_query": None if gained is None else -gained}
