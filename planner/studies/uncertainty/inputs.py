"""What was drawn, by which law, and what stayed as planned: said in the answer and among its assumptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment
from planner.provenance import Kind, Provenance
from planner.scenario import INPUTS, Uncertainty

F64 = NDArray[np.float64]
WORDS = {
    "step_time": "step time",
    "peak_qps": "load at the peak",
    "output_tokens": "output tokens",
    "revenue": "revenue of a query",
    "price": "GPU price",
}
LOW, HIGH = 0.1, 0.9
BY_TOKENS = ("api", "per_word")  # ways to earn that follow the length of an answer


def inputs_of(given: Uncertainty, deployment: Deployment, step_time: F64) -> list[dict[str, str]]:
    """`inputs` of the answer: {name, law, source, kind}; kind "given" where the scenario says the cv.

    `step_time` are the factors drawn for the planned deployment.
    """
    rows = []
    for name in INPUTS:
        cv = given.cv(name)
        if cv:
            law, source, kind = f"log-normal, mean 1, cv {cv:g}", f"uncertainty.{name}_cv", "given"
        elif name == "step_time" and cv is None:
            law = _law(step_time)
            source, kind = _step_time_source(deployment)
        else:
            law = "not varied"
            source = f"uncertainty.{name}_cv " + ("is 0" if cv == 0 else "is not given: taken as known exactly")
            kind = "given" if cv == 0 else "assumed"
        rows.append({"name": name, "law": law, "source": source, "kind": kind})
    return rows


def _law(step_time: F64) -> str:
    low, high = np.quantile(step_time, [LOW, HIGH])
    cv = float(step_time.std() / step_time.mean())
    return f"possible worlds: median {np.median(step_time):.3g}, 80 % in {low:.3g} to {high:.3g}, cv {cv:.2g}"


def _step_time_source(deployment: Deployment) -> tuple[str, Kind]:
    if deployment.calibrated is not None:
        return f"{deployment.candidate.calibration_file}: what its fit left unexplained", "calibrated"
    kind: Kind = "fitted" if deployment.known else "assumed"
    return "spreads of the kernel and overhead fits, as drawn for the 80 % bands", kind


def provenance_of(
    inputs: Sequence[dict[str, str]], given: Uncertainty, revenue: Mapping[str, Any] | None, cache_stated: bool = False
) -> list[Provenance]:
    """Rows for what the scenario did not give: inputs that stayed as planned, the step time's law, independence.

    `revenue` is the plan's: what of it does not follow a draw. `cache_stated`: the KV cache is given in blocks.
    """
    rows = []
    for row in inputs:
        if row["kind"] == "given":
            continue
        kind: Kind = "calibrated" if row["kind"] == "calibrated" else "fitted" if row["kind"] == "fitted" else "assumed"
        errs = "optimistic" if row["law"] == "not varied" else ""
        rows.append(Provenance(f"uncertainty: {WORDS[row['name']]}", kind, row["source"], row["law"], errs=errs))
    if len(given.varied) > 1 and not given.correlations:
        source = "uncertainty.correlations is not given: inputs are drawn independently of each other"
        rows.append(Provenance("uncertainty: correlations", "assumed", source, "0", errs="unknown"))
    if given.step_time_cv is None and not cache_stated:
        source = (
            "its size differs in the worlds that are simulated, but the surface knows it as noise only: "
            "no draw is answered for its own cache"
        )
        rows.append(Provenance("uncertainty: KV cache", "assumed", source, "noise of the fit", errs="unknown"))
    elif not cache_stated:
        source = "with uncertainty.step_time_cv nothing else of the engine differs: taken as planned"
        rows.append(Provenance("uncertainty: KV cache", "assumed", source, "not varied", errs="optimistic"))
    revenue = revenue or {}
    if given.peak_qps_cv and revenue.get("model") == "subscription":
        source = (
            "more load is taken to be more subscribers, each asking as much as planned; "
            "where the same ones ask more, a query earns less"
        )
        rows.append(Provenance("uncertainty: subscribers", "assumed", source, errs="optimistic"))
    if revenue.get("abandonment"):
        source = "the share of users who leave is that of the planned run, whatever the latencies of a draw"
        rows.append(Provenance("uncertainty: abandonment", "assumed", source, errs="optimistic"))
    if given.output_tokens_cv and revenue.get("model") in BY_TOKENS:
        source = "what a query earns is that of the planned answer length, however long the answers of a draw"
        rows.append(Provenance("uncertainty: revenue by tokens", "assumed", source, errs="unknown"))
    return rows
