"""The HTTP side: vLLM's routes, its errors, its models page and its metrics, over a fleet of emulated engines."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from planner.emulator.answers import Answer
from planner.emulator.bodies import Limits, Order, RefusalError, chat_order, completion_order, tokenize_body
from planner.emulator.chunks import Voice
from planner.emulator.faults import HEADER, FaultPlan
from planner.emulator.fleet import Fleet
from planner.emulator.metrics import CONTENT_TYPE, Metrics
from planner.emulator.truth import Truth
from planner.records import SESSION_HEADER

EMULATOR = "planner emulate"  # says in /v1/models and /version that this is no vLLM
_REQUEST_ID = "x-request-id"


@dataclass(frozen=True)
class Served:
    """Everything that the routes need of one emulated deployment.

    `name` is what vLLM would call the model; `limits.names` holds what else it answers to. `reset` breaks the
    connection of a request.
    """

    name: str
    vllm_version: str
    limits: Limits
    fleet: Fleet
    metrics: Metrics
    faults: FaultPlan
    truth: Truth
    ready: Callable[[], bool]
    reset: Callable[[Scope], None]


def build_app(served: Served) -> ASGIApp:
    """The ASGI application."""
    created = int(time.time())

    async def completions(request: Request) -> ASGIApp:
        return await _answer(request, served, completion_order, "cmpl")

    async def chat_completions(request: Request) -> ASGIApp:
        return await _answer(request, served, chat_order, "chatcmpl")

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_card(served, created)]})

    async def health(request: Request) -> Response:
        return Response(status_code=200 if served.ready() else 503)

    async def version(request: Request) -> Response:
        return JSONResponse({"version": _release(served.vllm_version), "emulator": EMULATOR})

    async def metrics(request: Request) -> Response:
        return Response(served.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def tokenize(request: Request) -> Response:
        ids = tokenize_body(await request.body(), served.limits)
        length = served.limits.max_model_len
        return JSONResponse({"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": None})

    return Starlette(
        routes=[
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/version", version),
            Route("/metrics", metrics),
            Route("/tokenize", tokenize, methods=["POST"]),
        ],
        exception_handlers={RefusalError: _refused, HTTPException: _http_error},
    )


async def _answer(
    request: Request, served: Served, read: Callable[[bytes, Limits, str | None], Order], prefix: str
) -> ASGIApp:
    raw = await request.body()
    arrival_s = served.fleet.now_s()  # nothing is awaited from here to `start`
    if not served.ready():
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "the engine is still starting")
    if "json" not in request.headers.get("content-type", "application/json"):
        raise RefusalError(HTTPStatus.BAD_REQUEST, "the content type must be application/json")
    order = read(raw, served.limits, request.headers.get(HEADER))
    fault = order.fault or served.faults.draw()
    if fault is not None and fault.kind.isdecimal():
        status = HTTPStatus(int(fault.kind))
        raise RefusalError(status, f"{status.phrase}: a fault that was asked for", retry_after_s=fault.retry_after_s)
    answer_id = f"{prefix}-{request.headers.get(_REQUEST_ID) or uuid.uuid4().hex}"
    voice = Voice(order, answer_id, int(time.time()), served.name)
    answer = Answer(order, voice, served.limits.vocab, fault, served.reset, served.truth)
    if not answer.start(served.fleet, arrival_s, request.headers.get(SESSION_HEADER, "")):
        most = f"(fleet.admission.max_requests_per_replica={served.fleet.room})"
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, f"No replica has room for this request {most}.")
    return answer


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JSONResponse(error.body(), error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such route, or not by this method: there vLLM answers in its web framework's shape, not in its own."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, dict(error.headers or {}))


def _release(version: str) -> str:
    """As vLLM says it: 0.32.0, where the scenario may say 0.32."""
    return version if version.count(".") > 1 else f"{version}.0"


def _card(served: Served, created: int) -> Mapping[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": created,
        "owned_by": EMULATOR,
        "root": served.name,
        "parent": None,
        "max_model_len": served.limits.max_model_len,
        "permission": [],
    }
