"""The four cost bases of one plan side by side, and what stands between each two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from planner.catalogue.hardware import gpu as find_gpu
from planner.catalogue.models import model as find_model
from planner.catalogue.prices import gpu_hour
from planner.deployment import Deployment
from planner.economics.bases import (
    Basis,
    Chip,
    ListPrice,
    QueryTokens,
    ServedPeak,
    by_denominator,
    flops,
    list_price,
    measured,
    simulated,
)
from planner.economics.basis_gaps import (
    Gap,
    busy_mfu_of,
    flops_to_measured,
    flops_to_simulated,
    list_to_flops,
    measured_to_simulated,
)
from planner.economics.gpu_time import model_flop
from planner.economics.sales import WORDS_PER_1000_TOKENS
from planner.errors import DataFileError, PlannerError
from planner.performance.roofline import peak_flops
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording
from planner.scenario import RateCard, Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.sizing.search import demand_of
from planner.studies.fleet_runs import FleetRuns
from planner.studies.list_prices import asked_price
from planner.studies.model_sizes import parameters
from planner.units import HOURS_PER_DAY

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Throughput of one load test: tokens a second and GPU, prompt and output, and the GPU that it ran on."""

    tokens_per_gpu_s: float
    chip: Chip
    source: str
    assumed: tuple[str, ...]


def reconcile(
    scenario: Scenario,
    chosen: Scenario,
    document: Document,
    runs: FleetRuns,
    *,
    price: ListPrice | None = None,
    mfu: float | None = None,
    records: Path | None = None,
) -> dict[str, Any]:
    """{bases [{name, usd_per_1k_input, usd_per_1k_output, usd_per_query, how, assumed[]}], gaps [{start, to, ratio,
    factors [{name, value, because}]}], denominators [{name, usd_per_1k_tokens, usd_per_1k_output_alone,
    usd_per_1k_words}], words_per_1000_tokens, mfu_simulated, active_parameters}.

    `document` is the plan of `scenario`, priced, `chosen` the scenario without lists that it chose, `runs` that fleet.
    `price` None takes revenue.api, else a dated public price (`list_prices`); `mfu` None takes the simulated one of
    busy GPUs at the peak. With `records` of a load test the measured basis stands between FLOP and simulation; they
    must be of the same model. Raises InputErrors for an MFU that is none and for records that cannot be used.
    """
    fleet = document["fleet"]
    serving = fleet["replicas"] - fleet["spare_replicas"]
    outcome = runs.at(serving)
    tokens = query_tokens(scenario, runs.load, outcome)
    peak = served_peak(scenario, document, runs, outcome, tokens)
    deployment = runs.deployment
    active = parameters(deployment.candidate.model).active
    chip = _chip(deployment, document["cost"]["usd_per_hour"] / fleet["gpus"])
    reached = busy_mfu_of(tokens, active, chip, peak)
    taken, assumed = (mfu, ()) if mfu is not None else (reached, ("MFU: the simulated one, of busy GPUs at the peak",))
    asked = asked_price(scenario, price)
    bases: list[Basis] = [list_price(tokens, asked), flops(tokens, active, chip, taken, assumed)]
    gaps: list[Gap] = [list_to_flops(tokens, asked, active, chip, taken)]
    if records is None:
        gaps.append(flops_to_simulated(tokens, active, chip, taken, peak))
    else:
        test = measured_throughput(records, chosen, deployment, chip)
        bases.append(measured(tokens, test.tokens_per_gpu_s, test.chip, test.source, test.assumed))
        gaps.append(flops_to_measured(active, chip, taken, test.chip, test.tokens_per_gpu_s))
        gaps.append(measured_to_simulated(tokens, test.chip, test.tokens_per_gpu_s, chip, peak))
    bases.append(simulated(tokens, chip, peak))
    words = _words_per_1000_tokens(scenario)
    return {
        "bases": [asdict(basis) for basis in bases],
        "denominators": [asdict(by_denominator(basis, tokens, words)) for basis in bases],
        "words_per_1000_tokens": words,
        "gaps": [asdict(gap) for gap in gaps],
        "mfu_simulated": reached,
        "active_parameters": active,
    }


def query_tokens(scenario: Scenario, load: Load, outcome: Outcome) -> QueryTokens:
    """Mean tokens of a query's model calls in a run; the prompt of several samples counts for each, and once."""
    demand = demand_of(scenario, load, outcome)
    prompt, once = float(demand.prompt_tokens or 0.0), float(demand.prompt_once_tokens or 0.0)
    cached = prompt * (demand.cached_prompt_share or 0.0)
    return QueryTokens(prompt, float(demand.output_tokens or 0.0), once, cached, demand.uncached_share)


