"""Service on the page: limits, distributions, the sizes tried, the fleet at work, its memory and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.report.page.charts import capacity_chart, latency_chart
from planner.report.page.knee import Knee, knee
from planner.report.page.parts import Cell, Chart, Fact, Table, Tone, count, latency, share, text
from planner.report.svg import draw
from planner.summary.service import distance, engine_facts, limits_of
from planner.summary.words import limit_name, milliseconds, number, plural

Document = dict[str, Any]
LATENCIES = {
    "ttft_ms": ("TTFT", "time to first token"),
    "tpot_ms": ("TPOT", "time per output token after the first"),
    "itl_ms": ("ITL", "gaps between streamed tokens"),
    "e2e_ms": ("E2E", "end to end, to the last token"),
}
STATISTICS = ("p50", "p90", "p99")
ROW_IN = 0.24  # height of a statistic's line


def serving_of(document: Document) -> int:
    """Replicas that serve at the peak, the spare ones left out."""
    return int(document["fleet"]["replicas"] - document["fleet"]["spare_replicas"])


def limits_table(document: Document, key: str) -> Table | None:
    """The limits as the run under `key` ("at_peak", "one_fewer") was judged by them; None without that run."""
    run = document.get(key)
    if not run or not run.get("slo"):
        return None
    rows = []
    for row in run["slo"]:
        met = row.get("met")
        tone: Tone = "" if met is None else "good" if met else "bad"
        verdict = "not judged" if met is None else "holds" if met else "FAILS"
        rows.append(
            (
                text(limit_name(row.get("key", "limit"))),
                Cell(f"≤ {milliseconds(row.get('limit_ms'))}", row.get("limit_ms")),
                latency(row.get("value_ms")),
                latency(row.get("upper_ms")),
                Cell(verdict, None, tone),
                text(distance(row)),
            )
        )
    return Table(("limit", "at most", "figure", "upper end", "", "room"), tuple(rows), "<>>><<", "list")


def bare_limits(document: Document) -> Table | None:
    """The scenario's limits where no run was judged by them."""
    rows = [
        (text(limit_name(row.get("key", "limit"))), Cell(f"≤ {milliseconds(row.get('limit_ms'))}", row.get("limit_ms")))
        for row in limits_of(document["scenario"])
    ]
    return Table(("limit", "at most"), tuple(rows), "<>") if rows else None


def latency_charts(document: Document) -> tuple[Chart, ...]:
    """A chart for each latency whose histogram the document has."""
    run, made = document["at_peak"], []
    bands = run.get("band80") or {}
    for key, (short, long) in LATENCIES.items():
        histogram = (document.get("distributions") or {}).get(key) or {}
        judged = {row["key"].split("_")[0]: row for row in run.get("slo") or [] if _metric(row) == key}
        figures = {name: (run.get(key) or {}).get(name) for name in STATISTICS}
        figures |= {name: row.get("value_ms") for name, row in judged.items()}
        drawn = [(name, value, _band(bands.get(f"{key}.{name}"))) for name, value in figures.items() if value]
        if not histogram.get("counts") or not sum(histogram["counts"]) or not drawn:
            continue
        drawn.sort(key=lambda row: row[1])
        limits = {name: row["limit_ms"] for name, row in judged.items() if row.get("limit_ms")}
        name = key.removesuffix("_ms")
        svg = draw(f"latency-{name}", 2.05 + ROW_IN * len(drawn), latency_chart(histogram, drawn, limits))
        rows = tuple(_statistic(row, judged.get(row[0])) for row in drawn)
        made.append(
            Chart(
                f"latency-{name}",
                f"{short}: {long}",
                svg,
                f"Histogram of {short} in milliseconds. {_spoken(short, drawn, limits)}",
                Table(("", "figure", "80 % band", "upper end", "limit", ""), rows, "<>>>><"),
            )
        )
    return tuple(made)


def sizes_tried(document: Document) -> list[Document]:
    """A row of `capacity_curve` for each size, rising; of two runs of a size the one of full length."""
    best: dict[float, Document] = {}
    tried = [point for point in document.get("capacity_curve") or [] if point.get("serving") is not None]
    for point in sorted(tried, key=lambda point: bool(point.get("full_length"))):
        best[point["serving"]] = point
    return [best[size] for size in sorted(best)]


def capacity_knee(document: Document) -> Knee | None:
    """The knee of the latency that is nearest to its limit; None where the sizes tried do not tell one."""
    limits = [row for row in document["at_peak"].get("slo") or [] if _judged_ms(row) is not None]
    if not limits:
        return None
    tightest = max(limits, key=lambda row: _judged_ms(row) / row["limit_ms"])
    return knee(sizes_tried(document), tightest["key"])


def knee_words(document: Document) -> str:
    """Where the knee is, what one size up and down would change, and how it was found; "" where there is none."""
    found = capacity_knee(document)
    if found is None:
        return ""
    here, fewer, more = (milliseconds(value) for value in (found.value_ms, found.fewer_ms, found.more_ms))
    return (
        f"The knee is at {plural(found.serving, 'serving replica')}: {limit_name(found.key)} is {here} there, {fewer} "
        f"with {found.fewer}, {more} with {found.more}. Found by Kneedle on that latency against the load of one "
        "replica, among the sizes tried: where the curve lies furthest below the straight line between its ends."
    )


