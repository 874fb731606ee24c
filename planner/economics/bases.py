"""Four ways to say what the model calls of a query cost, in one form, and why they differ.

`list_price`: what an API would bill. `flops`: 2·N FLOP for a token on a GPU that reaches a share of its peak.
`measured`: a load test's throughput. `simulated`: the planned fleet. All four are $ for the user's queries, the cached
ones included, and none has retrieval in it. The GPU-hour price is that of the plan, with what stands beside compute.

`basis_gaps` says what stands between each two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, positive, share
from planner.economics.demand import cached_once
from planner.economics.gpu_time import gpu_seconds, model_flop
from planner.errors import InputError
from planner.units import S_PER_HOUR, TOKENS_PER_PRICE

THOUSAND = 1000


@dataclass(frozen=True)
class QueryTokens:
    """Tokens of all model calls of one query that reaches the model; means.

    `prompt` counts a prompt once for each answer drawn from it, `prompt_once` once for all of them. `cached` of
    `prompt` are found in the prefix cache. `uncached_share` of the users' queries reach the model at all.
    """

    prompt: float
    output: float
    prompt_once: float
    cached: float = 0.0
    uncached_share: float = 1.0

    def __post_init__(self) -> None:
        positive("prompt_tokens", self.prompt)
        positive("output_tokens", self.output)
        positive("prompt_tokens", self.prompt_once)
        not_negative("cached_prompt_tokens", self.cached)
        share("uncached_share", self.uncached_share)
        if self.cached > self.prompt or self.prompt_once > self.prompt:
            raise InputError("cached_prompt_tokens", self.cached, f"must be part of the prompt of {self.prompt}")

    @property
    def total(self) -> float:
        """Prompt and output, each answer's prompt counted."""
        return self.prompt + self.output

    @property
    def computed(self) -> float:
        """Tokens that the engine computes: all but those that the prefix cache has."""
        return self.total - self.cached

    @property
    def cached_once(self) -> float:
        """Cached tokens of prompts that are counted once: what the answers of one prompt share is not billed twice."""
        return cached_once(self.prompt, self.prompt_once, self.cached)


@dataclass(frozen=True)
class Basis:
    """One way to say what the model calls cost. `usd_per_query` is by the user's query, cached ones included.

    On every basis a prompt counts once for each answer drawn from it, also where it is billed once for all of them:
    usd_per_query = uncached share · (prompt · usd_per_1k_input + output · usd_per_1k_output) ÷ 1000.
    """

    name: str
    usd_per_1k_input: float
    usd_per_1k_output: float
    usd_per_query: float
    how: str
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Denominators:
    """The bill of a query on one basis, divided by thousands of: all its tokens, output alone, words of all of them.

    Prices are quoted in all three ways, and compared as if they were one: by output alone a query of many prompt
    tokens looks several times as dear.
    """

    name: str
    usd_per_1k_tokens: float
    usd_per_1k_output_alone: float
    usd_per_1k_words: float


@dataclass(frozen=True)
class ListPrice:
    """What an API bills, in $ per million tokens; `cached_input` None = cached input costs what other input does.

    `assumed` says whose price it is where nobody gave one, `model` of which other model it is. `provider_margin` is
    the seller's gross margin, the share of the price that is not cost; None = not known.
    """

    input_usd: float
    output_usd: float
    cached_input_usd: float | None = None
    assumed: str = ""
    model: str = ""
    provider_margin: float | None = None

    def __post_init__(self) -> None:
        positive("list_price.input", self.input_usd)
        positive("list_price.output", self.output_usd)
        if self.cached_input_usd is not None:
            not_negative("list_price.cached_input", self.cached_input_usd)
        if self.provider_margin is not None and not 0 <= self.provider_margin < 1:
            rule = "must be a share of at least 0 and below 1, as 0.3 for 30 %"
            raise InputError("provider_margin", self.provider_margin, rule)


@dataclass(frozen=True)
class Chip:
    """What a GPU does and costs: peak FLOP/s in the weights' format, $ an hour with what stands beside compute."""

    name: str
    peak_flops: float
    usd_per_hour: float

    def __post_init__(self) -> None:
        positive("peak_flops", self.peak_flops)
        positive("prices.gpu_hour_usd", self.usd_per_hour)


@dataclass(frozen=True)
class ServedPeak:
    """The planned fleet at its peak, as simulated.

    `busy_gpu_s` is the time that GPUs are busy for one query that reaches the model, over the whole run, `input_share`
    the part of it that prompts take, `prefill_mfu` the MFU of a step that is full of prompt tokens. `utilisation` is
    busy ÷ elapsed time of the serving GPUs while queries arrive. `mean_of_day` is the day's mean load as a share of
    the peak.
    """

    peak_qps: float
    replicas: int
    serving: int
    gpus_per_replica: int
    busy_gpu_s: float
    input_share: float
    prefill_mfu: float
    utilisation: float
    mean_of_day: float

    def __post_init__(self) -> None:
        for name in ("peak_qps", "serving", "gpus_per_replica", "busy_gpu_s"):
            positive(name, getattr(self, name))
        for name in ("prefill_mfu", "utilisation", "mean_of_day"):
            positive(name, getattr(self, name))
        share("input_share", self.input_share)

    @property
    def serving_gpus(self) -> int:
        """GPUs that serve at the peak: all but the spare replicas'."""
        return self.serving * self.gpus_per_replica


# --- the bases ---


