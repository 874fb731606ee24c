"""One model call: sent, streamed, stamped, and whatever went wrong named.

Every way to fail ends in a row with a short reason that is the same for the same cause. Times are seconds on the run's
clock, taken as soon as the bytes are read.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
import msgspec

from loadtests.events import Event, Said, Usage, is_token, settle
from loadtests.failures import (
    COUNT_DIFFERS,
    CUT_OFF,
    INTERRUPTED,
    NO_TOKEN,
    TIMED_OUT,
    Abandoned,
    FailedError,
    reason_of,
    retry_after_s,
)
from loadtests.prompts import PATHS, Api
from loadtests.sse import EventStream
from loadtests.wire import READ_BYTES, Address, Reply, connections, request_head, request_tail

READABLE = 1  # the event loop's name for it
CLOSING_S = 1.0  # for the end of a reply whose last event has come
MOST_ERROR_BODY = 10_000  # bytes of an error's text that are read
MOST_DETAIL = 200  # characters of it that are told
KEY_PIECE = 8  # characters of the key that are not told, wherever in it they stand


@dataclass(slots=True, eq=False)
class Call:
    """A call and what came of it. `requests` are its samples' places in the load's arrays."""

    requests: range
    prompt_tokens: int
    output_tokens: int  # of each sample
    body: bytes = field(repr=False)
    said: Said | None = None  # where the answer is to be kept
    session: str = ""  # what a router keeps together with it, empty = nothing
    deadline_s: float = math.inf  # of its query
    sent_s: float | None = None
    ended_s: float | None = None
    token_s: list[list[float]] = field(default_factory=list)  # for each sample the times of its events
    blank_ends: dict[int, tuple[float, Any]] = field(default_factory=dict)  # see `events`: by sample
    usage: Usage | None = None
    status: int | None = None
    retry_after_s: float | None = None
    error: str = ""
    detail: str = ""
    bytes: int = 0
    heard_s: float | None = None  # when the last token came
    greenlet: gevent.Greenlet | None = None


class Client:
    """Calls one API of one server. `key` is sent and never shown."""

    def __init__(self, address: Address, api: Api, key: str, origin: float) -> None:
        self._pool = connections(address)
        self._head = request_head(address, PATHS[api], key)
        self._chat = api == "chat"
        self._key = key
        self._origin = origin
        self._decode = msgspec.json.Decoder(Event).decode

    def now(self) -> float:
        """Seconds on the run's clock."""
        return time.perf_counter() - self._origin

    def close(self) -> None:
        """Close connections that nobody uses."""
        self._pool.close()

    def send(self, call: Call) -> None:
        """Make the call and fill in what came of it; raises nothing but what stops the whole run."""
        call.greenlet = gevent.getcurrent()
        call.token_s = [[] for _ in call.requests]
        call.sent_s = self.now()
        try:
            self._exchange(call)
            self._check(call)
            if call.ended_s is not None and call.ended_s > call.deadline_s:
                raise Abandoned(TIMED_OUT)
        except Abandoned as abandoned:
            call.error = abandoned.reason
        except gevent.GreenletExit:
            call.error = INTERRUPTED
            raise
        except (Exception, KeyboardInterrupt) as error:
            call.error, detail = reason_of(error)
            call.detail = self._scrubbed(detail)
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            call.greenlet = None
            if call.ended_s is None:
                call.ended_s = self.now()

    def _scrubbed(self, text: str) -> str:
        # Cut last: a cut through the key would leave its first part, which is then no key that could be found.
        text = " ".join(text.split())[: MOST_DETAIL + len(self._key)]
        return without_key(text, self._key)[:MOST_DETAIL]

    # --- over the wire ---

    def _exchange(self, call: Call) -> None:
        try:
            sock = self._pool.get_socket()
        except TimeoutError:
            raise FailedError("connect timeout") from None
        reply = Reply()
        reusable = False
        try:
            sock.sendall(self._head + request_tail(call.body, call.session))
            self._read_head(call, sock, reply)
            self._read_events(call, sock, reply)
            reusable = self._read_rest(sock, reply)
        finally:
            if reusable:
                self._pool.return_socket(sock)
            else:
                self._pool.release_socket(sock)

    def _read_head(self, call: Call, sock: gevent.socket.socket, reply: Reply) -> None:
        while not reply.headers_complete or reply.get_code() < 200:
            data = sock.recv(READ_BYTES)
            if not data:
                raise FailedError("connection closed", "before a reply")
            call.bytes += len(data)
            reply.feed(data)
        call.status = reply.get_code()
        if call.status != 200:
            call.retry_after_s = retry_after_s(reply.get("retry-after"))
            raise FailedError(f"HTTP {call.status}", self._error_text(sock, reply))
        kind = str(reply.get("content-type") or "")
        if not kind.lower().startswith("text/event-stream"):
            raise FailedError("not a stream", f"content type {kind or 'not given'}")

    def _error_text(self, sock: gevent.socket.socket, reply: Reply) -> str:
        with gevent.Timeout(CLOSING_S, False):
            while not reply.message_complete and len(reply.body) < MOST_ERROR_BODY:
                data = sock.recv(READ_BYTES)
                if not data:
                    break
                reply.feed(data)
        return reply.take().decode(errors="replace")

    def _read_events(self, call: Call, sock: gevent.socket.socket, reply: Reply) -> None:
        """Read up to the event that says [DONE]. The way of every token: keep it short."""
        now, feed, take, recv = self.now, reply.feed, reply.take, sock.recv
        events = EventStream()
        if self._handle(call, events.feed(take()), now()):
            return
        # Waiting first spares the read that finds nothing. TLS may hold bytes that the socket no longer shows.
        hub = gevent.get_hub()
        ready = None if isinstance(sock, gevent.ssl.SSLSocket) else hub.loop.io(sock.fileno(), READABLE)
        try:
            while not reply.message_complete:
                if ready is not None:
                    hub.wait(ready)
                data = recv(READ_BYTES)
                at_s = now()
                if not data:
                    raise FailedError(CUT_OFF)
                call.bytes += len(data)
                feed(data)
                if self._handle(call, events.feed(take()), at_s):
                    return
        finally:
            if ready is not None:
                ready.close()
        raise FailedError(CUT_OFF, "the reply ended without [DONE]")

    def _handle(self, call: Call, events: list[bytes], at_s: float) -> bool:
        """Note what came at `at_s`; true for the last event."""
        for data in events:
            if data == b"[DONE]":
                call.ended_s = at_s
                return True
            event = self._decode(data)
            if event.error is not None or event.object == "error":
                raise FailedError("error in the stream", str(event.error or event.message))
            for choice in event.choices:
                if not 0 <= choice.index < len(call.token_s):
                    raise FailedError("invalid event", f"choice {choice.index} was not asked for")
                times = call.token_s[choice.index]
                token = is_token(choice, bool(times))
                if token:
                    times.append(at_s)
                    call.heard_s = at_s
                elif token is None:
                    call.blank_ends[choice.index] = at_s, choice.finish_reason
                if call.said is not None:
                    call.said.hear(choice)
            if event.usage is not None:
                call.usage = event.usage
        return False

    def _read_rest(self, sock: gevent.socket.socket, reply: Reply) -> bool:
        """Read the end of the reply; whether the connection can carry another request."""
        with gevent.Timeout(CLOSING_S, False):
            while not reply.message_complete:
                data = sock.recv(READ_BYTES)
                if not data:
                    return False
                reply.feed(data)
        return reply.message_complete and not reply.should_close()

    # --- afterwards ---

    def _check(self, call: Call) -> None:
        settle(call.token_s, call.blank_ends, call.usage, call.output_tokens)
        if not all(call.token_s):
            raise FailedError(NO_TOKEN, "the stream ended without one for each sample")
        usage, events = call.usage, [len(times) for times in call.token_s]
        asked = call.output_tokens * len(call.requests)
        if usage is None:  # then each event must have been one token, and all must have come
            if any(each != call.output_tokens for each in events):
                raise FailedError(COUNT_DIFFERS, f"asked for {asked} output tokens, got {sum(events)} and no usage")
            return
        if usage.completion_tokens != asked:
            raise FailedError(COUNT_DIFFERS, f"asked for {asked} output tokens, got {usage.completion_tokens}")
        if max(events) > call.output_tokens:  # not all of them were tokens, and nobody knows which
            raise FailedError(COUNT_DIFFERS, f"{sum(events)} events for {usage.completion_tokens} output tokens")
        if not self._chat and usage.prompt_tokens != call.prompt_tokens:
            raise FailedError(COUNT_DIFFERS, f"sent {call.prompt_tokens} prompt tokens, counted {usage.prompt_tokens}")


def without_key(text: str, key: str) -> str:
    """The text without the key, and without pieces of it: servers echo keys in part."""
    if not key:
        return text
    text = text.replace(key, "***")
    shown, place = [], 0
    while place < len(text):
        size = KEY_PIECE
        if text[place : place + size] in key and place + size <= len(text):
            while place + size < len(text) and text[place : place + size + 1] in key:
                size += 1
            shown.append("***")
            place += size
        else:
            shown.append(text[place])
            place += 1
    return "".join(shown)
