"""The port: /metrics, the live page, the comparison as JSON, health. It only shows what the poller has found."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from planner.emulator.signals import SignalServer
from planner.exporter.collector import exposition
from planner.exporter.hosts import is_allowed
from planner.exporter.snapshot import Snapshot

_LEAVE_S = 1  # for answers that are under way when the server is told to stop
HEADERS = {
    # The page is one document with its style and pictures within; it runs no script.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build_app(
    snapshot: Callable[[], Snapshot], unix_s: Callable[[], float], hosts: frozenset[str] | None = None
) -> Starlette:
    """The routes over whatever `snapshot` gives at the time; `unix_s` is the day's clock, `hosts` the names that are
    answered (None = any).
    """

    async def metrics(request: Request) -> Response:
        body, content_type = exposition(snapshot(), unix_s(), request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={**HEADERS, "Content-Type": content_type})

    async def page(_: Request) -> Response:
        from planner.exporter.page import live_page

        return HTMLResponse(live_page(snapshot()), headers=HEADERS)

    async def document(_: Request) -> Response:
        shown = snapshot()
        if shown.drift is None:
            return _json({"error": _why_none(shown), "troubles": [vars(one) for one in shown.troubles]}, 503)
        return _json(shown.drift, 200, {"Age": str(math.floor(shown.age_s))})

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthy\n", headers=HEADERS)

    async def ready(_: Request) -> Response:
        shown = snapshot()
        return PlainTextResponse(
            *(("ready\n", 200) if shown.ready else (_why_none(shown) + "\n", 503)), headers=HEADERS
        )

    async def no_such_page(_: Request, error: Exception) -> Response:
        text = "there is: / /metrics /api/snapshot /-/healthy /-/ready\n"
        return PlainTextResponse(text, getattr(error, "status_code", 404), headers=HEADERS)

    routes: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
        "/": page,
        "/metrics": metrics,
        "/api/snapshot": document,
        "/-/healthy": healthy,
        "/-/ready": ready,
    }
    return Starlette(
        routes=[Route(path, answer) for path, answer in routes.items()],
        exception_handlers={404: no_such_page, 405: no_such_page},
        middleware=[Middleware(_ByName, hosts=hosts)],
    )


class _ByName:
    """421 for a request that asks for this port by a name that is not its own."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if is_allowed(host, self._hosts):
            await self._app(scope, receive, send)
            return
        text = "this port is not asked for by that name (Host): use its address, or start it with --allow-host NAME\n"
        await PlainTextResponse(text, 421, headers=HEADERS)(scope, receive, send)


def _why_none(snapshot: Snapshot) -> str:
    if not snapshot.ready:
        return "no reading so far has told what the fleet does"
    if snapshot.stale:
        return f"the last figures are {snapshot.age_s:.0f} s old, too old to show"
    return "the last reading could not be compared with the plan"


def _json(document: Mapping[str, Any], status: int, more: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(_plain(document), ensure_ascii=False, allow_nan=False)
    return Response(text, status, {**HEADERS, **(more or {})}, "application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def serve(app: Starlette, listener: socket.socket, on_ready: Callable[[], None]) -> int:
    """Serve until SIGINT or SIGTERM; the signal's number."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",  # a defect leaves its traceback on standard error
        server_header=False,
        timeout_graceful_shutdown=_LEAVE_S,
    )
    server = SignalServer(config, on_ready)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve([listener]))
    return server.signal
