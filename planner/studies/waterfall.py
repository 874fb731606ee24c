"""What each option of a scenario takes off the fleet and off the cost of a query, one after the other.

The baseline is the scenario without its options: no response cache, no prefix cache, bf16 weights, vLLM's own batching
limits, for a mixture of experts a dense model, one engine a replica, the default routing, everybody let in, no spare
replica, no autoscaler. The options then come back in a stated order.
Every row is a plan of its own. The last one is the plan that the waterfall belongs to, so what the rows remove adds up
to the baseline less that plan. Each option is also tried alone on the baseline: options work on each other (a query
that the response cache answers needs no prefix cache), and the difference between the two is shown as interaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from planner.catalogue.hardware import gpu_name
from planner.catalogue.models import model as find_model
from planner.deployment import Progress
from planner.planning import Plan
from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.studies.added import added
from planner.studies.chosen import with_read_values
from planner.studies.sweep import plan_figures, planned
from planner.studies.waterfall_option import Option, choice_words
from planner.studies.waterfall_options import options_of

Document = Mapping[str, Any]
Row = dict[str, Any]
ROUNDING = 1e-12  # of what both came from: less between two sums of floats is no difference
MOST_HARDWARE = 3  # kinds of GPU that the rows choose among: the plan's own and the next cheapest
LEFT_OUT = "left out"
BASELINE = "baseline"
AS_IT_IS = "the scenario as it is: it uses no option that could be taken away"


def with_waterfall(
    answer: Plan,
    scenario: Scenario,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The same plan with its waterfall; arguments as of `waterfall`."""
    document = answer.as_dict()
    rows = waterfall(scenario, document, seed=seed, requests=requests, progress=progress)
    named = {find_model(name, scenario.base).name for name in scenario.model}
    against = {row["model"] for row in rows if row["model"] is not None} - named
    origins = []
    if against:
        why = "not given: the dense model that the mixture of experts is held against is chosen by its size"
        origins.append(Provenance("waterfall: dense model", "assumed", why, ", ".join(sorted(against)), errs="unknown"))
    if rows and scenario.calibration is not None:
        why = "the calibration is of the plan's own engine: rows of another have the planner's own step cost"
        origins.append(Provenance("waterfall: rows that are not calibrated", "assumed", why, errs="unknown"))
    return added(answer, "waterfall", rows, origins)


