"""Keys of the scenario file's engine, traffic and query, with default and range. Attribute names are the YAML keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from planner.scenario.distributions import Distribution, Joint
from planner.scenario.response_cache import ResponseCache
from planner.scenario.types import (
    MOST,
    MOST_QUERIES,
    MOST_TURNS,
    Choice,
    Count,
    Fraction,
    NotNegative,
    Queries,
    Ranks,
    Section,
    Text,
    as_tuple,
    broken,
    member,
    one_key,
    tag,
    whole,
)
from planner.units import HOURS_PER_DAY

Quantization = Literal["auto", "bf16", "fp8", "fp8_block", "int8", "awq", "gptq", "nvfp4", "mxfp4"]


class Engine(Section):
    """vLLM's own arguments. None = as vLLM's own default on that hardware; a list = choose."""

    quantization: Choice[Quantization] = ("auto",)
    """Number format of the weights; auto = the checkpoint's own."""
    kv_cache_dtype: Choice[Literal["auto", "fp8"]] = ("auto",)
    tensor_parallel_size: Choice[Ranks] = (1,)
    pipeline_parallel_size: Choice[Ranks] = (1,)
    data_parallel_size: Choice[Ranks] = (1,)
    enable_expert_parallel: Choice[bool] = (False,)
    max_model_len: Choice[Annotated[int, Field(ge=2, le=MOST), BeforeValidator(whole)]] | None = None
    """Most tokens of one request, prompt and output together."""
    max_num_seqs: Choice[Annotated[int, Field(ge=1, le=65_536), BeforeValidator(whole)]] | None = None
    max_num_batched_tokens: Choice[Annotated[int, Field(ge=1, le=1_048_576), BeforeValidator(whole)]] | None = None
    gpu_memory_utilization: Choice[Fraction] | None = None
    block_size: Choice[Annotated[int, Field(ge=1, le=16_384), BeforeValidator(whole)]] | None = None
    """Tokens in one KV-cache block."""
    enable_prefix_caching: Choice[bool] | None = None
    enable_chunked_prefill: Choice[bool] | None = None
    async_scheduling: Choice[bool] | None = None
    enforce_eager: Choice[bool] | None = None
    vllm_version: Choice[Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]] | None = None
    """Quoted: "major.minor" or "major.minor.patch"; None = the newest known."""
    num_gpu_blocks_override: Choice[Annotated[int, Field(ge=1, le=20_000_000), BeforeValidator(whole)]] | None = None
    """KV-cache tokens that vLLM logged ÷ block_size, per data-parallel rank."""


class Gamma(Section):
    """Gamma-distributed gaps of shape `burstiness`: 1 = Poisson, below 1 burstier, CV = 1/√burstiness."""

    burstiness: Annotated[float, Field(ge=0.001, le=1e6)]


class GammaArrivals(Section):
    """Arrivals with gamma-distributed gaps."""

    gamma: Gamma


class Trace(Section):
    """Recorded arrivals, token counts and, where it has them, prefix blocks. `speedup` 2 halves every gap."""

    file: Text | None = None
    """Path, relative to the scenario file; may be left for `--set traffic.arrivals.trace.file=PATH`."""
    format: Literal["azure", "burstgpt", "mooncake"]
    speedup: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0


class TraceArrivals(Section):
    """Arrivals replayed from a file, once and whole."""

    trace: Trace


class ClosedClients(Section):
    """Clients that each wait for an answer, think, and ask again."""

    concurrency: Annotated[int, Field(ge=1, le=2_000_000), BeforeValidator(whole)]
    requests: Queries | None = None
    """Queries of all clients together; a free client sends the next one."""
    requests_per_client: Queries | None = None
    """Queries of each client; without either key 10, and at least 64 in all."""
    think_s: NotNegative = 0.0

    @model_validator(mode="after")
    def _one_length(self) -> ClosedClients:
        if self.requests is not None and self.requests_per_client is not None:
            raise broken("give requests or requests_per_client, not both", "requests")
        if (self.requests_per_client or 0) * self.concurrency > MOST_QUERIES:
            rule = f"with {self.concurrency} clients makes more than {MOST_QUERIES} queries in all"
            raise broken(rule, "requests_per_client")
        return self


class ClosedArrivals(Section):
    """A closed loop of clients, all starting at time 0."""

    closed: ClosedClients


class OfflineBatch(Section):
    """A batch of queries."""

    requests: Queries


class OfflineArrivals(Section):
    """Everything arrives at time 0."""

    offline: OfflineBatch


Arrivals = Annotated[
    Annotated[Literal["constant", "poisson"], Tag(tag("name"))]
    | Annotated[GammaArrivals, Tag(tag("gamma"))]
    | Annotated[TraceArrivals, Tag(tag("trace"))]
    | Annotated[ClosedArrivals, Tag(tag("closed"))]
    | Annotated[OfflineArrivals, Tag(tag("offline"))],
    Discriminator(member("name")),
    one_key(("gamma", "trace", "closed", "offline"), str, "constant, poisson"),
]


