"""The same options with other inputs: no response cache, what breaks even, other revenues, what matters most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.summary.words import capitalised, number, percent, usd
from planner.units import HOURS_PER_DAY
from tools.does_it_pay.words import money_span, section, several, table, wrapped

Row = Mapping[str, Any]
REVENUES = {
    "year_2025": "a Google search in 2025, at most: its searches are counted from below",
    "year_2024": "a Google search in 2024, likewise",
    "semianalysis_query": "a Google search in 2022, by a count of many more searches",
    "ads_at_launch": "an answer with one ad, ChatGPT's ad price of February 2026",
    "ads_later": "an answer with one ad, the price of mid-April 2026",
    "ads_on_a_fifth": "an ad with one answer in five, at that price",
}
INPUTS = {
    "revenue": "revenue of a query",
    "price": "GPU price",
    "peak_qps": "load at the peak",
    "step_time": "step time of the engine",
}


def response_cache(found: Row) -> str:
    """What the response cache takes off GPUs and cost."""
    rows = []
    for option in found["options"]:
        without, given = option["response_cache"]
        saved = without["usd_per_query"] - given["usd_per_query"]
        in_gpus = (without["usd_per_hour"] - given["usd_per_hour"]) * HOURS_PER_DAY / option["queries_of_day"]
        rows.append(
            [
                option["model"],
                f"{number(without['gpus'])} → {number(given['gpus'])}",
                f"{usd(without['usd_per_query'])} → {usd(given['usd_per_query'])}",
                usd(saved),
                usd(in_gpus),
                usd(saved - in_gpus),
                usd(saved * option["queries_of_day"]),
            ]
        )
    ends = [point["values"]["query.response_cache.hit_rate"] for point in found["options"][0]["response_cache"]]
    head = ["model", f"GPUs at {' → '.join(map(percent, ends))}", "cost of a query", "saved"]
    said = "Both ends are whole plans. A cached answer needs neither a GPU nor a search, and still shows its ads."
    return section(
        "What the response cache is worth",
        wrapped(said),
        table([*head, "… in GPUs", "… in searches", "saved a day"], rows),
    )


def break_even(found: Row) -> str:
    """The values at which the margin is 0, each alone."""
    rows = []
    for option in found["options"]:
        even = option["break_even"]
        searches = (option["revenue_usd_per_query"] - option["gpu_usd_per_query"]) / option["uncached_share"]
        rows.append(
            [
                option["model"],
                usd(even["rpm_usd"]),
                f"{usd(even['gpu_hour_usd'])} ({number(even['gpu_hour_usd'] / option['gpu_hour_usd'])} ×)",
                usd(1000 * searches),
                f"{number(even['qps'])} queries/s",
                usd(option["next_query_usd"]),
            ]
        )
    head = ["model", "query RPM, at least", "GPU-hour, at most", "1,000 searches, at most", "peak, at least"]
    said = (
        "The margin is 0 at each of these values alone, the fleet and the rest unchanged; query RPM is what 1,000 "
        "queries earn. The last column is what one more query costs that the cache does not answer: one that earns "
        "less, as queries without ads do, is not worth the model by itself."
    )
    notes = several(sorted({_longer(option["longer_answers"]) for option in found["options"]}))
    table_of = table([*head, "one more query"], rows)
    return section("What would make it not pay", wrapped(said), table_of, wrapped(f"{capitalised(notes)}."))


def _longer(even: Row) -> str:
    """How long answers may be on average, as the levers found it."""
    tokens = even["output_tokens"]
    return even["note"] if tokens is None else f"at {number(tokens)} tokens of answer on average the margin is 0"


def revenues(found: Row) -> str:
    """Each revenue figure that a source gives, against each price of searches."""
    options, fees = found["options"], found["retrieval"]
    rows = []
    for revenue in sorted(found["revenues"], key=lambda row: -row["usd_per_query"]):
        earned = revenue["usd_per_query"]
        costs = [
            {option["model"]: option["retrieval"][place]["usd_per_query"] for option in options}
            for place in range(len(fees))
        ]
        rows.append([REVENUES[revenue["step"]], usd(1000 * earned), *(_left(earned, each) for each in costs)])
    prices = [f"{usd(1000 * fee['usd'])} is {fee['what']}" for fee in fees]
    cases = sorted({row["case"] for row in found["revenues"]} | {"api-list-price"})
    said = (
        "The same by what 1,000 queries earn and 1,000 searches cost: the margin of a query, from the dearest model to "
        f"the cheapest, as point estimates. Of searches, {several(prices)}. Sources: the cases "
        f"{several([f'[{case}](economics-cases.md#{case})' for case in cases])}."
    )
    head = ["a query earns as", "query RPM", *(f"searches at {usd(1000 * fee['usd'])}" for fee in fees)]
    return f"{wrapped(said)}\n\n{table(head, rows)}\n"


def _left(earned: float, costs: Mapping[str, float]) -> str:
    """The margins of the models, and which of them lose money."""
    margins = {model: earned - cost for model, cost in costs.items()}
    losing = [model for model, margin in margins.items() if margin <= 0]
    span = money_span(list(margins.values()))
    if not losing:
        return span
    who = "no model" if len(losing) == len(margins) else f"not {several(losing)}"
    return f"{span}: **{who} pays**" if who == "no model" else f"{span}: **{who}**"


def what_matters(found: Row) -> str:
    """The tornado of every option."""
    rows = []
    for option in found["options"]:
        for row in option["uncertainty"]["tornado"]:
            told = [_ends(row, "gpus_", number), _ends(row, "usd_per_query_", usd), _ends(row, "margin_", usd)]
            rows.append([option["model"], INPUTS[row["name"]], _ends(row, "", number), *told])
    first = sorted({INPUTS[option["uncertainty"]["tornado"][0]["name"]] for option in found["options"]})
    said = (
        "Each input at its 10 % and its 90 % quantile, planned anew, the others at their medians; the widest swing of "
        f"the margin first. Most depends on the {several(first)}."
    )
    return section(
        "What matters most", wrapped(said), table(["model", "input", "×", "GPUs", "cost of a query", "margin"], rows)
    )


def _ends(row: Row, key: str, told: Callable[[float], str]) -> str:
    """A figure at both quantiles; once where it stays."""
    return " – ".join(dict.fromkeys(told(row[f"{key}{end}"]) for end in ("low", "high")))
