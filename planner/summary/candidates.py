"""The candidates of a search: those that hold the limits, cheapest first, and the rejected with their reasons."""

from __future__ import annotations

import math
import re
from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.words import ABSENT, number, percent, plural, usd, with_limit_names

Document = dict[str, Any]

_RANKED_SHOWN = 8
_GROUPS_SHOWN = 6
_NAMED = 4  # candidates named in a group of rejected ones
_SHORT = {
    "tensor_parallel_size": "TP",
    "pipeline_parallel_size": "PP",
    "data_parallel_size": "DP",
    "enable_expert_parallel": "EP",
    "max_num_batched_tokens": "batched tokens",
    "max_num_seqs": "seqs",
    "max_model_len": "model len",
}
_SELF_SAID = ("model", "hardware", "routing", "quantization")


def candidate_lines(alternatives: list[Document]) -> list[str]:
    """Ranked and rejected candidates as two sections; nothing where there was nothing to choose."""
    if len(alternatives) < 2:
        return []
    varied = varied_keys(alternatives)
    return [*_ranked(alternatives, varied), *rejected_lines(alternatives, varied)]


def rejected_lines(alternatives: list[Document], varied: list[str] | None = None) -> list[str]:
    """The rejected, grouped by what rejected them, largest group first."""
    rejected = [row for row in alternatives if not row.get("feasible")]
    varied = varied_keys(alternatives) if varied is None else varied
    lines: list[str] = []
    ordered = rejected_groups(alternatives)
    for rows in ordered[:_GROUPS_SHOWN]:
        who = [name for row in rows[:_NAMED] if (name := candidate_name(row, varied))]
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        count = plural(len(rows), "candidate")
        said = f"{count}: {'; '.join(who)}{more}" if who else count
        alike = "; the others alike" if len({row.get("reason") for row in rows}) > 1 else ""
        lines += paragraph(said, "  ", "    ")
        lines += paragraph(with_limit_names(rows[0].get("reason", "no reason given")) + alike, "    ")
    left = sum(len(rows) for rows in ordered[_GROUPS_SHOWN:])
    if left:
        lines.append(f"  and {left} more for other reasons: --json has all")
    return section(f"Rejected: {len(rejected)} of {plural(len(alternatives), 'candidate')}", lines)


def rejected_groups(alternatives: list[Document]) -> list[list[Document]]:
    """The rejected by what rejected them (their reasons without numbers and names), the largest group first."""
    names = {str(name) for row in alternatives for key in _SELF_SAID if (name := _setting(row, key))}
    groups: dict[str, list[Document]] = {}
    for row in alternatives:
        if not row.get("feasible"):
            groups.setdefault(_pattern(row.get("reason", ""), names), []).append(row)
    return sorted(groups.values(), key=len, reverse=True)


def candidate_name(row: Document, varied: list[str]) -> str:
    """What tells a candidate from the others: "h100-sxm-80gb fp8 TP 2"."""
    return " ".join(_said(key, _setting(row, key)) for key in varied if _setting(row, key) is not None)


def nearest_miss(alternatives: list[Document]) -> Document | None:
    """The rejected candidate that exceeded a limit by least; None where no reason says by how much.

    More GPUs would help a candidate that `fleet.max_gpus` stops, so it is nearer than one that fails at any size.
    """
    judged = [row for row in alternatives if not row.get("feasible") and _EXCESS.search(row.get("reason", ""))]
    return min(judged, key=_distance, default=None)


_EXCESS = re.compile(r"_(?:ttft|tpot|itl|e2e)_ms ([\d,.]*\d) > ([\d,.]*\d)")


def _distance(row: Document) -> tuple[bool, float]:
    reason = row.get("reason", "")
    value, bound = (float(part.replace(",", "")) for part in _EXCESS.findall(reason)[0])
    return "max_gpus" not in reason, value / bound if bound else math.inf


def _ranked(alternatives: list[Document], varied: list[str]) -> list[str]:
    fitting = [row for row in alternatives if row.get("feasible")]
    if not fitting:
        return []
    priced = any("usd_per_query" in row for row in fitting)
    money = ("$/hour", "$/query") if priced else ("", "")
    heads = [key_heading(key) for key in varied]
    rows = [["", *heads, "replicas", "GPUs", *money, "busy", ""]]
    for place, row in enumerate(fitting[:_RANKED_SHOWN], 1):
        about = "" if row.get("verified", True) else "≈"
        rows.append(
            [
                "→" if row.get("chosen") else f"{place}",
                *(setting_words(row, key) for key in varied),
                about + number(row.get("replicas")),
                about + number(row.get("gpus")),
                *(usd(row.get(key)) if priced else "" for key in ("usd_per_hour", "usd_per_query")),
                percent(row.get("utilisation")),
                against(row, fitting[0]),
            ]
        )
    lines = table(rows, f">{'<' * len(varied)}>>>>><")
    if len(fitting) > _RANKED_SHOWN:
        lines.append(f"  and {len(fitting) - _RANKED_SHOWN} {'dearer' if priced else 'larger'} ones: --json has all")
    if any(not row.get("verified", True) for row in fitting[:_RANKED_SHOWN]):
        lines += paragraph("≈ sized on shorter runs, without a confidence interval", "  ")
    order = "cheapest first" if priced else "fewest GPUs first (no price given)"
    return section(f"Candidates that hold the limits: {len(fitting)} of {len(alternatives)}, {order}", lines)


def against(row: Document, best: Document) -> str:
    """How much dearer a candidate is than the best one; "chosen" of the chosen one."""
    if row.get("chosen"):
        return "chosen"
    cost, least = row.get("usd_per_query"), best.get("usd_per_query")
    if not cost or not least or row is best:
        return ""
    ratio = cost / least
    if ratio >= 2:
        return f"{number(ratio)} × the cost"
    return "same cost" if abs(ratio - 1) < 5e-4 else f"{percent(ratio - 1)} dearer"


def varied_keys(alternatives: list[Document]) -> list[str]:
    """Keys in which candidates differ, in the order in which they stand."""
    keys: dict[str, None] = dict.fromkeys(("model", "hardware"))
    for row in alternatives:
        keys.update(dict.fromkeys(row.get("engine") or {}))
    keys["routing"] = None
    known = {key: {str(value) for row in alternatives if (value := _setting(row, key)) is not None} for key in keys}
    return [key for key in keys if len(known[key]) > 1]


def key_heading(key: str) -> str:
    """A setting's name at the head of a column: "TP"."""
    return _SHORT.get(key, key.replace("_", " "))


def setting_words(row: Document, key: str) -> str:
    """A candidate's value of a setting."""
    return _value(_setting(row, key))


def _setting(row: Document, key: str) -> Any:
    return row.get(key) if key in ("model", "hardware", "routing") else (row.get("engine") or {}).get(key)


def _said(key: str, value: Any) -> str:
    return _value(value) if key in _SELF_SAID else f"{_SHORT.get(key, key)} {_value(value)}"


def _value(value: Any) -> str:
    if value is None:
        return ABSENT
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _pattern(reason: str, names: set[str]) -> str:
    """A reason without its numbers and the candidates' names, so that like reasons fall together."""
    for name in sorted(names, key=len, reverse=True):
        reason = reason.replace(name, "·")
    return re.sub(r"\d[\d.,]*", "#", re.sub(r"; nearest: .*", "", reason))