def waterfall(
    scenario: Scenario,
    document: Document,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """The rows of a plan's `waterfall`, the baseline first; none where the plan is not feasible.

    `document` is the plan of `scenario` with this `seed` and `requests`. A row is {step, what, set {key: value},
    feasible, reason, model, hardware, quantization, gpus, usd_per_hour, usd_per_query, warnings [of the row's plan],
    removed {gpus, usd_per_query}, alone {gpus, usd_per_query, removed}, interaction {gpus, usd_per_query}}. `removed`
    is the feasible row before less this one, `alone` the base with this option only, `interaction` = removed −
    alone.removed. The base is the first feasible row. An option that is left out has `feasible` None and its reason.
    `progress(what, done, total)` is told as plans are made.
    """
    if not document["feasible"]:
        return []
    given = scenario.hardware or ()
    scenario = _fewer_kinds_of_hardware(scenario, document)
    options = options_of(scenario, document)
    used = [option for option in options if not option.unused]
    planner = _Planner(scenario, used, seed, requests, plan_figures(document), progress)
    planner.expect(2 * len(used))
    words = ", ".join(option.lacking for option in used) or AS_IT_IS
    if scenario.hardware and len(scenario.hardware) < len(given):
        words += f"; every row chooses among {choice_words(list(scenario.hardware))}"
    rows = [_row(Option(BASELINE, words, planner.without(used)), planner.figures(()))]
    base = 0 if rows[0]["feasible"] else None
    applied: list[Option] = []
    for option in options:
        if option.unused:
            rows.append(_left_out(option))
            continue
        applied.append(option)
        row = _row(option, planner.figures(tuple(applied)))
        before = next((earlier for earlier in reversed(rows) if earlier["feasible"]), None)
        if base is None:
            if row["feasible"]:
                base = len(applied)
        elif row["feasible"] and before is not None:
            row["removed"] = _less(before, row)
            _stand_alone(row, next(one for one in rows if one["feasible"]), planner, applied[:base], option)
        rows.append(row)
    return rows


# --- the plans ---


@dataclass
class _Planner:
    """Plans the scenario with some of its options; the plan with all of them is known already."""

    scenario: Scenario
    used: list[Option]
    seed: int
    requests: int | None
    whole: Row
    tell: Progress | None
    done: int = 0
    total: int = 0
    known: dict[frozenset[str], Row] = field(default_factory=dict)

    def expect(self, plans: int) -> None:
        self.total = plans

    def without(self, options: list[Option]) -> dict[str, Any]:
        """What the scenario has in place of these options; of a key that two of them set, the first one's value."""
        return {key: option.without.get(key) for option in reversed(options) for key in option.values}

    def figures(self, applied: tuple[Option, ...]) -> Row:
        """The figures of the scenario with these of its options alone."""
        names = frozenset(option.step for option in applied)
        if names == {option.step for option in self.used}:
            return self.whole
        if names not in self.known:
            last = applied[-1].step if applied else BASELINE
            if self.tell is not None:
                self.tell(f"waterfall: {last}", self.done, self.total)
            left = [option for option in self.used if option.step not in names]
            changed = with_read_values(self.scenario, self.without(left))
            self.known[names] = planned(changed, self.seed, self.requests)
        self.done = min(self.done + 1, self.total)
        return self.known[names]


def _fewer_kinds_of_hardware(scenario: Scenario, document: Document) -> Scenario:
    """The scenario with at most `MOST_HARDWARE` kinds of GPU to choose from: the plan's, and the next cheapest."""
    named = scenario.hardware or ()
    ranked = [row["hardware"] for row in document["alternatives"] if row["feasible"]]
    kept = list(dict.fromkeys(ranked))[:MOST_HARDWARE]
    if len(named) <= MOST_HARDWARE:
        return scenario
    return with_read_values(scenario, {"hardware": [name for name in named if gpu_name(name) in kept]})


# --- the rows ---


def _row(option: Option, figures: Row) -> Row:
    return {
        "step": option.step,
        "what": option.what,
        "set": option.values,
        **{key: figures[key] for key in ("feasible", "reason", "model", "hardware", "quantization")},
        **{key: figures[key] for key in ("gpus", "usd_per_hour", "usd_per_query", "warnings")},
        "removed": None,
        "alone": None,
        "interaction": None,
    }


def _left_out(option: Option) -> Row:
    nothing = dict.fromkeys(("model", "hardware", "quantization", "gpus", "usd_per_hour", "usd_per_query"))
    figures: Row = {**nothing, "feasible": None, "reason": f"{LEFT_OUT}: {option.unused}", "warnings": []}
    return _row(replace(option, values={}), figures)


def _stand_alone(row: Row, base: Row, planner: _Planner, in_base: list[Option], option: Option) -> None:
    """Put into `row` what its option does alone on the base, and the interaction."""
    figures = planner.figures((*in_base, option))
    alone = {key: figures[key] for key in ("feasible", "reason", "gpus", "usd_per_query")}
    row["alone"] = {**alone, "removed": _less(base, figures) if figures["feasible"] else None}
    if figures["feasible"]:
        of_alone = row["alone"]["removed"]
        row["interaction"] = {key: _difference(row["removed"][key], of_alone[key], base[key]) for key in of_alone}


def _less(before: Row, after: Row) -> Row:
    return {key: _difference(before[key], after[key], before[key]) for key in ("gpus", "usd_per_query")}


def _difference(one: float | None, other: float | None, of: float | None) -> float | None:
    """one − other, both made of figures of the size of `of`; 0 where it is no more than their rounding."""
    if one is None or other is None or of is None:
        return None
    difference = one - other
    return type(difference)(0) if abs(difference) <= ROUNDING * abs(of) else difference