def capacity(document: Document) -> Chart | None:
    """The sizes that were tried; None where fewer than two were."""
    limits = {row["key"]: row["limit_ms"] for row in document["at_peak"].get("slo") or [] if row.get("limit_ms")}
    points = sizes_tried(document)
    if len(points) < 2 or not limits or not any(point.get(key) for point in points for key in limits):
        return None
    chosen = serving_of(document)
    below = [int(point["serving"]) for point in points if point["serving"] < chosen and point.get("met") is False]
    failing = max(below, default=None)
    gpus = plural(document["fleet"].get("gpus_per_replica"), "GPU")
    unit = f"replicas serving, of {gpus} each" if document["fleet"].get("gpus_per_replica") else "replicas serving"
    bend = capacity_knee(document)
    at_knee = None if bend is None else bend.serving
    svg = draw("capacity", 3.3, capacity_chart(points, limits, chosen, failing, unit, at_knee))
    headings = ["serving", "", *(f"{limit_name(key)}{end}" for key in limits for end in ("", ", upper end"))]
    rows = tuple(_size(point, limits, chosen) for point in points)
    table = Table((*headings, "engines busy", "run"), rows, ">" + "<" + ">>" * len(limits) + "><")
    words = f"Judged latencies as shares of their limits against {unit}. {chosen} serving replicas hold every limit"
    label = words + (f"; {failing} fail." if failing is not None else ".")
    label += f" The knee is at {at_knee}." if at_knee is not None else ""
    return Chart("capacity", "Judged latencies by size of fleet", svg, label, table)


def work(document: Document) -> tuple[Fact, ...]:
    """The fleet at the peak: throughput, batch, caches."""
    return tuple(Fact(name, text(said)) for name, said in engine_facts(document["at_peak"], document["fleet"]) if said)


def memory_table(document: Document) -> Table | None:
    """Where the memory of the fullest GPU goes, in GiB."""
    memory = {key.removesuffix("_gib"): size for key, size in (document["at_peak"].get("memory") or {}).items()}
    usable = memory.pop("usable", None)
    if not memory:
        return None
    names = {"kv_cache": "KV cache", "cuda_graphs": "CUDA graphs", "non_torch": "outside torch"}
    rows = [
        (text(names.get(key, key.replace("_", " "))), _gib(size), _of(size, usable))
        for key, size in memory.items()
        if size
    ]
    if usable is not None:
        rows.append((text("usable", "strong"), _gib(usable), Cell("")))
    return Table(("memory of the fullest GPU", "GiB", "of the usable"), tuple(rows), "<>>")


def engine_table(document: Document) -> Table:
    """vLLM's arguments of one replica, under vLLM's names."""
    values = {"routing": document["fleet"].get("routing"), **document["fleet"]["engine"]}
    rows = [(text(name), text(_argument(value))) for name, value in values.items() if value is not None]
    return Table(("argument", "value"), tuple(rows), "<<")


def run_facts(document: Document) -> tuple[str, ...]:
    """How long the runs were, by what rule a size is accepted, and what is to be known of the load."""
    run, confidence = document["at_peak"], document.get("confidence") or {}
    parts = []
    if run.get("requests") is not None:
        parts.append(f"{plural(run['requests'], 'request')} counted")
    if run.get("duration_s") is not None:
        parts.append(f"{number(run['duration_s'])} s of service")
    if confidence.get("batches") is not None:
        parts.append(f"{plural(confidence['batches'], 'batch')} for the interval")
    if document.get("seed") is not None:
        parts.append(f"seed {document['seed']}")
    lines = [f"{', '.join(parts)}."] if parts else []
    lines += [f"Rule: {confidence['rule']}."] if confidence.get("rule") else []
    return (*lines, *(f"Note: {note}." for note in run.get("notes") or []))


def _judged_ms(row: Document) -> Any:
    return row.get("upper_ms", row.get("value_ms")) if row.get("limit_ms") else None


def _metric(row: Document) -> str:
    return str(row.get("key", "")).partition("_")[2]


def _band(band: list[float] | None) -> list[float] | None:
    return band if band is not None and len(band) == 2 else None


def _statistic(row: tuple[str, float, list[float] | None], judged: Document | None) -> tuple[Cell, ...]:
    name, value, band = row
    between = f"{number(round(band[0], 1))} to {number(round(band[1], 1))} ms" if band else ""
    cells = (text(name), latency(value), text(between))
    if judged is None:
        return (*cells, Cell(""), Cell(""), Cell(""))
    met = judged.get("met")
    limit = Cell(f"≤ {milliseconds(judged.get('limit_ms'))}", judged.get("limit_ms"))
    tone: Tone = "" if met is None else "good" if met else "bad"
    verdict = Cell("" if met is None else "holds" if met else "FAILS", None, tone)
    return (*cells, latency(judged.get("upper_ms")), limit, verdict)


def _spoken(short: str, rows: list[tuple[str, float, list[float] | None]], limits: Mapping[str, float]) -> str:
    said = [f"{name} {milliseconds(value)}" for name, value, _ in rows]
    said += [f"limit of {name} {milliseconds(limit)}" for name, limit in limits.items()]
    return f"{', '.join(said)}." if said else f"No percentile of {short} is known."


def _size(point: Document, limits: Mapping[str, float], chosen: int) -> tuple[Cell, ...]:
    met = point.get("met")
    verdict = "holds" if met else "fails"
    if point["serving"] == chosen:
        verdict += ", chosen"
    if point.get("saturated"):
        verdict += ", saturated"
    figures = [latency(point.get(f"{key}{end}")) for key in limits for end in ("", "_upper")]
    run = "full length" if point.get("full_length") else "shorter"
    state = Cell(verdict, None, "good" if met else "bad")
    return (count(point["serving"]), state, *figures, share(point.get("utilisation")), text(run))


def _gib(size: float) -> Cell:
    return Cell(number(size), size)


def _of(size: float, usable: float | None) -> Cell:
    return share(size / usable) if usable else Cell("")


def _argument(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
