"""The answer of `simulate --days` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.day_facts import altogether, few_words, rejected_words, worth
from planner.summary.layout import bars, paragraph, section, table
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.service import engine_words, warning_lines
from planner.summary.words import clean, gpu_name, limit_name, milliseconds, number, percent, plural, usd
from planner.units import HOURS_PER_DAY

Document = dict[str, Any]
MOST_TOLD = 8  # of the hours that miss the limits
PERFECT = "perfect: a scaler that knows the load and starts in no time, the fewest that hold the limits at each rate"
HOUR_COLUMNS = (
    "replicas: serving on average (fewest–most)",
    PERFECT,
    "good: queries that meet every limit themselves",
    "busy: share of the paid time in which the engine works, whatever its batch",
)
FEW = "?: judged by fewer answered queries than the limit needs"
DAY_COLUMNS = ("replicas: serving on average; most: the most at once", "good: queries that meet every limit themselves")


def days_text(document: Document) -> str:
    """One fleet through whole days: what it comes to, each hour or each day, the perfect scaler. Within 100 columns."""
    document = clean(document)
    scenario, rows = document.get("scenario") or {}, document.get("days") or []
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(_answer(document, scenario, rows))
    lines += paragraph(worth(document))
    lines += warning_lines(document)
    lines += section("From midnight on", _course(rows))
    if len(rows) <= HOURS_PER_DAY:
        lines += section("Hour by hour", [*_hour_table(rows), *_columns(rows)])
    else:
        lines += section("Day by day", [*_day_table(rows), *_lines(DAY_COLUMNS)])
        lines += section("Hours that miss the limits", _missed(rows))
    lines += section("Altogether", altogether(document))
    lines += section("The run", [line for note in _notes(document) for line in paragraph(note, "  ", "    ")])
    lines += origin_lines(document.get("provenance") or [])
    return "\n".join([*lines, *definition_lines()])


def _answer(document: Document, scenario: Document, rows: list[Document]) -> str:
    fleet, totals = document.get("fleet") or {}, document.get("totals") or {}
    model = (document.get("model") or {}).get("name", "")
    each = plural(fleet.get("gpus_per_replica"), "GPU")
    scaled = (scenario.get("fleet") or {}).get("autoscaler")
    if scaled:
        count = f"an autoscaled fleet of {number(totals.get('mean_replicas'))} replicas on average, "
        count += f"{number(totals.get('peak_replicas'))} at most"
    else:
        count = plural(fleet.get("replicas"), "replica")
    where = f"{count}, {each} each ({gpu_name(fleet.get('hardware', ''))}, {engine_words(fleet.get('engine') or {})})"
    days = plural(len(rows) / HOURS_PER_DAY, "day")
    held = totals.get("slo_hours_share")
    if held is None:
        return f"{model} on {where} over {days}: no limits given (slo), so nothing is judged."
    judged = sum(row.get("slo_met") is not None for row in rows)
    refused = f" {rejected_words(totals)}." if totals.get("rejected") else ""
    few = few_words(sum(bool(row.get("few_queries")) for row in rows), judged)
    if held == 1:
        return f"{model} on {where} over {days}: every limit HOLDS in every hour{few}.{refused}"
    missed = round((1 - held) * judged)
    return f"{model} on {where} over {days}: the limits FAIL in {missed} of {judged} hours{few}.{refused}"


def _course(rows: list[Document]) -> list[str]:
    """Load and replicas as bars, an hour each; the replicas of both fleets to one scale."""
    if len(rows) > 3 * HOURS_PER_DAY:  # wider than the page
        return []
    load, served = [row.get("rate_qps") or 0.0 for row in rows], [row["replicas"]["mean"] for row in rows]
    wanted = [row["perfect"]["mean"] for row in rows if row.get("perfect")]
    drawn = bars([*served, *wanted])
    cells = [["load", bars(load), f"{_range(load)} queries/s"], ["replicas", drawn[: len(rows)], _range(served)]]
    if len(wanted) == len(rows):
        cells.append(["perfect", drawn[len(rows) :], _range(wanted)])
    return table(cells, "<<<")


def _range(values: list[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _columns(rows: list[Document]) -> list[str]:
    """What the columns of the hours are; marks only where there are some."""
    marked, few = any(row.get("slo_met") is False for row in rows), any(row.get("few_queries") for row in rows)
    return _lines((*HOUR_COLUMNS, *(("!: misses its limit",) if marked else ()), *((FEW,) if few else ())))


def _lines(words: tuple[str, ...]) -> list[str]:
    return [line for word in words for line in paragraph(word, "  ", "    ")]


def _hour_table(rows: list[Document]) -> list[str]:
    limits = [check["key"] for check in rows[0].get("slo") or []] if rows else []
    shown = limits or ["p99_ttft_ms", "p99_tpot_ms"]
    cells = [["hour", "queries/s", *(limit_name(key) for key in shown), "good", "busy", "replicas", "perfect", "cost"]]
    for row in rows:
        cells.append(
            [
                _clock(row["hour"]),
                number(row.get("rate_qps")),
                *(_cell(row, key) for key in shown),
                percent(row.get("goodput_share")),
                percent(row.get("utilisation")),
                _count(row["replicas"]),
                "" if row.get("perfect") is None else _count(row["perfect"]),
                "" if row.get("usd") is None else usd(row["usd"]),
            ]
        )
    return table(cells, ">>" + ">" * len(shown) + ">>>>>")


def _count(replicas: Document) -> str:
    """Replicas of an hour: the mean, and between what they changed."""
    span = f" ({replicas['min']}–{replicas['max']})" if replicas["min"] != replicas["max"] else ""
    return f"{number(replicas['mean'])}{span}"


def _cell(row: Document, key: str) -> str:
    """A judged figure with its error where it was sampled, marked where it misses its limit, or few are judged by."""
    for check in row.get("slo") or []:
        if check["key"] == key:
            value = milliseconds(check.get("value_ms"))
            error = f" ± {milliseconds(check['error_ms'])}" if check.get("error_ms") is not None else ""
            few = " ?" if key in (row.get("few_queries") or []) else ""
            return f"{value}{error}{'' if check.get('met') else ' !'}{few}"
    statistic, metric, _ = key.split("_")
    return milliseconds((row.get(f"{metric}_ms") or {}).get(statistic))


def _day_table(rows: list[Document]) -> list[str]:
    cells = [["day", "queries", "hours that hold", "good", "replicas", "most", "GPU-hours", "cost"]]
    for first in range(0, len(rows), HOURS_PER_DAY):
        day = rows[first : first + HOURS_PER_DAY]
        queries = sum(row.get("queries") or 0 for row in day)
        good = sum((row.get("goodput_share") or 0.0) * (row.get("queries") or 0) for row in day)
        judged = [row["slo_met"] for row in day if row.get("slo_met") is not None]
        bill = [row["usd"] for row in day if row.get("usd") is not None]
        cells.append(
            [
                str(first // HOURS_PER_DAY + 1),
                number(queries),
                f"{sum(judged)} of {len(judged)}" if judged else "",
                percent(good / queries) if queries else "",
                number(sum(row["replicas"]["mean"] for row in day) / len(day)),
                str(max(row["replicas"]["max"] for row in day)),
                number(sum(row["gpu_hours"] for row in day)),
                usd(sum(bill)) if len(bill) == len(day) else "",
            ]
        )
    return table(cells, ">>>>>>>>")


def _missed(rows: list[Document]) -> list[str]:
    missed = [row for row in rows if row.get("slo_met") is False]
    lines = []
    for row in missed[:MOST_TOLD]:
        broken = [check for check in row["slo"] if not check.get("met")]
        told = ", ".join(f"{limit_name(check['key'])} {milliseconds(check.get('value_ms'))}" for check in broken)
        told += f" ({plural(row.get('answered'), 'query')})" if row.get("few_queries") else ""
        good = "" if row.get("goodput_share") is None else f"; {percent(1 - row['goodput_share'])} of the queries miss"
        lines += paragraph(f"day {row['hour'] // HOURS_PER_DAY + 1}, {_clock(row['hour'])}: {told}{good}", "  ", "    ")
    if len(missed) > MOST_TOLD:
        lines.append(f"  and {len(missed) - MOST_TOLD} more: --json has all")
    return lines


def _notes(document: Document) -> list[str]:
    return [*(f"Note: {note}" for note in document.get("notes") or []), f"seed {document.get('seed')}"]


def _clock(hour: int) -> str:
    return f"{hour % HOURS_PER_DAY:02d}:00"