def served_peak(
    scenario: Scenario, document: Document, runs: FleetRuns, outcome: Outcome, tokens: QueryTokens
) -> ServedPeak:
    """What the simulation says of the fleet at its peak.

    Prompts take what their tokens cost in steps that are full of them, with their attention; decoding takes the rest
    of the busy time.
    """
    fleet, deployment = document["fleet"], runs.deployment
    options, cost = deployment.candidate.options, deployment.cost
    rank_gpus = fleet["gpus_per_replica"] / options.data_parallel_size
    busy_s = outcome.figures["ledger"]["busy_s"] / runs.load.queries
    budget = len(cost.tokens_s) - 1
    token_s = float(cost.tokens_s[budget]) / budget
    prompts = runs.load.prompt_tokens.astype(np.float64)
    near = np.minimum(prompts, cost.window)  # ∫₀^prompt min(t, window) dt, as `StepCost.attended`
    attended = 0.5 * near * near + near * (prompts - near)
    pairs_s = cost.prefill_token2_s * prompts * prompts + cost.prefill_window_s * attended
    fresh = 1.0 - tokens.cached / tokens.prompt
    prefill_s = fresh * (tokens.prompt * token_s + float(pairs_s.mean()) * runs.load.width)
    peak_flop = _peak(deployment)
    active = parameters(deployment.candidate.model).active
    hours = [hour["queries"] for hour in document["day"]]
    return ServedPeak(
        peak_qps=demand_of(scenario, runs.load, outcome).peak_qps,
        replicas=fleet["replicas"],
        serving=fleet["replicas"] - fleet["spare_replicas"],
        gpus_per_replica=fleet["gpus_per_replica"],
        busy_gpu_s=busy_s * rank_gpus,
        input_share=min(prefill_s / busy_s, 1.0),
        prefill_mfu=model_flop(active, 1.0) / (token_s * rank_gpus * peak_flop),
        utilisation=outcome.figures["utilisation"],
        mean_of_day=fsum(hours) / (HOURS_PER_DAY * max(hours)),
    )


def measured_throughput(path: Path, chosen: Scenario, deployment: Deployment, chip: Chip) -> Measured:
    """Tokens a second and GPU of the requests that were answered, from the first that was sent to the last token.

    Records of `planner loadtest` say what was served on how many GPUs; others are taken to be of one replica of the
    plan's own kind, which is said. Raises DataFileError for a file of several runs, of another model, or of nothing.
    """
    found = read_recordings(path)
    if len(found) != 1:
        raise DataFileError("--records", path, f"holds {len(found)} runs: give one of them")
    recording = found[0]
    answered = recording.answered
    if not answered.any():
        raise DataFileError("--records", path, "no request was answered")
    served = float((recording.prompt_tokens[answered] + recording.output_tokens[answered]).sum())
    lasted_s = float(np.nanmax(recording.last_token_s[answered]) - np.nanmin(recording.sent_s[answered]))
    if not lasted_s > 0:
        raise DataFileError("--records", path, "the answered requests took no time")
    gpus, used, assumed = _served_on(recording, chosen, deployment, chip)
    rate = float(answered.sum()) / lasted_s
    source = f"{recording.name}: {int(answered.sum()):,} requests at {rate:.3g} a second on {gpus} GPU{'s'[: gpus > 1]}"
    return Measured(
        served / lasted_s / gpus, used, source, ("not the most it carries: the rate it was tested at", *assumed)
    )


def _served_on(
    recording: Recording, chosen: Scenario, deployment: Deployment, chip: Chip
) -> tuple[int, Chip, tuple[str, ...]]:
    """GPUs behind the tested endpoint, their kind and price, and what of that was not said."""
    alike = f"one replica of the plan: {deployment.gpus_per_replica} × {deployment.candidate.gpu.name}"
    if recording.header is None:
        return deployment.gpus_per_replica, chip, (f"the records do not say what served: taken as {alike}",)
    tested = Scenario.from_dict(recording.header.scenario)
    mine = deployment.candidate.model.name
    named = [find_model(name, tested.base).name for name in tested.model]
    if mine not in named:
        raise DataFileError("--records", recording.path, f"are of {' or '.join(named)}, the plan is of {mine}")
    if tested.choices() or tested.hardware is None:
        return deployment.gpus_per_replica, chip, (f"the tested scenario leaves open what served: taken as {alike}",)
    engine = tested.engine
    per_replica = engine.tensor_parallel_size[0] * engine.pipeline_parallel_size[0] * engine.data_parallel_size[0]
    gpus = per_replica * (tested.fleet.replicas or 1)
    gpu = find_gpu(tested.hardware[0])
    if gpu.name == deployment.candidate.gpu.name:
        return gpus, chip, ()
    usd, said = _price_of(gpu.name, chosen, chip)
    rate = peak_flops(gpu, deployment.candidate.options.quantization)
    return gpus, Chip(gpu.name, rate, usd), said


def _price_of(gpu_name: str, chosen: Scenario, chip: Chip) -> tuple[float, tuple[str, ...]]:
    """A GPU-hour of another kind, with what stands beside compute: by the scenario's rate card, else the plan's own."""
    given = chosen.prices.gpu_hour_usd
    if isinstance(given, RateCard):
        try:
            price = gpu_hour(gpu_name, given.rate_card)
            return price.usd / chosen.prices.compute_share, (f"{gpu_name}: {price.kind} price of {price.date}",)
        except PlannerError:
            pass
    return chip.usd_per_hour, (f"no price of {gpu_name} is known: the plan's own GPU-hour price taken",)


def _words_per_1000_tokens(scenario: Scenario) -> float:
    """What the scenario sells words at, else the rule of thumb for English text."""
    sold = None if scenario.revenue is None else scenario.revenue.per_word
    given = None if sold is None else sold.words_per_1000_tokens
    return WORDS_PER_1000_TOKENS if given is None else given


def _chip(deployment: Deployment, usd_per_hour: float) -> Chip:
    return Chip(deployment.candidate.gpu.name, _peak(deployment), usd_per_hour)


def _peak(deployment: Deployment) -> float:
    return peak_flops(deployment.candidate.gpu, deployment.candidate.options.quantization)
