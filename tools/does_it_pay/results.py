"""What the page rests on: every option planned, asked how sure it is, and planned again with other inputs.

The answer is plain data, so that the page can be made of it again without planning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from planner.catalogue.models import model as find_model
from planner.catalogue.prices import gpu_hour, prices_table
from planner.economics.cases import shipped
from planner.planning import plan
from planner.scenario import Scenario
from planner.studies.model_sizes import parameters
from planner.studies.scenario_economics import economics
from planner.studies.simulated_cases import answer_case
from planner.studies.sweep import sweep
from planner.studies.uncertainty import with_uncertainty

Document = Mapping[str, Any]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ai-search-h100.yaml"
# Judgements of this page: load as in docs/uncertainty.md; price as far as the rate card's offers lie apart, which
# a test holds; revenue so that 80 % of the draws span what the sources below say of a search and of an answer with ads.
UNCERTAINTY = {"peak_qps_cv": 0.2, "price_cv": 0.6, "revenue_cv": 1.0}
HIT_RATES = (0.0, 0.3)  # without a response cache, and as in the example
QUICK_REQUESTS = 5000  # of the plan that a test repeats
CACHE, RETRIEVAL = "query.response_cache.hit_rate", "prices.retrieval_usd_per_query"
REVENUES = (  # case, step, output
    ("chatgpt-plus", "ads_at_launch", "usd_per_query"),
    ("google-search-2024-2025", "year_2025", "value"),
    ("google-search-2024-2025", "year_2024", "value"),
    ("chatgpt-plus", "ads_later", "usd_per_query"),
    ("google-search-2024-2025", "semianalysis_query", "value"),
    ("chatgpt-plus", "ads_on_a_fifth", "usd_per_query"),
)
SEARCHES = {  # steps of the case api-list-price
    "query_2026_brave": "the list price of a search API (Brave Search)",
    "query_2026": "that of grounding by the model's own maker (Gemini 3)",
}


@dataclass(frozen=True)
class Option:
    """One model in the number format that it is served in."""

    model: str
    quantization: str

    def settings(self) -> dict[str, Any]:
        """What `--set` says."""
        return {"model": self.model, "engine.quantization": self.quantization}


# "auto": as the checkpoint is, mxfp4 and fp8 in blocks.
OPTIONS = (
    Option("llama-3.3-70b", "fp8"),
    Option("gpt-oss-120b", "auto"),
    Option("qwen3-235b-a22b-fp8", "auto"),
)


def results(tell: Callable[[str], None]) -> dict[str, Any]:
    """Everything that the page says, as plain data; `tell` hears what is being done."""
    scenario = Scenario.load(EXAMPLE)
    fees = retrieval_prices()
    earned = revenues()
    least = min(row["usd_per_query"] for row in earned)
    prices = [fee["usd"] for fee in fees]
    return {
        "scenario": scenario.as_dict(),
        "uncertainty": UNCERTAINTY,
        "price": _price(),
        "retrieval": fees,
        "revenues": earned,
        "options": [_option(scenario, option, prices, least, tell) for option in OPTIONS],
    }


def quick(option: Option) -> dict[str, Any]:
    """A short plan of an option, {gpus, usd_per_query}: cheap enough for a test to repeat."""
    scenario = Scenario.load(EXAMPLE).with_values(option.settings())
    document = plan(scenario, requests=QUICK_REQUESTS, worlds=0).as_dict()
    return {"gpus": document["fleet"]["gpus"], "usd_per_query": document["cost"]["usd_per_query"]}


def retrieval_prices() -> list[dict[str, Any]]:
    """What reading the search costs, in USD per query that reaches the model: an own index, then list prices."""
    case = answer_case(shipped("api-list-price")).as_dict()
    steps = {step["id"]: step for step in case["steps"]}
    found = [{"usd": 0.0, "what": "an index of one's own, its cost left out"}]
    for name, what in SEARCHES.items():
        fee = next(item for item in steps[name]["inputs"] if item["name"] == "retrieval_usd_per_query")
        found.append({"usd": fee["value"], "what": what})
    return found


def revenues() -> list[dict[str, Any]]:
    """What a query earns by each source: {case, step, usd_per_query, source}."""
    return [_revenue(*where) for where in REVENUES]


def offers_cv() -> float:
    """Coefficient of variation of the trusted on-demand offers for the example's GPU."""
    table = prices_table()
    mine = (table["gpu"] == "h100-sxm-80gb") & (table["kind"] == "on-demand") & (table["confidence"] != "low")
    rates = [float(rate) for rate in table.loc[mine, "usd_per_gpu_hour"]]
    return stdev(rates) / mean(rates)