class RateFile(Section):
    """Arrival rates by the time of the day, from a CSV file with the columns `seconds` and `qps`."""

    file: Text
    """Path, relative to the scenario file. A rate holds until the next row's, the last to the end of its day; a last
    row at a day's end closes the record."""


class Traffic(Section):
    """What the users ask, and when."""

    peak_qps: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """User queries per second in the busiest hour, those that the response cache answers included."""
    arrivals: Arrivals = "poisson"
    max_in_flight: Count | None = None
    """Most queries outstanding at the client; one above it waits."""
    timeout_s: Annotated[float, Field(ge=0.001, le=1e9)] | None = None
    day: Annotated[
        tuple[Fraction, ...],
        BeforeValidator(as_tuple),
        Field(min_length=HOURS_PER_DAY, max_length=HOURS_PER_DAY),
    ] = (1.0,) * HOURS_PER_DAY
    """Hourly load as shares of the peak, the largest 1."""
    rates: RateFile | None = None
    """Rates over one day or more, in place of `peak_qps` and `day`: `simulate --days` runs them, `plan` makes of them
    the two, which then stand beside `rates` in the scenario of its answer.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Traffic:
        varied = (("peak_qps", self.peak_qps is not None), ("day", min(self.day) < 1))
        read = self.rates is not None and self.peak_qps is not None and "day" in self.model_fields_set
        if max(self.day) != 1 and not read:  # of several days the mean day has no hour at the peak
            raise broken("the largest of the 24 shares must be 1", "day")
        if self.rates is not None and not read:
            for key, is_given in varied:
                if is_given:
                    raise broken("may not stand beside rates, which say the load of every moment", key)
        if not isinstance(self.arrivals, str | GammaArrivals):
            kind = next(iter(type(self.arrivals).model_fields))
            for key, is_given in (*varied, ("rates", self.rates is not None)):
                if is_given:
                    raise broken(f"may not stand beside arrivals: {kind}, which sets its own rate", key)
        return self


class SharedPrefix(Section):
    """A beginning that prompts have in common; part of `prompt_tokens`, not added to it."""

    tokens: Count
    groups: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole)] = 1
    """How many different prefixes there are."""
    zipf: NotNegative = 0.0
    """Popularity of the k-th prefix falls as k^-zipf; 0 = all equal."""


class Document(Section):
    """What a call reads behind its shared prefix, out of a corpus; part of `prompt_tokens`, not added to it."""

    tokens: Count
    corpus: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole)]
    """How many different documents there are."""
    zipf: NotNegative = 0.0
    """Popularity of the k-th document falls as k^-zipf; 0 = all equal."""
    per: Literal["call", "query"] = "query"
    """query: all calls of one query read the same document (fan-out over one); call: each reads its own."""


class Stage(Section):
    """One round of model calls; it starts when the stage before has finished."""

    name: Text
    calls: Count = 1
    """Prompts sent at once (fan-out K)."""
    samples: Count = 1
    """Answers drawn for each prompt (best of n); they share the prompt through the prefix cache."""
    prompt_tokens: Distribution | None = None
    output_tokens: Distribution | None = None
    shared_prefix: SharedPrefix | None = None
    document: Document | None = None
    turns: Annotated[int, Field(ge=1, le=MOST_TURNS), BeforeValidator(whole)] = 1
    """Queries of one session; each sends the whole session so far and then its own `prompt_tokens`."""
    think_s: NotNegative = 0.0
    """From the end of a turn to the moment when the next one is due."""

    @model_validator(mode="after")
    def _consistent(self) -> Stage:
        prompt, output, prefix = self.prompt_tokens, self.output_tokens, self.shared_prefix
        if isinstance(output, Joint) and prompt != output:
            raise broken("joint stands in prompt_tokens, with output_tokens left out", "output_tokens")
        if isinstance(prompt, Joint) and output not in (None, prompt):
            raise broken("must be left out: the joint of prompt_tokens draws it", "output_tokens")
        begin = {"shared_prefix": prefix, "document": self.document}
        known = {f"{name}.tokens": part.tokens for name, part in begin.items() if part is not None}
        if isinstance(prompt, int) and known and prompt <= sum(known.values()):
            words = " + ".join(f"{name} (={tokens})" for name, tokens in known.items())
            raise broken(f"must be longer than its {words}", "prompt_tokens")
        if self.think_s > 0 and self.turns == 1:
            raise broken("is the pause between turns: give turns of at least 2 beside it", "think_s")
        return self


class Query(Section):
    """What one user query asks of the model."""

    stages: Annotated[tuple[Stage, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=64)] = ()
    response_cache: ResponseCache | None = None

    @model_validator(mode="after")
    def _distinct_names(self) -> Query:
        names = [stage.name for stage in self.stages]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise broken("two stages have the same name", "stages", index, "name")
        return self
