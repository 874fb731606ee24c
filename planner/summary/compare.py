"""The answer of `loadtest --compare` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.words import clean, number, percent, plural

Document = dict[str, Any]

_NAMES = {
    "failed_share": "failed queries",
    "ttft_ms": "TTFT [ms]",
    "tpot_ms": "TPOT [ms]",
    "e2e_ms": "E2E [ms]",
    "request_throughput": "requests/s",
    "output_throughput": "output tokens/s",
    "goodput_rps": "goodput [queries/s]",
    "prefix_cache_hit_rate": "prefix cache hits",
}
_SETTINGS_SHOWN = 20


def compare_text(document: Document) -> str:
    """What differed in the settings, what changed in the figures, how surely, and what was predicted."""
    notes = document.get("not_simulated") or []
    document = clean(document)
    a, b = document["a"], document["b"]
    lines = paragraph(_answer(document))
    lines += section("A and B", table([[side, _run(run)] for side, run in (("A", a), ("B", b))], "<<"))
    for side, run in (("A", a), ("B", b)):
        for text in run.get("warnings") or []:
            lines += paragraph(f"WARNING: {side}: {text}.", "  ", "    ")
        for reason in run.get("invalid") or []:
            lines += paragraph(f"INVALID: {side}: {reason}", "  ", "    ")
    lines += section("Settings that differ", _setting_lines(document.get("settings") or []))
    how = "paired by query, blocks of time drawn again" if document.get("paired") else "UNPAIRED"
    lines += section(f"B ÷ A with 95 % intervals ({how})", _ratio_lines(document.get("ratios") or []))
    if any(run.get("failed") for run in (a, b)):
        lines += paragraph("A query that failed counts as an infinite latency.", "  ")
    for note in notes:
        lines += paragraph(f"Not predicted: {note}", "  ", "    ")
    return "\n".join(lines)


def _answer(document: Document) -> str:
    rows = {row["name"]: row for row in document.get("ratios") or []}
    said = _failures(rows.get("failed_share"))
    for name, words in (
        ("ttft_ms.p50", "TTFT p50"),
        ("tpot_ms.p50", "TPOT p50"),
        ("output_throughput", "output tokens/s"),
    ):
        row = rows.get(name)
        if row is None:
            continue
        if row.get("ratio") is None:
            said.append(f"{words} not comparable: queries failed")
            continue
        change = row["ratio"] - 1
        said.append(f"{words} {'+' if change > 0 else ''}{percent(change)}{_sure(row)}")
    unpaired = "" if document.get("paired") else f" The two did not send the same: {document.get('load_difference')}."
    return f"{_unusable(document)}From A to B, measured: {', '.join(said) or 'nothing in common'}.{unpaired}"


def _unusable(document: Document) -> str:
    """That a run is invalid, before any figure of it."""
    invalid = [side.upper() for side in ("a", "b") if document[side].get("valid") is False]
    if not invalid:
        return ""
    runs = "A is" if invalid == ["A"] else "B is" if invalid == ["B"] else "both runs are"
    return f"NOT TO BE USED: {runs} INVALID. "


def _failures(row: Document | None) -> list[str]:
    """How many more of the queries failed, where any did."""
    if row is None or not (row["a"] or row["b"]):
        return []
    return [f"failed queries {percent(row['a'])} → {percent(row['b'])}{_sure(row)}"]


def _sure(row: Document) -> str:
    return "" if row.get("differs") in (None, True) else " (not told from 0)"


def _run(run: Document) -> str:
    failed = f", {plural(run['failed'], 'query')} failed" if run.get("failed") else ""
    asked = f"{run['served_model']} at {run['host']}, {plural(run['queries'], 'query')}{failed}"
    return f"{run['name']}: {asked} ({run['records']})"


def _setting_lines(settings: list[Document]) -> list[str]:
    rows = [[row["key"], _value(row.get("a")), "→", _value(row.get("b"))] for row in settings[:_SETTINGS_SHOWN]]
    more = len(settings) - len(rows)
    lines = table([["", "A", "", "B"], *rows], "<<<<") if rows else ["  none"]
    return [*lines, *([f"  and {more} more"] if more else [])]


def _value(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, int | float) else str(value)


def _ratio_lines(ratios: list[Document]) -> list[str]:
    rows = [["", "", "A", "B", "B ÷ A", "95 % interval", "predicted", ""]]
    shown = ""
    for row in ratios:
        metric, _, statistic = row["name"].partition(".")
        name = "" if metric == shown else _NAMES.get(metric, metric)
        shown = metric
        if "difference" in row:
            rows.append([name, "", *_difference_cells(row)])
            continue
        interval = row.get("interval95")
        around = f"{number(interval[0])} to {number(interval[1])}" if interval else ""
        verdict = "" if row.get("differs") is None else "differs" if row["differs"] else "no difference told"
        if row.get("ratio") is None:
            verdict = "undefined"
        predicted = row.get("predicted")
        rows.append(
            [
                name,
                statistic,
                number(row.get("a")),
                number(row.get("b")),
                number(row.get("ratio")),
                around,
                "" if predicted is None else number(predicted),
                verdict,
            ]
        )
    return table(rows, "<<>>>>><")


def _difference_cells(row: Document) -> list[str]:
    """A, B, B − A in points with its interval, the prediction and the verdict."""
    interval, predicted = row.get("interval95"), row.get("predicted_difference")
    differs = row.get("differs")
    return [
        percent(row["a"]),
        percent(row["b"]),
        f"{_signed(100 * row['difference'])} points",
        f"{_signed(100 * interval[0])} to {_signed(100 * interval[1])}" if interval else "",
        "" if predicted is None else f"{_signed(100 * predicted)} points",
        "" if differs is None else "differs" if differs else "no difference told",
    ]


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"
