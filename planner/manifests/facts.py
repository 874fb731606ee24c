"""A plan's document checked and reduced to what a deployment needs. What is damaged is refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from planner.errors import DataFileError, MisfitError
from planner.manifests.plan_shape import EngineFacts, MonitorFacts, PlanDocument, ScalerFacts
from planner.manifests.scenario_files import ScenarioFile, read_files, with_names
from planner.units import HOURS_PER_DAY

SCHEMA_VERSION = 1
_WRITES = "`planner plan SCENARIO --out FILE` writes one"
_TIMINGS = frozenset({"wall_s"})  # of the run that planned: another one each time


@dataclass(frozen=True)
class Facts:
    """What a deployment needs of a plan. `document` is the whole of it, without the timings of the planning run; its
    scenario calls its files as `files` does.
    """

    scenario_name: str
    model: str
    hf_repo: str | None
    hardware: str
    replicas: int
    spare_replicas: int
    gpus: int
    gpus_per_replica: int
    gpus_per_node: int
    min_replicas: int
    startup_s: float
    routing: str
    room: int | None  # fleet.admission: requests that a replica may have in hand
    samples: int  # most answers that one call of the scenario's asks for
    retry: bool  # fleet.retry
    scaler: ScalerFacts | None  # fleet.autoscaler, which the plan's cost is of; its hours within its bounds
    engine: EngineFacts
    open_demand: bool
    peak_qps: float | None
    day: tuple[float, ...]
    timeout_s: float | None
    trace_s: float | None  # how long a recorded demand lasts; None for any other
    limits: tuple[tuple[str, float], ...]  # key of the service level, milliseconds
    p99_e2e_s: float
    requests_per_replica: float  # in a serving replica at the peak, running and waiting, mean over time
    output_tokens_per_s: float | None  # of the whole fleet at the peak
    weights_gib: float | None  # on one GPU
    response_cache_hit_rate: float | None
    usd_per_query: float | None
    usd_per_hour: float | None
    weakest: str | None
    calibrated: bool
    holds_share: float | None
    monitor_prometheus_url: str | None
    monitor_namespace: str | None
    monitor_model_name: str | None
    monitor_interval_s: float
    files: tuple[ScenarioFile, ...]
    document: dict[str, Any]

    @property
    def most_replicas(self) -> int:
        """Replicas that may serve at once: as many as its autoscaler may start, and those that an apply begins with."""
        return max(self.replicas, 0 if self.scaler is None else self.scaler.most)


def read_facts(document: object, where: str = "plan document", base: Path | None = None) -> Facts:
    """The facts of a plan's document (`json.loads` of what `planner plan --out` wrote).

    `where` names it in messages; `base` is the folder that relative paths of its scenario start from (None: the current
    one). Raises DataFileError for what is no plan or damaged, MisfitError for a plan without a fleet and for a replica
    that one node cannot hold. A file of the scenario's that is missing is told by whoever needs it.
    """
    if not isinstance(document, Mapping) or not {"schema_version", "feasible", "alternatives"} <= document.keys():
        raise DataFileError(where, None, f"is not a plan's document; {_WRITES}")
    version = document["schema_version"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise DataFileError(
            f"{where}: schema_version", _plain_value(version), f"this planner reads {SCHEMA_VERSION}; plan again"
        )
    if document["feasible"] is not True:
        rule = "no fleet holds the service levels, so there is nothing to deploy; the plan says which limit broke"
        raise MisfitError(f"{where}: feasible", _plain_value(document["feasible"]), rule)
    plain = _without_timings(document, where)
    try:
        plan = msgspec.convert(plain, PlanDocument)
    except msgspec.ValidationError as error:
        raise DataFileError(where, None, f"is damaged: {_told(str(error))}; plan again") from None
    files = read_files(plain["scenario"], base)
    facts = _facts(plan, plain | {"scenario": with_names(plain["scenario"], files)}, files, where)
    _check(facts, where)
    return facts


def _facts(plan: PlanDocument, document: dict[str, Any], files: tuple[ScenarioFile, ...], where: str) -> Facts:
    run, fleet, scenario = plan.at_peak, plan.fleet, plan.scenario
    running, waiting = run.ledger.get("running_mean"), run.ledger.get("waiting_mean") or 0.0
    weights = [value for key, value in run.memory.items() if key.startswith("weights_") and value is not None]
    return Facts(
        scenario_name=scenario.name,
        model=plan.model.name,
        hf_repo=plan.model.hf_repo,
        hardware=fleet.hardware,
        replicas=fleet.replicas,
        spare_replicas=fleet.spare_replicas,
        gpus=fleet.gpus,
        gpus_per_replica=fleet.gpus_per_replica,
        gpus_per_node=scenario.fleet.gpus_per_node,
        min_replicas=scenario.fleet.min_replicas,
        startup_s=scenario.fleet.startup_s,
        routing=fleet.routing,
        room=scenario.fleet.admission.max_requests_per_replica if scenario.fleet.admission else None,
        samples=max((stage.samples for stage in scenario.query.stages), default=1),
        retry=scenario.fleet.retry,
        scaler=_bounded(scenario.fleet.autoscaler, scenario.fleet.min_replicas),
        engine=fleet.engine,
        open_demand=isinstance(scenario.traffic.arrivals, str) or "gamma" in scenario.traffic.arrivals,
        peak_qps=scenario.traffic.peak_qps,
        day=tuple(scenario.traffic.day),
        timeout_s=scenario.traffic.timeout_s,
        trace_s=run.duration_s if "trace" in scenario.traffic.arrivals else None,
        limits=tuple((limit.key, limit.limit_ms) for limit in run.slo),
        p99_e2e_s=_positive(run.e2e_ms.get("p99"), f"{where}: at_peak.e2e_ms.p99") / 1000,
        requests_per_replica=_positive(running, f"{where}: at_peak.ledger.running_mean") + waiting,
        output_tokens_per_s=run.output_throughput,
        weights_gib=sum(weights) if weights else None,
        response_cache_hit_rate=plan.hit_rate,
        usd_per_query=plan.cost.usd_per_query if plan.cost else None,
        usd_per_hour=plan.cost.usd_per_hour if plan.cost else None,
        weakest=plan.confidence.weakest if plan.confidence else None,
        calibrated=bool(document["scenario"].get("calibration")),
        holds_share=plan.confidence.holds_share if plan.confidence else None,
        monitor_prometheus_url=scenario.monitor.prometheus_url if scenario.monitor else None,
        monitor_namespace=scenario.monitor.namespace if scenario.monitor else None,
        monitor_model_name=scenario.monitor.model_name if scenario.monitor else None,
        monitor_interval_s=(scenario.monitor or MonitorFacts()).interval_s,
        files=files,
        document=document,
    )


def one_size(facts: Facts) -> Facts:
    """The same plan where nothing scales it: as many replicas as were planned, all day."""
    return replace(facts, scaler=None)


def _bounded(scaler: ScalerFacts | None, least: int) -> ScalerFacts | None:
    """With a schedule as it was simulated and billed: no hour below `fleet.min_replicas`, none beyond the most."""
    if scaler is None:
        return None
    hours = tuple(min(max(wish, least), scaler.most) for wish in scaler.schedule)
    return msgspec.structs.replace(scaler, schedule=hours)


def _check(facts: Facts, where: str) -> None:
    """That the numbers fit together, and that one node holds a replica."""
    engine = facts.engine
    ranks = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
    key = f"{where}: fleet.gpus_per_replica"
    if facts.gpus_per_replica != ranks:
        raise DataFileError(key, facts.gpus_per_replica, f"its engine has {ranks} ranks; plan again")
    if facts.gpus != facts.gpus_per_replica * facts.replicas:
        rule = f"{facts.replicas} replicas of {facts.gpus_per_replica} GPUs make another number; plan again"
        raise DataFileError(f"{where}: fleet.gpus", facts.gpus, rule)
    if facts.spare_replicas >= facts.replicas:
        rule = f"must be below fleet.replicas (={facts.replicas}); plan again"
        raise DataFileError(f"{where}: fleet.spare_replicas", facts.spare_replicas, rule)
    if facts.gpus_per_replica > facts.gpus_per_node:
        rule = (
            f"one pod is one node, and a node has fleet.gpus_per_node (={facts.gpus_per_node}): a replica that spans "
            "nodes needs LeaderWorkerSet or Ray, which is not rendered"
        )
        raise MisfitError(key, facts.gpus_per_replica, rule, f"at most {facts.gpus_per_node} GPUs a replica")
    if facts.scaler is not None and (facts.scaler.target is None) == (len(facts.scaler.schedule) != HOURS_PER_DAY):
        key = f"{where}: scenario.fleet.autoscaler"
        raise DataFileError(key, None, f"has neither a target nor a schedule of {HOURS_PER_DAY} hours; plan again")
    if facts.scaler is not None and facts.scaler.target is not None and facts.scaler.max_replicas is None:
        rule = "is missing: what the autoscaler never goes beyond; plan again"
        raise DataFileError(f"{where}: scenario.fleet.autoscaler.max_replicas", None, rule)
    for name, value in (("model.name", facts.model), ("model.hf_repo", facts.hf_repo)):
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", value):
            raise DataFileError(f"{where}: {name}", value, "is no name of a model; plan again")


def _positive(value: float | None, key: str) -> float:
    if value is None or not math.isfinite(value) or not 0 < value < 1e12:
        raise DataFileError(key, value, "must be a number above 0; plan again")
    return value


def _without_timings(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A plain copy of the document without what differs from run to run."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items() if key not in _TIMINGS}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        copied: dict[str, Any] = json.loads(json.dumps(plain(document), allow_nan=False))
    except RecursionError:
        raise DataFileError(where, None, "is damaged: nested too deeply; plan again") from None
    except ValueError:
        raise DataFileError(where, None, "is damaged: NaN or Infinity stands for a number; plan again") from None
    except TypeError:
        raise DataFileError(where, None, "is damaged: holds what JSON does not; plan again") from None
    return copied


def _plain_value(value: object) -> object:
    """A number or a text to show in a message; None of what would show as Python's own lists and dictionaries."""
    return value if isinstance(value, str | int | float) else None


def _told(error: str) -> str:
    """ "Expected `int`, got `str` - at `$.fleet.gpus`" with the place first."""
    what, at, place = error.partition(" - at ")
    return f"{place.strip('`').removeprefix('$').removeprefix('.')}: {what}" if at and place != "`$`" else what
