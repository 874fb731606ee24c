"""The years ahead in words: the rates, a row for each year, and which part of a stated fall of the cost they are."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.plan import plan_text
from planner.summary.service import demand_words, fleet_words
from planner.summary.words import clean, number, percent, price, usd, with_limit_names

Document = dict[str, Any]
_RATES = (
    ("gpu_price_change", "a GPU-hour's price"),
    ("speed_change", "the steps' speed"),
    ("traffic_change", "the load"),
    ("revenue_change", "what a query earns"),
)
_PARTS = (
    ("gpu_price_per_year", "the price of a GPU-hour, all in"),
    ("gpus_per_query_per_year", "GPUs per query: the steps' speed, batches of another load, whole replicas"),
    ("beside_gpus_per_year", "retrieval, beside the GPUs: its part of the cost grows or shrinks"),
    ("cost_per_year", "the cost of a query: the product of these, each year on average"),
)
_NO_FACTOR = 5e-4  # off 1: not shown


def years_text(document: Document) -> str:
    """The page that `planner economics SCENARIO --years N` prints; of a scenario that no fleet can serve, why."""
    document = clean(document)
    if not document.get("feasible"):
        return plan_text(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    who = fleet_words(document.get("fleet") or {}, document.get("model") or {})
    verb = "serves" if (document.get("fleet") or {}).get("gpus") == 1 else "serve"
    lines += paragraph(f"{who} {verb} {demand_words(scenario) or 'the load'} in year 0.")
    lines += section("Each year, against the year before", _rates(document.get("rates") or {}))
    lines += section("The same model on the same GPU, planned again for every year", _table(document))
    lines += section("Which part of a falling cost this is", _decline(document.get("decline") or {}))
    return "\n".join([*lines, *origin_lines(document.get("provenance") or []), *definition_lines()])


def _rates(rates: Document) -> list[str]:
    rows = []
    for key, what in _RATES:
        rate = rates.get(key) or {}
        if rate.get("per_year") is not None:
            signed = f"{'+' if rate['per_year'] > 0 else ''}{percent(rate['per_year'])}"
            rows.append([what, signed, "given" if rate.get("given") else "assumed"])
    return table(rows, "<><")


def _table(document: Document) -> list[str]:
    found = document.get("years") or []
    stated = ((document.get("decline") or {}).get("stated") or {}).get("factor_per_year")
    trained = any(row.get("break_even_rpm_after_training_usd") is not None for row in found)
    heads = [
        "year",
        "queries/s",
        "GPUs",
        "$/GPU-hour",
        "$/query",
        "" if stated is None else f"÷ {number(stated)} a year",
    ]
    heads += ["margin", "", "least RPM", "after training" if trained else ""]
    rows = [heads]
    for row in found:
        cells = [str(row.get("year", "")), number(row.get("peak_qps"))]
        if not row.get("feasible"):
            rows.append([*cells, "no fleet fits", *[""] * (len(heads) - 3)])
            continue
        margin, after = row.get("margin_usd_per_query"), row.get("break_even_rpm_after_training_usd")
        cells += [number(row.get("gpus")), price(row.get("gpu_hour_usd")), usd(row.get("usd_per_query"))]
        cells += [usd(row.get("usd_per_query_at_stated_decline")), "" if margin is None else usd(margin)]
        cells += ["" if row.get("margin_fraction") is None else percent(row["margin_fraction"])]
        rows.append([*cells, usd(row.get("break_even_rpm_usd")), "" if after is None else usd(after)])
    lines = table(rows, ">" * len(heads))
    for row in found:
        if row.get("reason"):
            lines += paragraph(f"year {row['year']}: {with_limit_names(row['reason'])}", "  ", "    ")
    said = "least RPM: the break-even, what 1,000 queries must earn. A new GPU is not a scaled old one: its memory, "
    said += "bandwidth and FLOP grow in other proportions. Plan it by its own name."
    return [*lines, *paragraph(said, "  ")]


def _decline(found: Document) -> list[str]:
    stated, hardware = found.get("stated") or {}, found.get("hardware") or {}
    factor, gain = stated.get("factor_per_year"), hardware.get("flop_per_usd_gain_per_year")
    if factor is None or gain is None:
        return []
    said = f"A cost that falls to 1/{number(factor)} every year is a forecast ({stated.get('source', '')}). Of it, "
    said += f"better hardware is a factor of {1 + gain:.3g}: FLOP per USD +{percent(gain)} a year "
    said += f"({hardware.get('source', '')}). The other {factor / (1 + gain):.3g} are smaller models of equal quality, "
    said += "software and what sellers ask."
    lines = paragraph(said, "  ")
    if found.get("cost_per_year") is None:
        return lines
    beside = found.get("beside_gpus_per_year")
    shown = beside is not None and abs(beside - 1) >= _NO_FACTOR
    rows = [[_factor(found.get(key)), what] for key, what in _PARTS if key != "beside_gpus_per_year" or shown]
    rows.append(
        [_factor(found.get("left_per_year")), f"not in this table, and needed for 1/{number(factor)} every year"]
    )
    return [*lines, *table(rows, "><")]


def _factor(value: float | None) -> str:
    return "" if value is None else f"× {value:.3f}"
