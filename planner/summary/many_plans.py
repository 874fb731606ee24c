"""What the plans of a sweep or a waterfall warn of, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from planner.summary.layout import paragraph

Document = Mapping[str, Any]


def sweep_warning_lines(document: Document) -> list[str]:
    """Each warning once, with the points whose plans have it; without them where every plan has it."""
    points, lines = document["points"], []
    plans = {_name(point["values"]) for point in points if point["feasible"]}
    for text, names in _by_text((_name(point["values"]), point["warnings"]) for point in points):
        where = "" if len(plans) > 1 and plans <= set(names) else f"{'; '.join(names)}: "
        lines += paragraph(f"WARNING: {where}{text}.", "", "  ")
    return lines


def waterfall_warning_lines(rows: Sequence[Document]) -> list[str]:
    """Warnings of the rows' plans but for those of the last one, which is the plan itself and says its own."""
    own = (rows[-1].get("warnings") or []) if rows else []
    lines = []
    for text, steps in _by_text((row["step"], row.get("warnings") or []) for row in rows):
        if text not in own:
            lines += paragraph(f"WARNING, {', '.join(steps)}: {text}.", "  ", "    ")
    return lines


def _by_text(named: Iterable[tuple[str, Iterable[str]]]) -> list[tuple[str, list[str]]]:
    """Each text with the names of those who say it, in their order."""
    said: dict[str, list[str]] = {}
    for name, texts in named:
        for text in texts:
            said.setdefault(text, []).append(name)
    return list(said.items())


def _name(values: Mapping[str, Any]) -> str:
    """ "routing=random, peak_qps=20"."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values.items())
