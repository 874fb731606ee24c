"""economics() of a scenario: what its plan earns, what waiting costs, and what would make it earn more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.deployment import Progress
from planner.economics.bases import ListPrice
from planner.errors import ScenarioError
from planner.planning import plan
from planner.provenance import Provenance, with_origins
from planner.scenario import Scenario
from planner.sizing.autoscaled import refuse_autoscaler
from planner.studies.best_slo import best_slo
from planner.studies.chosen import pinned
from planner.studies.fleet_runs import fleet_runs
from planner.studies.levers import levers
from planner.studies.reconcile import reconcile
from planner.summary.economics import economics_text
from planner.workload import peak_and_day

FROM_PLAN = (
    "schema_version",
    "scenario",
    "seed",
    "feasible",
    "model",
    "fleet",
    "day",
    "cost",
    "cost_lines",
    "revenue",
    "margin",
    "break_even",
    "break_even_after_training",
    "economics_notes",
    "alternatives",
    "provenance",
)


@dataclass(frozen=True)
class ScenarioEconomics:
    """The answer of `economics` for a scenario.

    `document` has the plan's own money under the plan's names, and `best_slo`, `levers`, `bases`, `gaps`; each null
    (or empty) where it was not asked for or cannot be told.
    """

    document: dict[str, Any] = field(repr=False)

    @property
    def feasible(self) -> bool:
        """Whether any fleet holds the service levels."""
        return bool(self.document["feasible"])

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return economics_text(self.document)


def economics(
    scenario: Scenario,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
    bases: bool = False,
    price: ListPrice | None = None,
    mfu: float | None = None,
    records: Path | None = None,
) -> ScenarioEconomics:
    """Plan the scenario, then answer what else an owner asks of its money.

    `bases` lays the four cost bases side by side (`planner.studies.reconcile`, which reads `price`, `mfu` and
    `records`). Raises InputErrors; a scenario without a GPU price is one, and so is one without an SLO.
    """
    given = scenario.prices
    if given.gpu_hour_usd is None and given.commitments is None and given.own is None:
        raise ScenarioError("prices.gpu_hour_usd", None, "is required: economics holds what a query costs against it")
    refuse_autoscaler(scenario, "economics holds fleets of one size against each other: its day is planner plan's")
    document = plan(scenario, seed=seed, requests=requests, progress=progress, worlds=0).as_dict()
    scenario = peak_and_day(scenario)
    answer: dict[str, Any] = {key: document[key] for key in FROM_PLAN}
    answer |= {"best_slo": None, "levers": None, "bases": [], "gaps": [], "denominators": []}
    if not document["feasible"]:
        return ScenarioEconomics(answer)
    chosen = pinned(scenario, document)
    runs = fleet_runs(chosen, seed, requests)
    answer["best_slo"] = best_slo(chosen, document, runs, progress)
    answer["levers"] = levers(scenario, chosen, document, runs, requests=requests, progress=progress)
    if bases:
        answer |= reconcile(scenario, chosen, document, runs, price=price, mfu=mfu, records=records)
    answer["provenance"] = with_origins(document["provenance"], _assumed(answer))
    return ScenarioEconomics(answer)


def _assumed(answer: dict[str, Any]) -> Iterator[Provenance]:
    """What the studies take to be so and the scenario does not say."""
    for basis in answer["bases"]:
        for words in basis["assumed"]:
            yield Provenance(f"cost basis: {basis['name']}", "assumed", words, errs="unknown")
    if answer["levers"]["smaller_models"]["rows"]:
        why = "a smaller model is taken to answer in as many tokens, and as well"
        yield Provenance("lever: smaller models", "assumed", why, errs="optimistic")
    if answer["levers"]["skip_llm"]["without_others"] is not None:
        why = "queries without ads are taken to be like the others, and their users to stay without an answer"
        yield Provenance("lever: no model for queries without ads", "assumed", why, errs="optimistic")
    if answer["levers"]["skip_llm"]["threshold_usd_per_query"] is not None:
        why = "one more query is taken to need no more of the fleet's staff"
        yield Provenance("lever: cost of one more query", "assumed", why, errs="optimistic")
    if answer["best_slo"] is not None:
        why = "simulated at a few loads of the day, between them linear; the margin has one top over the fleet sizes"
        yield Provenance("best service level: users who leave", "assumed", why, errs="unknown")
