"""Lines of at most `WIDTH` columns: paragraphs, tables, one line of bars."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from planner.summary.words import together

WIDTH = 100
_GAP = "  "
_BARS = "▁▂▃▄▅▆▇█"
_NARROWEST = 8  # columns that a narrowed cell keeps


def columns(text: str) -> int:
    """Terminal columns that a text takes: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def paragraph(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """A text wrapped to `WIDTH`; lines after the first begin with `hanging` (default: `indent`). No text, no line."""
    hanging = indent if hanging is None else hanging
    pieces = wrapped(text, WIDTH - max(columns(indent), columns(hanging))) if text else []
    return [f"{hanging if index else indent}{piece}" for index, piece in enumerate(pieces)]


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A blank line, the title, the lines; nothing without lines."""
    return ["", *paragraph(title), *lines] if lines else []


def facts(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Aligned `name  text` lines, the text wrapped; rows without a text are left out."""
    return table([[name, text] for name, text in rows if text], "<<")


def table(rows: Sequence[Sequence[str]], align: str, most_lines: int | None = None) -> list[str]:
    """Rows of cells as aligned lines, indented by two.

    `align` holds "<" or ">" for each column. What is wider than `WIDTH` is narrowed where the widest left-aligned
    column stands; its cells wrap, to at most `most_lines` lines, "…" marking the cut. Columns that are empty
    throughout are left out.
    """
    rows = [row for row in rows if any(row)]
    used = [index for index in range(len(align)) if any(row[index] for row in rows)]
    widths = {index: max(columns(row[index]) for row in rows) for index in used}
    narrow = [index for index in used if align[index] == "<"]
    while narrow and sum(widths.values()) + len(_GAP) * len(used) > WIDTH:
        widest = max(narrow, key=lambda index: widths[index])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    lines = []
    for row in rows:
        cells = {index: _shortened(wrapped(row[index], widths[index]), widths[index], most_lines) for index in used}
        for number in range(max((len(cell) for cell in cells.values()), default=0)):
            parts = [
                _padded(cells[index][number] if number < len(cells[index]) else "", widths[index], align[index])
                for index in used
            ]
            lines.append((_GAP + _GAP.join(parts)).rstrip())
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` columns, broken at blanks, inside a word only where it alone is too long.

    A number stays with its unit.
    """
    if columns(text) <= width:
        return [text]
    lines = [""]
    for bound in together(" ".join(text.split())).split(" "):
        word = bound.replace("\N{NO-BREAK SPACE}", " ")
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if columns(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if columns(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    return lines


def bars(values: Sequence[float]) -> str:
    """One character a value, its height in eighths of the largest."""
    top = max(values, default=0.0)
    return "".join(_BARS[min(7, int(8 * value / top))] if top > 0 else _BARS[0] for value in values)


def _padded(text: str, width: int, side: str) -> str:
    blanks = " " * max(0, width - columns(text))
    return blanks + text if side == ">" else text + blanks


def _shortened(lines: list[str], width: int, most: int | None) -> list[str]:
    if most is None or len(lines) <= most:
        return lines
    last = lines[most - 1]
    while columns(last) >= width:
        last = last[:-1]
    return [*lines[: most - 1], f"{last.rstrip(' ,;:')}…"]
