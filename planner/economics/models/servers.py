"""The measured basis: a server of known batch, time and rent; fleets of it; phases of a fleet that serves an API."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated

from planner.economics.models.fields import (
    Factor,
    Given,
    Made,
    PositiveShare,
    Share,
    UsdPerServerHour,
    Why,
)
from planner.units import S_PER_HOUR, TOKENS_PER_PRICE

TokensPerRequest = Annotated[float, Given("token/request", 0, above=True)]
TokensPerServerSecond = Annotated[float, Given("token/s/server", 0, above=True)]


@dataclass(frozen=True)
class ServerBasis:
    """Throughput of one server that always works on a full batch, and what it costs per request and token."""

    requests_per_s: Annotated[float, Made("request/s/server", "batch ÷ seconds")]
    output_tokens_per_s: Annotated[float, Made("token/s/server", "requests_per_s × output_tokens")]
    output_tokens_per_s_per_gpu: Annotated[float, Made("token/s/gpu", "output_tokens_per_s ÷ gpus")]
    tokens_per_s_per_gpu: Annotated[
        float, Made("token/s/gpu", "requests_per_s × (input_tokens + output_tokens) ÷ gpus")
    ]
    usd_per_request: Annotated[float, Made("USD/request", "usd_per_server_hour ÷ 3600 ÷ requests_per_s")]
    usd_per_1000_output_tokens: Annotated[float, Made("USD/ktoken", "usd_per_request ÷ output_tokens × 1000")]
    usd_per_1000_tokens: Annotated[float, Made("USD/ktoken", "usd_per_request ÷ (input_tokens + output_tokens) × 1000")]


@dataclass(frozen=True)
class Concurrency:
    """Requests in the server at once."""

    requests: Annotated[float, Made("request/server", "requests_per_s × seconds")]


@dataclass(frozen=True)
class FleetOfServers:
    """Whole servers, and their cost over all queries, cached ones included."""

    servers: Annotated[
        float,
        Made(
            "server",
            "ceil(queries_per_s × (1 − cache_hit_rate) × requests_per_query ÷ (requests_per_s × utilisation))",
        ),
    ]
    usd_per_hour: Annotated[float, Made("USD/hour", "servers × usd_per_server_hour")]
    usd_per_query: Annotated[float, Made("USD/query", "usd_per_hour ÷ 3600 ÷ queries_per_s")]


@dataclass(frozen=True)
class PhaseFleet:
    """Servers that prefill and servers that decode, on average over a day, and what a million tokens cost on them."""

    prefill_servers: Annotated[float, Made("server", "input_tokens ÷ 86400 ÷ input_tokens_per_s")]
    decode_servers: Annotated[float, Made("server", "output_tokens ÷ 86400 ÷ output_tokens_per_s")]
    servers: Annotated[float, Made("server", "prefill_servers + decode_servers")]
    usd_per_million_input: Annotated[
        float, Made("USD/Mtoken", "usd_per_server_hour ÷ 3600 ÷ input_tokens_per_s × 1000000")
    ]
    usd_per_million_output: Annotated[
        float, Made("USD/Mtoken", "usd_per_server_hour ÷ 3600 ÷ output_tokens_per_s × 1000000")
    ]


@dataclass(frozen=True)
class CostFactor:
    """What becomes of the cost of a query."""

    cost_factor: Annotated[float, Made("", "spend_factor ÷ throughput_factor")]


def server_basis(
    usd_per_server_hour: UsdPerServerHour,
    batch: Annotated[float, Given("request/server", 0, above=True)],
    seconds: Annotated[float, Given("s", 0, above=True)],
    input_tokens: TokensPerRequest,
    output_tokens: TokensPerRequest,
    gpus: Annotated[float, Given("gpu/server", 0, above=True)],
) -> ServerBasis:
    """A server that answers `batch` requests in `seconds`: its rate, and its rent over requests and over tokens.

    Per output token and per token of prompt and answer are both told: they differ by the prompt's share.
    """
    rate = batch / seconds
    both = input_tokens + output_tokens
    per_request = usd_per_server_hour / S_PER_HOUR / rate
    return ServerBasis(
        rate,
        rate * output_tokens,
        rate * output_tokens / gpus,
        rate * both / gpus,
        per_request,
        per_request / output_tokens * 1000,
        per_request / both * 1000,
    )


def littles_law(
    requests_per_s: Annotated[float, Given("request/s/server", 0, above=True)],
    seconds: Annotated[float, Given("s", 0, above=True)],
) -> Concurrency:
    """L = λ·W: requests in the server = their rate times how long each stays."""
    return Concurrency(requests_per_s * seconds)


def fleet_of_servers(
    queries_per_s: Annotated[float, Given("query/s", 0, above=True)],
    requests_per_s: Annotated[float, Given("request/s/server", 0, above=True)],
    usd_per_server_hour: UsdPerServerHour,
    utilisation: PositiveShare,
    cache_hit_rate: Annotated[Share, Why("every query reaches the model")] = 0.0,
    requests_per_query: Annotated[float, Given("request/query", 0, above=True), Why("one model call a query")] = 1.0,
) -> FleetOfServers:
    """How many whole servers carry a load at a target utilisation: ceil(λ·(1 − h) ÷ (q·u)).

    Their cost is spread over *all* queries: a cached one earns its revenue too.
    """
    servers = ceil(queries_per_s * (1 - cache_hit_rate) * requests_per_query / (requests_per_s * utilisation))
    hourly = servers * usd_per_server_hour
    return FleetOfServers(float(servers), hourly, hourly / S_PER_HOUR / queries_per_s)


def phase_fleet(
    input_tokens: Annotated[float, Given("token/day", 0, above=True)],
    output_tokens: Annotated[float, Given("token/day", 0, above=True)],
    input_tokens_per_s: TokensPerServerSecond,
    output_tokens_per_s: TokensPerServerSecond,
    usd_per_server_hour: UsdPerServerHour,
) -> PhaseFleet:
    """The average fleet that a day's tokens keep busy, prefill and decode on servers of their own."""
    per_day = 86_400.0
    prefill, decode = input_tokens / per_day / input_tokens_per_s, output_tokens / per_day / output_tokens_per_s
    per_second = usd_per_server_hour / S_PER_HOUR
    return PhaseFleet(
        prefill,
        decode,
        prefill + decode,
        per_second / input_tokens_per_s * TOKENS_PER_PRICE,
        per_second / output_tokens_per_s * TOKENS_PER_PRICE,
    )


def cost_factor(
    throughput_factor: Factor, spend_factor: Annotated[Factor, Why("the same fleet, the same bill")] = 1.0
) -> CostFactor:
    """A fleet that serves k times as many queries for the same money makes each cost a k-th."""
    return CostFactor(spend_factor / throughput_factor)
