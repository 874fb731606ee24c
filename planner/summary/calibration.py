"""What `planner calibrate` and `planner validate --records` print."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.service import warning_lines
from planner.summary.words import milliseconds, number, percent

Document = dict[str, Any]
PART_NAMES = {
    "step": "engine step",
    "tokens": "tokens",
    "sequences": "sequences",
    "experts": "experts",
    "decode_attention": "decode attention",
    "prefill_attention": "prefill attention",
    "prefill_step": "prefill step",
    "frontend": "API server",
    "frontend_token": "tokenizer",
}
ENDINGS = {  # of a run, where it says that something is missing
    None: "",
    "complete": "",
    "interrupted": "{} was interrupted: answers that it cut off count as failed.",
    "failed": "{}: its load test failed before its end.",
    "killed": "{} has no end: its load test was killed or the file cut off. It is used as far as it goes; what was in "
    "flight then is not in it.",
}
FIGURE_NAMES = {
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "itl_ms": "ITL",
    "e2e_ms": "E2E",
    "request_throughput": "requests/s",
    "output_throughput": "output tokens/s",
}


def calibration_text(document: Document) -> str:
    """The parts of the step cost with their intervals, and how well they repeat the runs they were fitted to."""
    of = document["deployment"]
    told = [one for one in document["coefficients"] if one["status"] == "calibrated"]
    kept = [PART_NAMES[one["part"]] for one in document["coefficients"] if one["status"] == "kept"]
    requests = sum(record["answered"] for record in document["records"])
    lines = [
        f"Calibrated: {of['model']} {of['quantization']} on {of['hardware']}, vLLM {of['vllm_version']}, from "
        f"{number(len(document['records']))} runs, {number(requests)} answered requests"
    ]
    cells = [["", "seconds", "95 % interval", "× the planner's", "of its time", "for"]]
    cells += [_part_row(one) for one in told]
    lines += section("Step cost by part", table(cells, "<>>>><"))
    if kept:
        said = f"Kept as the planner has them, being small in these runs: {', '.join(kept)}."
        lines += paragraph(said, "  ")
    for record in document["records"]:
        lines += paragraph(ENDINGS[record.get("ended")].format(record["file"]), "  ")
    if document.get("kv_cache_tokens"):
        lines += paragraph(f"KV cache: {number(document['kv_cache_tokens'])} tokens, as the server reported.", "  ")
    cells = [["run", "figure", "measured", "simulated", "error"]]
    for residual in document["residuals"]:
        cells += figure_rows(residual["run"], residual["figures"])
    lines += section("The runs again, simulated with this calibration", table(cells, "<<>>>"))
    return "\n".join(lines)


def comparison_text(document: Document) -> str:
    """Every figure of every run, measured and simulated."""
    lines: list[str] = []
    for run in document["runs"]:
        words = "calibrated" if run["calibrated"] else "not calibrated"
        lines += [f"{run['run']}: {run['model']} on {run['hardware']}, {number(run['requests'])} requests, {words}"]
        lines += warning_lines(run)
        cells = [["", "figure", "measured", "simulated", "error"], *figure_rows("", run["figures"])]
        cache = run["kv_cache_tokens"]
        if cache["reported"]:
            error = cache["simulated"] / cache["reported"] - 1.0
            cells.append(["", "KV cache tokens", number(cache["reported"]), number(cache["simulated"]), signed(error)])
        lines += table([row[1:] for row in cells], "<>>>")
        lag = run["send_lag_ms"]
        lines += paragraph(f"send lag p50 {milliseconds(lag['p50'])}, p99 {milliseconds(lag['p99'])}", "  ")
        lines += paragraph(ENDINGS[run["ended"]].format(run["run"]), "  ")
        for reason in run["invalid"]:
            lines += paragraph(f"INVALID: {reason}", "  ")
        lines += [""]
    errors = document["median_absolute_error"]
    shown = [f"{figure_name(name)} {percent(value)}" for name, value in errors.items() if _headline(name)]
    lines += paragraph(f"Median error over {number(len(document['runs']))} runs: {', '.join(shown)}.", "")
    return "\n".join(lines)


def figure_rows(run: str, figures: Document) -> list[list[str]]:
    """One line a figure; the run's name on the first."""
    rows = []
    for place, (name, pair) in enumerate(figures.items()):
        show = milliseconds if "_ms" in name else number
        cells = [figure_name(name), show(pair["measured"]), show(pair["simulated"]), signed(pair["error"])]
        rows.append([run if place == 0 else "", *cells])
    return rows


def figure_name(name: str) -> str:
    """A dotted figure name in words: "TTFT p50"."""
    figure, _, statistic = name.partition(".")
    return f"{FIGURE_NAMES.get(figure, figure)} {statistic}".strip()


def signed(error: float) -> str:
    """A relative error with its sign."""
    return f"+{percent(error)}" if error > 0 else percent(error)


def _headline(name: str) -> bool:
    return name.endswith(".p50") or name == "request_throughput"


def _part_row(one: Document) -> list[str]:
    seconds = one["seconds"]
    low, high = (one[end] / one["factor"] * seconds * 1e3 for end in ("low", "high"))
    return [
        PART_NAMES[one["part"]],
        milliseconds(seconds * 1e3),
        f"{milliseconds(low).removesuffix(' ms')} to {milliseconds(high)}",
        number(one["factor"]),
        percent(one["largest_share"]),
        one["reference_at"],
    ]
