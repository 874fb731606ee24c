"""The server's own record of what it did: when each request came and when each of its tokens was due.

A load test can be judged against it, for these times owe nothing to the client's clock or to the network.
"""

from __future__ import annotations

import sys
from typing import IO

import msgspec

from planner.emulator.engine import Call
from planner.emulator.faults import Fault


class TruthRow(msgspec.Struct):
    """One sequence. `token_s` are seconds from `received_unix_s` to each token, by the engine's own clock.

    `index` counts the sequences of one request. An answer that is not `complete` was given up by its client, or broken
    off by a fault.
    """

    id: str
    index: int
    received_unix_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    preemptions: int
    complete: bool
    fault: str | None
    token_s: list[float]


class Truth:
    """Writes one JSON line per sequence to `file`, which must be unbuffered; without one it does nothing."""

    def __init__(self, file: IO[bytes] | None, origin_unix_s: float) -> None:
        self._file, self._origin_unix_s = file, origin_unix_s
        self._token_s: dict[Call, list[float]] = {}

    def note(self, call: Call, at_s: float) -> None:
        """A token of `call`."""
        if self._file is not None:
            self._token_s.setdefault(call, []).append(at_s - call.arrival_s)

    def write(self, answer_id: str, index: int, call: Call, fault: Fault | None) -> None:
        """The row of a sequence that is over."""
        if self._file is None:
            return
        row = TruthRow(
            id=answer_id,
            index=index,
            received_unix_s=self._origin_unix_s + call.arrival_s,
            prompt_tokens=call.prompt_tokens,
            output_tokens=call.output_tokens,
            cached_tokens=call.cached_tokens,
            preemptions=call.preemptions,
            complete=call.generated >= call.output_tokens,
            fault=fault.kind if fault else None,
            token_s=self._token_s.pop(call, []),
        )
        try:
            self._file.write(msgspec.json.encode(row) + b"\n")
        except OSError as error:  # a full disk: the server goes on, and says that the record does not
            self._file = None
            print(f"planner: warning: the record ends here: {error.strerror or error}", file=sys.stderr, flush=True)
