"""What the manifests read of a plan's document, name by name. Other names are let through unread."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

MOST_REPLICAS = 100_000

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=MOST_REPLICAS)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Ranks = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class EngineFacts(msgspec.Struct, frozen=True):
    """`fleet.engine`: vLLM's own arguments, all resolved."""

    quantization: Literal["bf16", "fp8", "fp8_block", "int8", "awq", "gptq", "nvfp4", "mxfp4", "int4"]
    kv_cache_dtype: Literal["auto", "fp8"]
    tensor_parallel_size: Ranks
    pipeline_parallel_size: Ranks
    data_parallel_size: Ranks
    enable_expert_parallel: bool
    max_model_len: Count
    max_num_seqs: Count
    max_num_batched_tokens: Count
    gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0, le=1)]
    block_size: Count
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    async_scheduling: bool
    enforce_eager: bool
    vllm_version: Annotated[str, msgspec.Meta(pattern=r"^\d{1,4}\.\d{1,4}(\.\d{1,4})?$")]
    num_gpu_blocks_override: Count | None = None

    @property
    def release(self) -> str:
        """major.minor.patch; a version without a patch means its first release."""
        return self.vllm_version if self.vllm_version.count(".") == 2 else f"{self.vllm_version}.0"


class _Model(msgspec.Struct):
    name: Name
    hf_repo: Name | None = None


class _Fleet(msgspec.Struct):
    hardware: Name
    gpus: Count
    replicas: Replicas
    gpus_per_replica: Count
    routing: Name  # what a router makes of it, `router` says
    engine: EngineFacts
    spare_replicas: Annotated[int, msgspec.Meta(ge=0, le=MOST_REPLICAS)] = 0


class _Limit(msgspec.Struct):
    key: Name
    limit_ms: NotNegative


class _Run(msgspec.Struct):
    e2e_ms: dict[str, float | None]
    ledger: dict[str, float | None]
    slo: list[_Limit]
    memory: dict[str, float | None] = {}
    output_throughput: NotNegative | None = None
    duration_s: NotNegative | None = None


class _Traffic(msgspec.Struct):
    peak_qps: NotNegative | None = None
    arrivals: str | dict[str, Any] = "poisson"
    day: list[NotNegative] = []
    timeout_s: NotNegative | None = None


class _Cache(msgspec.Struct):
    hit_rate: NotNegative | None = None
    at_peak: NotNegative | None = None


class _Stage(msgspec.Struct):
    samples: Count = 1


class _Query(msgspec.Struct):
    stages: list[_Stage] = []
    response_cache: _Cache | None = None


class _Admission(msgspec.Struct):
    max_requests_per_replica: Count


class TargetFacts(msgspec.Struct):
    """`scenario.fleet.autoscaler.target`: one of these, for each replica."""

    queue: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    utilisation: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    requests: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None


class ScalerFacts(msgspec.Struct):
    """`scenario.fleet.autoscaler`: a target, or a schedule of 24 counts."""

    target: TargetFacts | None = None
    schedule: Annotated[tuple[Replicas, ...], msgspec.Meta(max_length=24)] = ()
    interval_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 15.0
    scale_down_delay_s: NotNegative = 300.0
    max_replicas: Replicas | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1

    @property
    def most(self) -> int:
        """Replicas that it never goes beyond; a target has them stated."""
        return self.max_replicas or max(self.schedule, default=1)


class _Settings(msgspec.Struct):
    autoscaler: ScalerFacts | None = None
    admission: _Admission | None = None
    retry: bool = True
    min_replicas: Replicas = 1
    gpus_per_node: Count = 8
    startup_s: NotNegative = 300.0


class MonitorFacts(msgspec.Struct):
    """`scenario.monitor`: where the fleet is read."""

    prometheus_url: Name | None = None
    namespace: Name | None = None
    model_name: Name | None = None
    interval_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 15.0


class _Scenario(msgspec.Struct):
    name: Name
    traffic: _Traffic
    query: _Query = msgspec.field(default_factory=_Query)
    fleet: _Settings = msgspec.field(default_factory=_Settings)
    monitor: MonitorFacts | None = None


class _Cost(msgspec.Struct):
    usd_per_query: float | None = None
    usd_per_hour: float | None = None


class _Confidence(msgspec.Struct):
    weakest: str | None = None
    holds_share: float | None = None


class PlanDocument(msgspec.Struct):
    """The document of a plan that is feasible."""

    scenario: _Scenario
    model: _Model
    fleet: _Fleet
    at_peak: _Run
    cost: _Cost | None = None
    confidence: _Confidence | None = None
    response_cache: _Cache | None = None

    @property
    def hit_rate(self) -> float | None:
        """Share of the queries that the response cache answers at the peak; older plans have the stated one alone."""
        told, given = self.response_cache, self.scenario.query.response_cache
        return told.at_peak if told and told.at_peak is not None else (given.hit_rate if given else None)
