"""The answer of `loadtest --compare` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.words import clean, number, percent, plural

Document = dict[str, Any]

_NAMES = {
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
        for reason in run.get("invalid") or []:
            lines += paragraph(f"INVALID: {side}: {reason}", "  ", "    ")
    lines += section("Settings that differ", _setting_lines(document.get("settings") or []))
    how = "paired by query, blocks of time drawn again" if document.get("paired") else "UNPAIRED"
    lines += section(f"B ÷ A with 95 % intervals ({how})", _ratio_lines(document.get("ratios") or []))
    for note in notes:
        lines += paragraph(f"Not predicted: {note}", "  ", "    ")
    return "\n".join(lines)


def _answer(document: Document) -> str:
    rows = {row["name"]: row for row in document.get("ratios") or []}
    said = []
    for name, words in (
        ("ttft_ms.p50", "TTFT p50"),
        ("tpot_ms.p50", "TPOT p50"),
        ("output_throughput", "output tokens/s"),
    ):
        row = rows.get(name)
        if row is None:
            continue
        change = row["ratio"] - 1
        sure = "" if row.get("differs") is None else "" if row["differs"] else " (not told from 0)"
        said.append(f"{words} {'+' if change > 0 else ''}{percent(change)}{sure}")
    unpaired = "" if document.get("paired") else f" The two did not send the same: {document.get('load_difference')}."
    return f"From A to B, measured: {', '.join(said) or 'nothing in common'}.{unpaired}"


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
            said = row.get("predicted_difference")
            off = "" if said is None else f"{_signed(100 * said)} points"
            rows.append(
                [
                    name,
                    "",
                    percent(row["a"]),
                    percent(row["b"]),
                    f"{_signed(100 * row['difference'])} points",
                    "",
                    off,
                    "",
                ]
            )
            continue
        interval = row.get("interval95")
        around = f"{number(interval[0])} to {number(interval[1])}" if interval else ""
        verdict = "" if row.get("differs") is None else "differs" if row["differs"] else "no difference told"
        predicted = row.get("predicted")
        rows.append(
            [
                name,
                statistic,
                number(row["a"]),
                number(row["b"]),
                number(row["ratio"]),
                around,
                "" if predicted is None else number(predicted),
                verdict,
            ]
        )
    return table(rows, "<<>>>>><")


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"
