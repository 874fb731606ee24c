"""What holds for all tests: a process that they start can be interrupted.

A shell ignores SIGINT for what it runs in the background, and children inherit that. Tests of Ctrl-C would then wait
for ever: so it is undone here, and what the tests start begins with the default.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from live_server import MODELS, Fake, fake_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server that is ready and serves two models."""
    with fake_server() as server:
        server.say("/health", 200)
        server.say("/v1/models", 200, MODELS)
        yield server