def _option(
    scenario: Scenario, option: Option, fees: list[float], least_revenue: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    mine = scenario.with_values(option.settings())
    tell(f"{option.model}: plan")
    asked = mine.with_values({"uncertainty": UNCERTAINTY})
    document = with_uncertainty(plan(asked), asked).as_dict()
    tell(f"{option.model}: the least revenue")
    poor = asked.with_values({"revenue": {"ads": {"usd_per_query": least_revenue}}})
    least = with_uncertainty(plan(poor), poor).as_dict()["uncertainty"]
    tell(f"{option.model}: other inputs")
    levers = economics(mine).as_dict()["levers"]
    model = find_model(option.model)
    size = parameters(model)
    return {
        "model": option.model,
        "quantization": option.quantization,
        "mixture": model.experts is not None,
        "total_parameters": size.total,
        "active_parameters": size.active,
        "quick": quick(option),
        **_planned(document),
        "least_revenue": {"usd_per_query": least_revenue, "p_margin_positive": least["p_margin_positive"]},
        "response_cache": sweep(mine, {CACHE: HIT_RATES}).as_dict()["points"],
        "retrieval": sweep(mine, {RETRIEVAL: fees}).as_dict()["points"],
        "next_query_usd": levers["skip_llm"]["threshold_usd_per_query"],
        "longer_answers": levers["shorter_answers"]["break_even"],
    }


def _planned(document: Document) -> dict[str, Any]:
    """The parts of a plan that the page tells."""
    sure = {key: value for key, value in document["uncertainty"].items() if key != "checked"}
    sure["tail_planned_gpus"] = document["uncertainty"]["checked"][-1]["plan"]["gpus"]  # of the draw behind gpus.p99
    peak, cost = document["at_peak"], document["cost"]
    return {
        "fleet": {key: document["fleet"][key] for key in ("gpus", "replicas", "spare_replicas", "gpus_per_replica")}
        | {key: document["fleet"]["engine"][key] for key in ("quantization", "tensor_parallel_size")},
        "latency_ms": {"p99_ttft": peak["ttft_ms"]["p99"], "p99_tpot": peak["tpot_ms"]["p99"]},
        "uncached_share": _quantity(document, "retrieval") / _queries(document),
        "queries_of_day": _queries(document),
        "gpu_hour_usd": cost["price"]["gpu_hour_usd"],
        "gpu_usd_per_query": 24 * cost["usd_per_hour"] / _queries(document),
        "usd_per_query": cost["usd_per_query"],
        "revenue_usd_per_query": document["revenue"]["usd_per_query"],
        "margin": document["margin"],
        "break_even": document["break_even"],
        "kernels": document["confidence"]["kernel_path"],
        "provenance": [row for row in document["provenance"] if row["kind"] == "assumed"],
        "uncertainty": sure,
    }


def _queries(document: Document) -> float:
    """Queries of a day, cached ones included."""
    return float(sum(hour["queries"] for hour in document["day"]))


def _quantity(document: Document, what: str) -> float:
    """The quantity in the line of the bill that begins with `what`."""
    return float(next(line["quantity"] for line in document["cost_lines"] if line["what"].startswith(what)))


def _price() -> dict[str, Any]:
    price = gpu_hour("h100-sxm-80gb", "on-demand")
    return {**vars(price), "offers_cv": offers_cv()}


def _revenue(name: str, step: str, output: str) -> dict[str, Any]:
    """A revenue per query as a case has it, with its source."""
    case = answer_case(shipped(name))
    source = case.as_dict()["source"]["document"]
    return {"case": name, "step": step, "usd_per_query": case.value(f"{step}.{output}"), "source": source}
