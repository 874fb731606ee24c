"""What holds for all tests: a process that they start can be interrupted.

A shell ignores SIGINT for what it runs in the background, and children inherit that. Tests of Ctrl-C would then wait
for ever: so it is undone here, and what the tests start begins with the default.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import MODELS, Fake, fake_server

from tests.browser import REQUIRED, Tab, chromium, find_chromium

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server that is ready and serves two models."""
    with fake_server() as server:
        server.say("/health", 200)
        server.say("/v1/models", 200, MODELS)
        yield server


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser's tab; skipped where the system has no browser, unless one is required."""
    program = find_chromium()
    if program is None:
        missing = "no Chromium: apt-get install chromium"
        assert not os.environ.get(REQUIRED), missing
        pytest.skip(missing)
    with chromium(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get("TEST_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
