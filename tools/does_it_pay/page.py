"""The page, made of kept results alone. Every number in it is formatted from them, and so is every verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.summary.words import limit_name, milliseconds, number, percent, plural, usd
from tools.does_it_pay.doubts import assumed, doubts
from tools.does_it_pay.other_inputs import break_even, response_cache, revenues, what_matters
from tools.does_it_pay.words import (
    CANNOT,
    DOES_NOT,
    PAYS,
    SURE,
    billions,
    money_span,
    percent_span,
    revenue_span,
    section,
    several,
    table,
    verdict,
    wrapped,
)

Row = Mapping[str, Any]
FIRST_WORD = {PAYS: "Yes", DOES_NOT: "No", CANNOT: "That cannot be said"}
VERB = {PAYS: "pays for itself", DOES_NOT: "does not pay for itself", CANNOT: "may or may not pay for itself"}


def page(found: Row) -> str:
    """The whole page."""
    sections = (
        answer,
        figures,
        response_cache,
        break_even,
        revenues,
        what_matters,
        doubts,
        assumed,
        commands,
    )
    return "\n".join(made(found) for made in sections)


def answer(found: Row) -> str:
    """The title, the answer, dense against mixtures, the rule of the verdict, the picture."""
    options = found["options"]
    asked = found["scenario"]["query"]["response_cache"]["hit_rate"]
    at = f"on H100s at {usd(options[0]['gpu_hour_usd'])} an hour, with {percent(asked)} of the queries cached"
    parts = [
        "# Does an AI search query pay for itself in 2026 on H100s?",
        "Made by `python -m tools.does_it_pay`; a test compares.",
        wrapped(f"**{_does_it(options, at)}** {_earned_and_spent(options)}"),
        wrapped(_dense_or_mixture(options)),
        wrapped(
            f'"Pays" is said of a model where the margin is above 0 in at least {percent(SURE)} of the draws, "does '
            f'not pay" where it is in at most {percent(1 - SURE)}, and "cannot be said" between. The margin is revenue '
            "less GPUs, spare ones included, and less the search that the model reads. Staff, training, traffic and "
            "taxes are not in it, and how well a model answers is not modelled."
        ),
        "![Cost and revenue of a query by model, 80 % intervals on a logarithmic axis](does-it-pay.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _does_it(options: Sequence[Row], at: str) -> str:
    """The answer in a sentence; one for each model where they differ."""
    chances = {option["model"]: option["uncertainty"]["p_margin_positive"] for option in options}
    verdicts = {verdict(chance) for chance in chances.values()}
    if len(verdicts) > 1:
        each = [f"{model}: {verdict(chance)} ({percent(chance)})" for model, chance in chances.items()]
        return f"It depends on the model, {at}; by the probability that the margin is above 0, {several(each)}."
    said = verdicts.pop()
    sure = percent_span(list(chances.values()))
    return (
        f"{FIRST_WORD[said]}: {at}, an AI search query {VERB[said]} on each of the {len(options)} models asked; its "
        f"margin is above 0 with a probability of {sure}."
    )


def _earned_and_spent(options: Sequence[Row]) -> str:
    search = [option["usd_per_query"] - option["gpu_usd_per_query"] for option in options]
    return (
        f"It earns {usd(options[0]['revenue_usd_per_query'])} (80 % interval {money_span(revenue_span(options[0]))}) "
        f"and costs {money_span([option['usd_per_query'] for option in options])}, of which "
        f"{money_span([option['gpu_usd_per_query'] for option in options])} are GPUs and {money_span(search)} the "
        f"search that the model reads. {_where_it_ends(options)}"
    )


def _where_it_ends(options: Sequence[Row]) -> str:
    """The query RPM that is needed, and the probability at the least revenue that a source gives."""
    needed = money_span([option["break_even"]["rpm_usd"] for option in options])
    chances = [option["least_revenue"]["p_margin_positive"] for option in options]
    verdicts = several(sorted({f'"{verdict(chance)}"' for chance in chances}))
    least = options[0]["least_revenue"]["usd_per_query"]
    return (
        f"1,000 queries must earn {needed}: where they earn {usd(1000 * least)}, as with an ad on one answer in five, "
        f"the probability is {percent_span(chances)}, which is {verdicts}."
    )


def _dense_or_mixture(options: Sequence[Row]) -> str:
    """Mixtures of experts against the dense model, by the GPUs that they take."""
    dense = next(option for option in options if not option["mixture"])
    mixtures = [option for option in options if option["mixture"]]
    gpus = [option["fleet"]["gpus"] for option in mixtures]
    own = dense["fleet"]["gpus"]
    said = "A mixture of experts is not cheaper as such"
    if max(gpus) < own:
        said = "The mixtures of experts are cheaper"
    elif min(gpus) >= own:
        said = "The mixtures of experts are no cheaper"
    each = [
        f"{option['model']} {number(option['fleet']['gpus'])} ({billions(option['active_parameters'])} billion of "
        f"{billions(option['total_parameters'])})"
        for option in mixtures
    ]
    return (
        f"{said}: dense {dense['model']} takes {number(own)} GPUs, {several(each)}. In parentheses: the parameters "
        "that a token passes, of all of them; of the dense model it passes all "
        f"{billions(dense['active_parameters'])} billion."
    )


def figures(found: Row) -> str:
    """One column a model."""
    options = found["options"]

    def sure(key: str) -> list[Any]:
        return [option["uncertainty"][key] for option in options]

    rows = [
        ["GPUs, spare ones included", *map(_gpus, options)],
        ["cost of a query", *(usd(option["usd_per_query"]) for option in options)],
        ["… of it GPUs", *(usd(option["gpu_usd_per_query"]) for option in options)],
        ["… 80 % interval", *map(_interval, sure("usd_per_query"))],
        ["share of revenue", *(percent(option["margin"]["cost_share_of_revenue"]) for option in options)],
        ["margin of a query", *(usd(option["margin"]["usd_per_query"]) for option in options)],
        ["… 80 % interval", *map(_interval, sure("margin_usd_per_query"))],
        ["… of a fleet sized for each draw", *(_interval(part["margin_usd_per_query"]) for part in sure("resized"))],
        ["P(margin > 0)", *map(percent, sure("p_margin_positive"))],
        ["P(limits held)", *map(percent, sure("p_slo_held"))],
        ["P(both)", *map(percent, sure("p_both"))],
        ["GPUs that suffice in 50, 90, 99 % of the draws", *map(_enough, options)],
        ["cost of a query with those of 90, 99 %", *map(_sized, options)],
        ["verdict", *(f"**{verdict(chance)}**" for chance in sure("p_margin_positive"))],
    ]
    limits = [f"{limit_name(key)} {_limit(value)}" for key, value in found["scenario"]["slo"].items()]
    said = (
        f"For {number(found['scenario']['traffic']['peak_qps'])} queries/s in the busiest hour within "
        f"{several(limits)}. The planned fleet is the smallest that holds "
        "these limits with everything as stated, so in many draws it does not: P(limits held). The fleets further down "
        "do, and their price is the cost of being sure. P(margin > 0) is of the queries that the fleet carries within "
        "the limits."
    )
    return section("The figures", wrapped(said), table(["", *map(_head, options)], rows))


def commands(found: Row) -> str:
    """What reproduces the page."""
    doubt = ", ".join(f"{key}: {value}" for key, value in found["uncertainty"].items())
    hit_rate = found["scenario"]["query"]["response_cache"]["hit_rate"]
    plans, others = [], []
    for option in found["options"]:
        own = f"examples/ai-search-h100.yaml --set model={option['model']} --set quantization={option['quantization']}"
        asked = f"planner plan {own} --set 'uncertainty={{{doubt}}}'"
        least = option["least_revenue"]["usd_per_query"]
        plans += [asked, f"{asked} --set 'revenue={{ads: {{usd_per_query: {least:g}}}}}'"]
        others.append(f"planner sweep {own} --vary hit_rate=0,{hit_rate}")
        others.append(f"planner economics {own}")
    fees = ",".join(f"{fee['usd']:g}" for fee in found["retrieval"])
    others.append(f"planner sweep examples/ai-search-h100.yaml --vary retrieval_usd_per_query={fees}")
    return section("The commands", "\n".join(["```", *plans, *others, "python -m tools.does_it_pay", "```"]))


def _limit(rule: str) -> str:
    """ "≤ 1,000 ms"."""
    return f"≤ {milliseconds(float(rule.removeprefix('<=')))}"


def _head(option: Row) -> str:
    kind = "mixture" if option["mixture"] else "dense"
    fleet = option["fleet"]
    return f"{option['model']} ({kind}, {fleet['quantization']}, TP {fleet['tensor_parallel_size']})"


def _gpus(option: Row) -> str:
    fleet = option["fleet"]
    return f"{number(fleet['gpus'])} ({plural(fleet['replicas'], 'replica')}, {number(fleet['spare_replicas'])} spare)"


def _interval(span: Mapping[str, float]) -> str:
    return f"{usd(span['p10'])} to {usd(span['p90'])}"


def _enough(option: Row) -> str:
    """Quantiles of the GPUs needed, and what a whole plan says of the draw behind the last."""
    gpus, tail = option["uncertainty"]["gpus"], option["uncertainty"]["tail_planned_gpus"]
    told = ", ".join(number(gpus[key]) for key in ("p50", "p90", "p99"))
    return told if tail == gpus["p99"] else f"{told} (a whole plan of that draw: {number(tail)})"


def _sized(option: Row) -> str:
    """The cost of a query with the GPUs that suffice in 90 and 99 % of the draws, load and price as stated."""
    a_gpu = option["gpu_usd_per_query"] / option["fleet"]["gpus"]
    enough = [option["uncertainty"]["gpus"][key] for key in ("p90", "p99")]
    search = option["usd_per_query"] - option["gpu_usd_per_query"]
    return ", ".join(usd(None if gpus is None else search + gpus * a_gpu) for gpus in enough)