def list_price(tokens: QueryTokens, price: ListPrice) -> Basis:
    """(fresh input · input price + cached input · its price + output · output price) · uncached share ÷ 10⁶.

    A prompt is billed once for all answers drawn from it, as APIs do with n > 1; `usd_per_1k_input` is this bill by
    the prompt tokens that the other bases count. It is a price, not a cost: with a seller's margin `how` has both.
    """
    cached = tokens.cached_once if price.cached_input_usd is not None else 0.0
    inputs = (tokens.prompt_once - cached) * price.input_usd + cached * (price.cached_input_usd or 0.0)
    how = f"${price.input_usd:g} per million input tokens, ${price.output_usd:g} per million output tokens"
    if price.cached_input_usd is not None:
        how += f", ${price.cached_input_usd:g} per million cached ones"
    how += "; a prompt billed once for all its answers"
    if tokens.prompt_once < tokens.prompt:
        how += ", in $/1k input counted for each of them, as in the other rows"
    per_query = tokens.uncached_share * (inputs + tokens.output * price.output_usd) / TOKENS_PER_PRICE
    if price.provider_margin is not None:
        cost = per_query * (1.0 - price.provider_margin)
        how += f"; with a margin of {per_cent(price.provider_margin)} such a query costs the seller ${cost:.3g}"
    return Basis(
        "list price",
        THOUSAND * inputs / tokens.prompt / TOKENS_PER_PRICE,
        THOUSAND * price.output_usd / TOKENS_PER_PRICE,
        per_query,
        how,
        (price.assumed,) if price.assumed else (),
    )


def flops(tokens: QueryTokens, active_parameters: float, chip: Chip, mfu: float, assumed: tuple[str, ...]) -> Basis:
    """2·N FLOP a token ÷ (peak · MFU) seconds of one GPU, at its price; input and output tokens cost the same.

    N = parameters that a token passes. Attention's own FLOP are left out, as is usual. Raises InputError unless
    0 < mfu <= 1.
    """
    check_mfu(mfu)
    return _one_price(
        "FLOP",
        tokens,
        flop_usd(active_parameters, chip, mfu),
        f"2 × {active_parameters / 1e9:.3g} B FLOP a token at {per_cent(mfu)} of {chip.peak_flops / 1e12:.4g} TFLOP/s "
        f"({chip.name}), ${chip.usd_per_hour:.4g} a GPU-hour",
        (*assumed, "attention's own FLOP left out"),
    )


def measured(tokens: QueryTokens, tokens_per_gpu_s: float, chip: Chip, source: str, assumed: tuple[str, ...]) -> Basis:
    """GPU price ÷ tokens that a GPU was measured to serve (prompt + output, cached ones too), day and night alike."""
    positive("tokens_per_gpu_s", tokens_per_gpu_s)
    return _one_price(
        "measured",
        tokens,
        chip.usd_per_hour / S_PER_HOUR / tokens_per_gpu_s,
        f"{source}: {tokens_per_gpu_s:,.0f} tokens a second and GPU, prompt + output, ${chip.usd_per_hour:.4g} "
        "a GPU-hour, as if it were always so busy",
        assumed,
    )


def simulated(tokens: QueryTokens, chip: Chip, peak: ServedPeak) -> Basis:
    """The planned fleet's day ÷ the day's queries; input and output by the time that the GPUs are busy with each."""
    per_query = peak.replicas * peak.gpus_per_replica * chip.usd_per_hour / (S_PER_HOUR * peak.peak_qps)
    per_query /= peak.mean_of_day
    reaching = per_query / tokens.uncached_share
    return Basis(
        "simulated",
        THOUSAND * reaching * peak.input_share / tokens.prompt,
        THOUSAND * reaching * (1.0 - peak.input_share) / tokens.output,
        per_query,
        f"GPUs all day: {peak.replicas * peak.gpus_per_replica}, ${chip.usd_per_hour:.4g} a GPU-hour, at the day's "
        f"load; {per_cent(peak.input_share)} of the busy time are prompts",
        ("busy time split by the step cost of full prefill steps; the rest is decoding",),
    )


def _one_price(name: str, tokens: QueryTokens, usd_per_token: float, how: str, assumed: tuple[str, ...]) -> Basis:
    """A basis on which input and output tokens cost the same."""
    per_1k, per_query = THOUSAND * usd_per_token, tokens.uncached_share * tokens.total * usd_per_token
    return Basis(name, per_1k, per_1k, per_query, how, assumed)


def by_denominator(basis: Basis, tokens: QueryTokens, words_per_1000_tokens: float) -> Denominators:
    """What a basis comes to for a thousand of each thing that a bill may be divided by; prompts count per answer."""
    positive("words_per_1000_tokens", words_per_1000_tokens)
    per_query = THOUSAND * basis.usd_per_query / tokens.uncached_share
    per_token = per_query / tokens.total
    return Denominators(basis.name, per_token, per_query / tokens.output, per_token * THOUSAND / words_per_1000_tokens)


def flop_usd(active_parameters: float, chip: Chip, mfu: float) -> float:
    """$ of one token's FLOP."""
    positive("active_parameters", active_parameters)
    seconds = gpu_seconds(model_flop(active_parameters, 1.0), chip.peak_flops, mfu)
    return seconds * chip.usd_per_hour / S_PER_HOUR


def check_mfu(mfu: float) -> None:
    """Raise InputError unless 0 < mfu <= 1."""
    if not 0 < mfu <= 1:
        raise InputError("mfu", mfu, "must be above 0 and at most 1: a share of the GPU's peak FLOP/s")


def per_cent(share_of: float) -> str:
    """ "25.0 %"."""
    return f"{100 * share_of:.1f} %"
