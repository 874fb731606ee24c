"""One answer as an ASGI response: tokens as the engine gives them, in a stream or whole, and faults where asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from planner.emulator.bodies import Order
from planner.emulator.chunks import DONE, Voice
from planner.emulator.engine import Call, Engine
from planner.emulator.faults import Fault
from planner.emulator.fleet import Fleet
from planner.emulator.tokens import answer_words, block_names, token_id
from planner.emulator.truth import Truth

_BREAKING = ("drop", "reset", "half-event", "stall")  # kinds after which nothing more is sent
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Answer:
    """All sequences of one request. It listens to the engines and writes what they give.

    One wake-up of the event loop per step and answer: all that a step gave is sent together.
    """

    def __init__(
        self, order: Order, voice: Voice, vocab: int, fault: Fault | None, reset: Callable[[Scope], None], truth: Truth
    ) -> None:
        self._order, self._voice, self._vocab = order, voice, vocab
        self._fault, self._reset, self._truth = fault, reset, truth
        self._words: list[list[str]] = []
        self._ids: list[list[int]] = []
        self._calls: dict[Call, tuple[int, Engine]] = {}
        self._open = 0  # sequences whose last token is not out
        self._tokens = 0
        self._ready: list[bytes] = []  # events that are not sent yet
        self._waiter: asyncio.Future[None] | None = None
        self._over = False  # nothing more will be put into `_ready`
        self._gone = False  # the client, or the engine
        self._ending: str | None = None  # a breaking fault that has struck

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; the engines forget it when the client goes away."""
        watch = asyncio.create_task(self._watch(receive))
        try:
            await (self._stream(send) if self._order.stream else self._whole(send))
            if self._ending == "stall":
                await self._until_gone()
            elif self._ending == "reset":
                self._reset(scope)
            # After the other breaking faults the response is left incomplete: the server closes the connection.
        finally:
            watch.cancel()
            for call, (index, engine) in self._calls.items():
                engine.drop(call, engine.now_s())
                self._truth.write(self._voice.id, index, call, self._fault)

    def start(self, fleet: Fleet, arrival_s: float, session: str = "") -> bool:
        """Offer every sequence to an engine; all of them came at `arrival_s`, and all samples of a prompt go together.

        `session` is what the client calls its session by. False where a prompt finds no engine with room: then none of
        the request is left at any.
        """
        order, config = self._order, fleet.engines[0].config
        for prompt, output_tokens in zip(order.prompts, order.output_tokens, strict=True):
            sequences: list[list[bytes]] = []
            for sample in range(order.samples):
                words = answer_words(prompt, order.seed + sample, output_tokens)
                ids = [token_id(word, self._vocab) for word in words]
                # Generated blocks are named too: the next turn of a conversation can hit them.
                caching = config.enable_prefix_caching
                sequences.append(block_names([*prompt, *ids], config.block_size) if caching else [])
                self._words.append(words)
                self._ids.append(ids)
            computed = (len(prompt) + output_tokens - 1) // config.block_size  # an answer's last token never is
            engine = fleet.route(order.samples, prompt, sequences[0][:computed], session)
            if engine is None:
                for call, (_, taken) in self._calls.items():
                    taken.drop(call, arrival_s)
                return False
            for sample, blocks in enumerate(sequences):
                samples = order.samples if sample == 0 else 0
                call = engine.submit(arrival_s, len(prompt), output_tokens, blocks, self, samples)
                self._calls[call] = len(self._calls), engine
        self._open = len(self._calls)
        return True

    # --- what the engines say ---

    def on_token(self, call: Call, at_s: float) -> None:
        """Put the token's event where the sender finds it."""
        self._truth.note(call, at_s)
        index, number = self._calls[call][0], call.generated
        if self._order.chat and number == 1:
            self._put(self._voice.role(index))
        last = number == call.output_tokens
        word = self._words[index][number - 1]
        self._put(self._voice.token(index, word, number, last, self._ids[index][number - 1]))
        self._tokens += 1
        self._open -= last
        if self._open == 0:
            if self._order.include_usage:
                self._put(self._voice.usage(*self._usage()))
            self._put(DONE)
            self._over = True
        self._wake()

    def on_stop(self, call: Call) -> None:
        """The engine was stopped under the answer."""
        self._leave()

    def _put(self, event: bytes) -> None:
        fault = self._fault
        if self._ending is not None:
            return
        if fault is not None and self._order.stream and self._tokens >= fault.after:
            if fault.kind in _BREAKING:
                self._ending, self._over = fault.kind, True
                event = event[: len(event) // 2] if fault.kind == "half-event" else b""
            elif fault.kind == "invalid-json" and self._tokens == fault.after:
                event = event.replace(b'"', b"", 1)
        self._ready.append(event)

    def _usage(self) -> tuple[int, int]:
        order = self._order
        wrong = self._fault is not None and self._fault.kind == "wrong-usage"
        return sum(map(len, order.prompts)), sum(order.output_tokens) * order.samples + wrong

    # --- what the client gets ---

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        while True:
            if not self._ready and not self._over:
                await self._next()
            if self._gone:
                return
            body = b"".join(self._ready)
            self._ready.clear()
            complete = self._over and self._ending is None
            await send({"type": "http.response.body", "body": body, "more_body": not complete})
            if self._over and not self._ready:
                return

    async def _whole(self, send: Send) -> None:
        """The same faults, where there are no events: before the body, within it, or in its JSON."""
        while not self._over and not self._gone:
            await self._next()
        if self._gone:
            return
        texts = ["".join(f" {word}" for word in words) for words in self._words]
        body = self._voice.whole(texts, *self._usage(), self._ids)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        kind = self._fault.kind if self._fault else None
        if kind in _BREAKING:
            self._ending = kind
            if kind == "stall":
                return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if kind in _BREAKING:
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        if kind == "invalid-json":
            body = body[:-1] + b" "
        await send({"type": "http.response.body", "body": body})

    # --- waiting ---

    async def _next(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _until_gone(self) -> None:
        while not self._gone:
            await self._next()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave(self) -> None:
        self._gone = self._over = True
        self._wake()

    async def _watch(self, receive: Receive) -> None:
        """Notice that the client went away, while nothing is being sent too."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()
