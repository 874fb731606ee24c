"""One plan for every value of one or two keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from planner.catalogue.hardware import gpu_name
from planner.errors import MisfitError, ScenarioError, UnknownNameError, UnsupportedError
from planner.planning import plan
from planner.scenario import Scenario
from planner.scenario.document import full_key
from planner.scenario.yaml_text import parse

if TYPE_CHECKING:
    import pandas as pd

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """`document` = {schema_version, scenario, seed, vary: [{key, values}], points, notes [what is in which figure]}.

    A point is {values {key: value}, feasible, model, hardware, quantization, tensor_parallel_size, gpus, replicas,
    utilisation (at the peak), usd_per_hour, usd_per_query, revenue_usd_per_query, margin_usd_per_query,
    margin_fraction, cost_share_of_revenue, reason, warnings [of its plan]}; what does not apply is None. `reason` says
    why no fleet fits.
    """

    document: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The document, for JSON."""
        return self.document

    def table(self) -> pd.DataFrame:
        """One row for each point: a column for each varied key, then the figures."""
        import pandas as pd

        rows = [
            {**point["values"], **_without(point, "values"), "warnings": "; ".join(point["warnings"])}
            for point in self.document["points"]
        ]
        return pd.DataFrame(rows)


def sweep(
    scenario: Scenario,
    vary: Mapping[str, Sequence[Any]],
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Sweep:
    """Plan for every value of one key, or every pair of values of two, the first key outermost.

    Keys and values are those of `Scenario.with_values`. Every point has the same seed, hence the same random numbers.
    All points are validated before the first is planned, names of GPUs included. A point where nothing fits, or that
    is not modelled or has no price, stays with its reason; any other bad input raises InputError. `progress` is told
    (what, points done, points).
    """
    values_of = {full_key(key): [_value(key, item) for item in values] for key, values in vary.items()}
    if not 1 <= len(vary) <= 2 or len(values_of) < len(vary):
        raise ScenarioError("vary", ", ".join(vary), "must be one key or two different ones")
    for key, choices in values_of.items():
        if not choices:
            raise ScenarioError(key, None, "needs at least one value to vary")
    combinations = [dict(zip(values_of, items, strict=True)) for items in product(*values_of.values())]
    scenarios = [scenario.with_values({key: _text(item) for key, item in values.items()}) for values in combinations]
    for name in {name for changed in scenarios for name in changed.hardware or ()}:
        gpu_name(name)
    points = []
    for index, (values, changed) in enumerate(zip(combinations, scenarios, strict=True)):
        if progress:
            what = ", ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values.items())
            progress(f"planning {what}", index, len(scenarios))
        points.append({"values": values, **planned(changed, seed, requests)})
    return Sweep(
        {
            "schema_version": 1,
            "scenario": scenario.as_dict(),
            "seed": seed,
            "vary": [{"key": key, "values": values} for key, values in values_of.items()],
            "points": points,
            "notes": _notes(scenarios),
        }
    )


def _notes(scenarios: Sequence[Scenario]) -> list[str]:
    """What a figure has in it, and at which rate another currency is read, where all points have the same."""
    notes = []
    if any(scenario.prices.retrieval_usd_per_query > 0 for scenario in scenarios):
        notes.append("USD an hour is the fleet's, retrieval not in it; USD a query and the margin have it")
    rates = {(scenario.prices.currency, scenario.prices.per_usd) for scenario in scenarios}
    code, per_usd = next(iter(rates))
    if len(rates) == 1 and code != "USD":
        notes.append(f"amounts are in USD; 1 USD = {per_usd:g} {code} (prices.exchange_rates)")
    return notes


def _value(key: str, item: Any) -> Any:
    return parse(item, key, item) if isinstance(item, str) else item


def _text(item: Any) -> Any:
    """A value that has been read is not to be read as YAML again."""
    return json.dumps(item) if isinstance(item, str) else item


def planned(scenario: Scenario, seed: int, requests: int | None) -> dict[str, Any]:
    """The figures of a plan without bands; where the only candidate cannot be, those of none with the reason."""
    try:
        return plan_figures(plan(scenario, seed=seed, requests=requests, worlds=0).as_dict())
    except (MisfitError, UnsupportedError, UnknownNameError) as error:
        # The only candidate cannot work, is not modelled, or has no price: in a search it is a rejected one.
        return {**plan_figures({"feasible": False}), "reason": str(error)}


def plan_figures(document: Document) -> dict[str, Any]:
    """What many plans are held beside each other by, under the names of a `Sweep`'s point."""
    fleet, cost = document.get("fleet") or {}, document.get("cost") or {}
    engine, margin = fleet.get("engine") or {}, document.get("margin") or {}
    feasible = bool(document["feasible"])
    return {
        "feasible": feasible,
        "model": document["model"]["name"] if feasible else None,
        "hardware": fleet.get("hardware"),
        "quantization": engine.get("quantization"),
        "tensor_parallel_size": engine.get("tensor_parallel_size"),
        "gpus": fleet.get("gpus"),
        "replicas": fleet.get("replicas"),
        "utilisation": (document.get("at_peak") or {}).get("utilisation"),
        "usd_per_hour": cost.get("usd_per_hour"),
        "usd_per_query": cost.get("usd_per_query"),
        "revenue_usd_per_query": (document.get("revenue") or {}).get("usd_per_query") if feasible else None,
        "margin_usd_per_query": margin.get("usd_per_query"),
        "margin_fraction": margin.get("fraction"),
        "cost_share_of_revenue": margin.get("cost_share_of_revenue"),
        "reason": None if feasible else _reason(list(_reasons(document))),
        "warnings": list(document.get("warnings", ())),
    }


def _reasons(document: Document) -> Iterator[str]:
    for candidate in document.get("alternatives", ()):
        if candidate["reason"]:
            yield candidate["reason"]


def _reason(reasons: list[str]) -> str | None:
    """The first candidate's reason, and how many other candidates there were."""
    if len(reasons) < 2:
        return reasons[0] if reasons else None
    return f"{reasons[0]} (and {len(reasons) - 1} more candidates)"


def _without(point: Document, key: str) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != key}
