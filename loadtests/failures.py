"""What a call can fail of: short reasons, the same for the same cause, and Retry-After."""

from __future__ import annotations

import email.utils
import errno
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
import msgspec
from geventhttpclient.response import HTTPParseError

from loadtests.sse import EventTooLongError

STALLED, TIMED_OUT, INTERRUPTED = "stream stalled", "query timed out", "interrupted"
COUNT_DIFFERS, NO_TOKEN, CUT_OFF = "token count differs", "no token", "stream cut off"


class FailedError(Exception):
    """A call that missed. `reason` goes into the record, `detail` into the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Abandoned(gevent.GreenletExit):  # type: ignore[misc]
    """Thrown into a call by whoever watches it: it waited too long, or the run was stopped."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (gevent.socket.gaierror, "host not found"),
    (ssl.SSLError, "TLS error"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "connection reset"),
    (BrokenPipeError, "connection reset"),
    (TimeoutError, "connection timed out"),
    (msgspec.ValidationError, "invalid event"),
    (msgspec.DecodeError, "invalid JSON"),
    (UnicodeDecodeError, "invalid JSON"),
    (EventTooLongError, "invalid event"),
    (HTTPParseError, "invalid HTTP"),
    (KeyboardInterrupt, INTERRUPTED),
)


def reason_of(error: BaseException) -> tuple[str, str]:
    """A short reason and what else is known."""
    if isinstance(error, FailedError):
        return error.reason, error.detail
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason, str(error)
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, "unknown")
        return f"network error {name}", str(error)
    return f"client error {type(error).__name__}", str(error)


def retry_after_s(header: Any, clock: Callable[[], float] = time.time) -> float | None:
    """What Retry-After says: seconds, or a date."""
    text = str(header or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - clock())
    except (ValueError, TypeError):
        return None
