"""A scenario's deployment behind a port: engines, metrics and routes put together, and uvicorn around them."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any, cast

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from planner.deployment import Deployment
from planner.emulator.app import Served, build_app
from planner.emulator.bodies import Limits
from planner.emulator.engine import Engine
from planner.emulator.faults import FaultPlan, FaultShare
from planner.emulator.fleet import Fleet, chance_of
from planner.emulator.metrics import Metrics
from planner.emulator.signals import SignalServer
from planner.emulator.truth import Truth
from planner.errors import InputError

_BACKLOG = 2048
_LEAVE_S = 1  # for answers that are under way when the server is told to stop
_RESET = bytes((1, 0, 0, 0, 0, 0, 0, 0))  # struct linger: on, 0 seconds


@dataclass(frozen=True)
class Settings:
    """How a deployment is served. `names`: what the model answers to, the first being what it calls itself.

    `room`: unfinished requests that a replica may have, 0 = any number. `beginning`: tokens that tell prompt groups
    apart, see `fleet.beginning_tokens`.
    """

    names: tuple[str, ...]
    replicas: int
    shares: tuple[FaultShare, ...] = ()
    slow_start_s: float = 0.0
    seed: int = 0
    room: int = 0
    beginning: int = 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose. Raises InputError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(cast("tuple[str, int]", address[:2]), family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise InputError("host", host, f"cannot be found: {error.strerror}", "127.0.0.1") from error
    except OSError as error:
        rule = f"cannot listen on {host}: {error.strerror or error}"
        raise InputError("port", port, rule, "0 (any free port)") from error


def serve(
    deployment: Deployment,
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    truth_file: IO[bytes] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM; the signal's number."""
    connections = _Connections()
    config = uvicorn.Config(
        _no_app,
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=_LEAVE_S,
    )

    async def run() -> int:
        fleet, app = _assemble(deployment, settings, connections.reset, truth_file)
        config.app = app
        server = _Server(config, fleet, on_ready)
        await server.serve([listener])
        return server.signal

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(run())


def _assemble(
    deployment: Deployment, settings: Settings, reset: Callable[[Scope], None], truth_file: IO[bytes] | None
) -> tuple[Fleet, ASGIApp]:
    """All objects of a server, on the running loop. Time 0 of every engine is now."""
    options, config = deployment.candidate.options, deployment.config
    loop = asyncio.get_running_loop()
    origin_s, origin_unix_s = time.monotonic(), time.time()
    count = settings.replicas * options.data_parallel_size
    cache = {
        "block_size": config.block_size,
        "cache_dtype": options.kv_cache_dtype,
        "enable_prefix_caching": config.enable_prefix_caching,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "kv_cache_max_concurrency": deployment.kv.logged_tokens / config.max_model_len,
        "kv_cache_size_tokens": deployment.kv.logged_tokens,
        "num_gpu_blocks": config.num_blocks,
        "num_gpu_blocks_override": options.num_gpu_blocks_override,
    }
    metrics = Metrics(settings.names[0], count, config, cache)

    def clock() -> float:
        return time.monotonic() - origin_s

    engines = [Engine(config, deployment.cost, clock, loop, metrics.engines[i]) for i in range(count)]
    chance = chance_of(settings.seed)
    fleet = Fleet(engines, deployment.candidate.routing, chance, settings.room, settings.beginning)
    room = config.usable_blocks * config.block_size
    limits = Limits(frozenset(settings.names), config.max_model_len, deployment.candidate.model.vocab, room)
    served = Served(
        name=settings.names[0],
        vllm_version=options.vllm_version,
        limits=limits,
        fleet=fleet,
        metrics=metrics,
        faults=FaultPlan(settings.shares, random.Random(f"faults {settings.seed}")),
        truth=Truth(truth_file, origin_unix_s),
        ready=lambda: clock() >= settings.slow_start_s,
        reset=reset,
    )
    return fleet, build_app(served)


async def _no_app(*_: Any) -> None:
    """Stands where uvicorn wants an application before the loop runs that the real one is made on."""


class _Server(SignalServer):
    """Answers under way are broken off when it ends."""

    def __init__(self, config: uvicorn.Config, fleet: Fleet, on_ready: Callable[[], None]) -> None:
        super().__init__(config, on_ready)
        self._fleet = fleet

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._fleet.stop()
        await super().shutdown(sockets)


class _Connections:
    """Open connections by their client's address, so that a fault can reset one: ASGI has no way to say so."""

    def __init__(self) -> None:
        self._transports: dict[Any, asyncio.Transport] = {}

    def reset(self, scope: Scope) -> None:
        """Send the client a TCP reset instead of an orderly end."""
        transport = self._transports.get(tuple(scope.get("client") or ()))
        if transport is None:
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def protocol(self) -> type[asyncio.Protocol]:
        """uvicorn's HTTP protocol, keeping this table."""
        transports = self._transports

        class Kept(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.client, None)
                super().connection_lost(exc)

        return Kept


def model_names(given: str | None, deployment: Deployment, asked: Iterable[str]) -> tuple[str, ...]:
    """What the model answers to: the name that was given, else its Hugging Face name, and how the scenario calls it."""
    model = deployment.candidate.model
    names = (given, model.hf_repo, model.name, *asked)
    return tuple(dict.fromkeys(name for name in names if name))
