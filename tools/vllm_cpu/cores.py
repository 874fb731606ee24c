"""Which CPU core does what while real vLLM runs: the engine has the last one, the API server and clients the others.

vLLM's engine process waits for its worker by spinning. Left alone on a small machine it spins on the core that the
API server and the load test need: tokens then arrive in bursts 200 ms apart that no GPU server shows. Sharing the
worker's core costs nothing, because the two take turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
# Read once: a process that keeps to the clients' cores must not take those for all there are.
ALLOWED = sorted(os.sched_getaffinity(0))


def for_engine() -> int:
    """The engine's core."""
    return ALLOWED[-1]


def for_clients() -> frozenset[int]:
    """The cores of the API server and of what sends to it; the engine's own where there is no other."""
    return frozenset(ALLOWED[:-1]) or frozenset(ALLOWED)


@contextmanager
def beside_the_engine() -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, off the engine's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, for_clients())
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def separate(leader: int) -> None:
    """Put the API server (`leader`) on the clients' cores and the rest of its session on the engine's."""
    for process in session_processes(leader):
        for thread in threads(process):
            # A thread may end between being listed and being moved.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, for_clients() if process == leader else {for_engine()})


def threads(process: int) -> list[int]:
    """The threads of a process, none when it has ended."""
    with suppress(FileNotFoundError):
        return [int(entry.name) for entry in (PROC / str(process) / "task").iterdir()]
    return []


def session_processes(session: int) -> list[int]:
    """The living processes of a session; zombies, which only wait to be collected, are not among them."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name, which ends with the last bracket: state, parent, group, session.
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state != "Z":
                    found.append(int(entry.name))
    return sorted(found)
