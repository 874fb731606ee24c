"""What the page rests on that is not known: laws of the draws, kernels, assumptions, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.summary.words import number, percent, plural, usd
from tools.does_it_pay.words import money_span, revenue_span, section, several, table, wrapped

Row = Mapping[str, Any]
KERNELS = {
    "known": "measured on this GPU",
    "assumed": "stood in for: {}; the rest measured",
    "calibrated": "calibrated by a load test",
}


def doubts(found: Row) -> str:
    """Calibration, the draws, the revenue, the price, the searches."""
    options, price = found["options"], found["price"]
    inputs = {row["name"]: row["law"] for row in options[0]["uncertainty"]["inputs"]}
    calibrated = found["scenario"].get("calibration") is not None
    told = [
        "Calibrated by a load test."
        if calibrated
        else "**Not calibrated**: no load test of any of these deployments "
        "is behind the step times (docs/calibration.md says how to make one). They are the planner's own, "
        "[fitted to measured kernels](step-cost.md); mixtures of experts were judged by [no measured "
        "run](accuracy.md).",
        f"**Price**: {usd(price['usd'])} a GPU-hour on demand, the median of {price['rows']} offers from "
        f"{usd(price['low'])} to {usd(price['high'])}, the newest of {price['date']}. The offers' coefficient of "
        f"variation is {number(price['offers_cv'], 2)}; drawn: {inputs['price']}. Who has a contract knows the "
        f"price: then less is in doubt. Offers: {price['source']}.",
        f"**Revenue**: {usd(options[0]['revenue_usd_per_query'])} is Google Search's revenue of 2025 over its "
        "searches, at most, as these are counted from below. No source says what an AI answer page "
        "earns, so that the law is a judgement of this page: "
        f"{inputs['revenue']}; 80 % of the draws earn {money_span(revenue_span(options[0]))}. The law's median "
        f"is {usd(_median(options[0], found['uncertainty']['revenue_cv']))}, below the stated value, its mean. "
        "Revenue and load are drawn independently.",
        f"**Searches**: {usd(1000 * found['scenario']['prices']['retrieval_usd_per_query'])} a thousand, a list price, "
        "for each query that the cache does not answer. It is not drawn: the table above has other prices.",
        f"**Load**: {inputs['peak_qps']}, a judgement. **Answers**: {inputs['output_tokens']}. **Quality** of answers: "
        "not modelled; the models differ in it.",
    ]
    rows = []
    for option in options:
        sure = option["uncertainty"]
        law = next(row["law"] for row in sure["inputs"] if row["name"] == "step_time")
        stands_in = [row["what"].removeprefix("kernel path: ") for row in option["provenance"] if _is_path(row)]
        kernels = KERNELS[option["kernels"]].format(several(stands_in) if stands_in else "")
        planned = sure["surface"]["candidates"][0]
        off = f"{percent(planned['typical_error_share'])} typically, {percent(planned['error_share'])} rms"
        rows.append([option["model"], kernels, law, off, _checked(sure["surface"]["checked"])])
    widths = {option["model"]: _step_time(option) for option in options}
    ordered = sorted(widths, key=lambda model: widths[model][1] / widths[model][0])
    sure_of, least_sure_of = ordered[0], ordered[-1]
    bands = (
        f"Step time is known least of {least_sure_of} (× {_factors(widths[least_sure_of])} from the 10 % to the 90 % "
        f"world) and best of {sure_of} (× {_factors(widths[sure_of])})."
    )
    head = ["model", "kernels", "step time ×", "draws' surface misses its load by", "against whole plans of ten draws"]
    return section(
        "What is in doubt", "\n".join(f"{_bullet(line)}" for line in told), wrapped(bands), table(head, rows)
    )


def assumed(found: Row) -> str:
    """Every assumption behind the plans, once, with the models it applies to."""
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for option in found["options"]:
        for row in option["provenance"]:
            merged.setdefault((row["what"], row["value"], row["errs"], row["source"]), []).append(option["model"])
    everyone = len(found["options"])
    ordered = sorted(merged.items(), key=lambda item: not item[0][0].startswith("kernel path"))
    rows = [
        [what, value or "–", errs or "–", "all" if len(models) == everyone else several(models), source]
        for (what, value, errs, source), models in ordered
    ]
    said = "Kernels that stand in first; the direction in which the answer then errs where it is known."
    head = ["what", "value", "errs", "models", "source, or why"]
    return section("What is assumed", wrapped(said), table(head, rows))


def _step_time(option: Row) -> tuple[float, float]:
    """Factors on the step time in the 10 % and the 90 % world."""
    row = next(row for row in option["uncertainty"]["tornado"] if row["name"] == "step_time")
    return row["low"], row["high"]


def _factors(ends: tuple[float, float]) -> str:
    return " to ".join(map(number, ends))


def _median(option: Row, cv: float) -> float:
    """Median of a log-normal revenue whose mean is the stated one: mean ÷ √(1 + cv²), USD a query."""
    return float(option["revenue_usd_per_query"] / (1 + cv**2) ** 0.5)


def _is_path(row: Row) -> bool:
    return str(row["what"]).startswith("kernel path: ")


def _checked(checked: Row) -> str:
    """How the draws' surface met plans that were searched in full."""
    return f"{checked['exact']} the same, {plural(checked['gpus']['mean'], 'GPU')} off on average"


def _bullet(text: str) -> str:
    return wrapped(f"- {text}").replace("\n", "\n  ")
