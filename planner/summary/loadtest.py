"""The answer of `loadtest` in words: the verdict, measured beside simulated, whether to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.summary.layout import facts, paragraph, section, table
from planner.summary.service import broken_limits, demand_words, limit_lines, limits_of, saturation_lines, warning_lines
from planner.summary.words import clean, limit_name, milliseconds, number, percent, plural

Document = dict[str, Any]

ROWS = (
    ("TTFT", "ttft_ms", ("mean", "p50", "p90", "p99")),
    ("TTFT from send", "ttft_from_send_ms", ("p50", "p99")),
    ("TPOT", "tpot_ms", ("mean", "p50", "p90", "p99")),
    ("ITL", "itl_ms", ("p50", "p99")),
    ("E2E", "e2e_ms", ("mean", "p50", "p90", "p99")),
)
RATES = (
    ("queries/s", "query_throughput"),
    ("output tokens/s", "output_throughput"),
    ("goodput [queries/s]", "goodput_rps"),
)


def loadtest_text(document: Document) -> str:
    """Verdict, limits, measured beside simulated, validity, failures, the server's own figures, records."""
    document = clean(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(verdict(document))
    for reason in document.get("invalid") or []:
        lines += paragraph(f"INVALID: {reason}", "  ", "    ")
    gone = (document.get("server") or {}).get("gone")
    if gone:
        lines += paragraph(f"THE SERVER WAS GONE when the run ended: {gone}", "  ", "    ")
    lines += warning_lines(document)
    lines += saturation_lines(document)
    if document.get("valid") is False:
        lines += section("Limits (an invalid run judges none)", _limits_unjudged(document))
    else:
        lines += section("Limits (judged by the measured figure)", limit_lines(limits_of(scenario, document)))
    simulated = document.get("simulated")
    title = "Measured beside simulated, the same arrivals and lengths" if simulated else "Measured"
    lines += section(f"{title} [latencies in ms]", measured_lines(document, simulated))
    if not simulated:
        why = document.get("not_simulated") or "no reason known"
        lines += paragraph(f"Not simulated: {why}", "  ", "    ")
    if document.get("not_compared"):
        lines += paragraph(f"No errors are given: {document['not_compared']}.", "  ", "    ")
    lines += section("Can it be believed", validity_lines(document))
    lines += section("Failures", failure_lines(document))
    lines += section("The server's own figures, warm-up included", server_lines(document))
    lines += section("The run", run_lines(document))
    return "\n".join([*lines, "", *definitions()])


def verdict(document: Document) -> str:
    """One sentence: whether the limits hold by what was measured."""
    demand = demand_words(document.get("scenario") or {})
    where = f"{document.get('host', 'the server')}{f' under {demand}' if demand else ''}"
    broken = broken_limits(document)
    if (document.get("server") or {}).get("gone"):
        where += ", GONE when the run ended"
    if not document.get("requests"):
        return f"{where}: NOTHING was answered."
    if document.get("valid") is False:
        return f"{where}: the run is INVALID, so nothing is judged."
    if document.get("slo_met"):
        return f"{where}: every limit HOLDS, measured."
    if broken:
        return f"{where}: {' and '.join(broken)} {'FAILS' if len(broken) == 1 else 'FAIL'}, measured."
    if document.get("saturated"):
        return f"{where}: more arrives than it serves, measured."
    return f"{where}: measured; no limits given (slo), so nothing is judged."


def measured_lines(document: Document, simulated: Document | None) -> list[str]:
    """measured | simulated | 80 % band | error, a row a figure."""
    bands = (simulated or {}).get("band80") or {}
    errors = document.get("errors") or {}
    rows = [
        ["", "", "measured", "simulated" if simulated else "", "80 % band" if bands else "", "error" if errors else ""]
    ]
    for name, key, statistics in ROWS:
        told = [statistic for statistic in statistics if (document.get(key) or {}).get(statistic) is not None]
        for statistic in told:
            said = ((simulated or {}).get(key) or {}).get(statistic)
            shown = name if statistic == told[0] else ""
            rows.append(_row(shown, statistic, document[key][statistic], said, f"{key}.{statistic}", bands, errors))
    for name, key in RATES:
        if document.get(key) is not None and not (key == "goodput_rps" and not document.get("slo")):
            rows.append(_row(name, "", document[key], (simulated or {}).get(key), key, bands, errors))
    for name, key, words in (
        ("KV cache [tokens]", "kv_cache_tokens", number),
        ("prefix cache hits", "prefix_cache_hit_rate", percent),
    ):
        value, said = document.get(key), (simulated or {}).get(key)
        if value is not None:
            rows.append([name, "", words(value), "" if said is None else words(said), "", ""])
    return table(rows, "<<>>>>")


def _row(
    name: str,
    statistic: str,
    value: float,
    said: float | None,
    key: str,
    bands: Mapping[str, Any],
    errors: Mapping[str, float],
) -> list[str]:
    band = bands.get(key)
    around = f"{number(band[0])} to {number(band[1])}" if band else ""
    error = errors.get(key)
    off = "" if error is None else f"{'+' if error > 0 else ''}{percent(error)}"
    return [name, statistic, number(value), "" if said is None else number(said), around, off]


def validity_lines(document: Document) -> list[str]:
    """Send lag, client CPU, how the run ended."""
    lag, cpu = document.get("send_lag_ms") or {}, document.get("client_cpu") or {}
    said = "valid" if document.get("valid") else "INVALID: its figures must not be used"
    ended = document.get("ended")
    said += "" if ended in (None, "complete") else f"; the run was {ended}"
    if (document.get("server") or {}).get("gone"):
        said += " for the load tester's part; the server was GONE when the run ended"
    return facts(
        [
            ("verdict", said),
            (
                "send lag",
                f"p50 {milliseconds(lag.get('p50'))}, p99 {milliseconds(lag.get('p99'))}, "
                f"most {milliseconds(lag.get('max'))} behind the schedule"
                if lag
                else "",
            ),
            ("client CPU", f"at most {percent(cpu['busy_max'])} of a core" if "busy_max" in cpu else ""),
            ("not sent", plural(document["unsent"], "request") if document.get("unsent") else ""),
        ]
    )


def failure_lines(document: Document) -> list[str]:
    """Requests that failed, by reason; each query with one misses every limit."""
    failures = document.get("failures") or {}
    rows = [[number(count), reason] for reason, count in failures.items()]
    return table(rows, "><")


def _limits_unjudged(document: Document) -> list[str]:
    rows = []
    for limit in limits_of(document.get("scenario") or {}, document):
        name = limit_name(limit.get("key", "limit"))
        rows.append([name, f"≤ {milliseconds(limit.get('limit_ms'))}", milliseconds(limit.get("value_ms"))])
    return table([["", "limit", "measured"], *rows], "<>>") if rows else limit_lines([])


def server_lines(document: Document) -> list[str]:
    """What the server said of itself and did meanwhile, by its own metrics."""
    server = document.get("server") or {}
    if server.get("restarted"):
        return paragraph("it was RESTARTED during the run: its counters fell", "  ")
    usage = server.get("kv_cache_usage") or {}
    times = [
        f"{name} {milliseconds(server[key])}"
        for name, key in (
            ("queue", "queue_mean_ms"),
            ("prefill", "prefill_mean_ms"),
            ("decode", "decode_mean_ms"),
            ("TTFT", "ttft_mean_ms"),
        )
        if server.get(key) is not None
    ]
    running = server.get("running") or {}
    waiting = server.get("waiting") or {}
    return facts(
        [
            ("vLLM", _joined([server.get("version"), _engines(server.get("engines"))])),
            (
                "requests",
                _joined([f"{number(server['requests_finished'])} finished" if "requests_finished" in server else None]),
            ),
            ("mean times", ", ".join(times)),
            (
                "steps",
                _joined(
                    [
                        number(server["steps"]) if "steps" in server else None,
                        f"{number(server['step_tokens_mean'])} tokens each" if "step_tokens_mean" in server else None,
                    ]
                ),
            ),
            (
                "batch",
                _joined(
                    [
                        f"{number(running['mean'])} running on average, {number(running['max'])} at most"
                        if running
                        else None,
                        f"{number(waiting['max'])} waiting at most" if waiting else None,
                    ]
                ),
            ),
            (
                "KV cache",
                f"{percent(usage['mean'])} in use on average, {percent(usage['max'])} at most" if usage else "",
            ),
            ("preemptions", number(server["num_preemptions"]) if "num_preemptions" in server else ""),
        ]
    )


def run_lines(document: Document) -> list[str]:
    """Length, seed, where the records are."""
    parts = []
    if document.get("requests") is not None:
        queries = f" of {plural(document.get('queries'), 'query')}" if document.get("queries") is not None else ""
        parts.append(f"{plural(document['requests'], 'request')}{queries} counted")
    if document.get("cut_off"):
        by = "by you" if document.get("ended") == "interrupted" else "when the run was stopped"
        parts.append(f"{plural(document['cut_off'], 'request')} cut off {by} and not counted")
    if document.get("duration_s") is not None:
        parts.append(f"{number(document['duration_s'])} s")
    if document.get("seed") is not None:
        parts.append(f"seed {document['seed']}")
    lines = paragraph(", ".join(parts), "  ") if parts else []
    if document.get("records"):
        lines.append(f"  records: {document['records']}")  # not wrapped: a path is copied
    for note in document.get("notes") or []:
        lines += paragraph(f"Note: {note}", "  ", "    ")
    return lines


def definitions() -> list[str]:
    """What the names mean."""
    return paragraph(
        "TTFT and E2E run from the scheduled arrival; TPOT = (E2E − TTFT) / (output tokens − 1); ITL are the gaps "
        "between streamed events. Failed queries miss every limit and have no latency. "
        "error = simulated ÷ measured − 1."
    )


def broken_words(document: Document) -> str:
    """The limit that is exceeded most, or why the run is no answer."""
    if document.get("valid") is False:
        return f"no valid run: {'; '.join(document.get('invalid') or [])}"
    if document.get("saturated"):
        return "saturated: more arrives than is served"
    worst, by = "", 0.0
    for check in document.get("slo") or []:
        if check["met"]:
            continue
        value = check["value_ms"]
        over = float("inf") if value is None else value / check["limit_ms"]
        if over > by:
            said = "not finite: too many queries failed" if value is None else milliseconds(value)
            worst, by = f"{limit_name(check['key'])} {said} > {milliseconds(check['limit_ms'])}", over
    return worst


def _engines(count: int | None) -> str | None:
    return plural(count, "engine") if count is not None and count > 1 else None


def _joined(parts: list[str | None]) -> str:
    return ", ".join(part for part in parts if part)
