"""Shared by all tests."""

from __future__ import annotations

from pathlib import Path

ROOM = Path(__file__).parents[1] / "planner" / "simulation"


def pytest_configure() -> None:
    """Forget compiled code that is older than any source of its room.

    numba watches only the file that holds a function, not those it was inlined from.
    """
    newest = max((path.stat().st_mtime for path in ROOM.glob("*.py")), default=0.0)
    for cached in (ROOM / "__pycache__").glob("*.nb[ic]"):
        if cached.stat().st_mtime < newest:
            cached.unlink(missing_ok=True)
