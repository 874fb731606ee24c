"""The loss of smaller models beside the planned one's, as far as the Chinchilla law says it."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, table
from planner.summary.words import capitalised, number

Document = dict[str, Any]
_TRILLION = 1e12


def loss_lines(found: Document) -> list[str]:
    """`levers.smaller_models` in words: each model's loss, whether it equals the planned one's, the law's limits.

    Nothing where the document names no law, or there is no smaller model.
    """
    law, planned = found.get("loss_law") or {}, found.get("planned") or {}
    rows = [row for row in found.get("rows") or [] if row.get("model")]
    if not law or not rows:
        return []
    cells = [["", "loss", "", "trained on", ""], _row(planned, "as planned")]
    cells += [_row(row, _against(row, planned)) for row in rows]
    said = f"loss: nats a token by {law.get('source', 'the Chinchilla law')}; equal: within {law.get('equal_within')}; "
    said += f"{law.get('limits', '')}."
    return [*table(cells, "<><><"), *paragraph(capitalised(said), "  ")]


def _row(row: Document, against: str) -> list[str]:
    loss, tokens = row.get("loss"), row.get("training_tokens")
    known = "" if tokens is None else f"{number(tokens / _TRILLION)} T tokens"
    if loss is None:
        note = row.get("loss_note", "")
        return [row.get("model", ""), "not said", against if against == "as planned" else "", known, note]
    return [row.get("model", ""), f"{loss:.3f}", against, known, ""]


def _against(row: Document, planned: Document) -> str:
    """The loss against the planned model's."""
    if row.get("loss") is None or planned.get("loss") is None:
        return ""
    if row.get("equal_loss"):
        return "EQUAL"
    apart = row["loss"] - planned["loss"]
    return f"{'+' if apart > 0 else '−'}{abs(apart):.3f}"
