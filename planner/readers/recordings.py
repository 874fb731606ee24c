"""What happened to each request of a run, as columns, whoever recorded it.

`read_recordings` tells the formats apart: ours (here), vllm bench's `--save-detailed` (`recordings_vllm_bench`) and
GuideLLM's per-request rows (`recordings_guidellm`), whose reports hold several runs. Our own files are read as far as
they go: a run that was killed leaves a torn last line and no end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataFileError
from planner.records import RECORD_VERSION, RequestRow, RunEnd, RunHeader, decode_line

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NAN = float("nan")
EMPTY = "is empty; planner loadtest SCENARIO --host URL --out FILE writes records"


@dataclass(frozen=True)
class Recording:
    """N requests of one run against one server, in the order in which they were due.

    Times in seconds from the run's start, NaN for what did not happen. Gap j of request i stands at
    `gaps_s[gap_start[i] + j]`; a reader whose format has no gaps leaves them out (`gap_start` all 0). Token counts are
    the server's where it gave them. Else a prompt has what was sent, and an output the events that brought a token:
    what was asked for is no answer.
    """

    path: Path
    source: str  # "planner", "vllm bench" or "GuideLLM"
    request: I64  # [N] place in the load's arrays
    query_s: F64  # [N] when the user's query was due
    scheduled_s: F64  # [N]
    sent_s: F64  # [N]
    first_token_s: F64  # [N]
    last_token_s: F64  # [N]
    prompt_tokens: I64  # [N]
    output_tokens: I64  # [N]
    gap_start: I64  # [N + 1]
    gaps_s: F64 = field(repr=False)
    errors: tuple[str, ...] = field(repr=False)  # [N], empty = answered
    header: RunHeader | None = field(default=None, repr=False)
    end: RunEnd | None = field(default=None, repr=False)
    cached_tokens: I64 | None = field(default=None, repr=False)  # [N] of the prompt, −1 where the server did not say
    ended_s: F64 | None = field(default=None, repr=False)  # [N] over for its client, answered or not
    held_s: F64 | None = field(default=None, repr=False)  # [N] of scheduled to sent: waiting for `max_in_flight`
    asked_prompt_tokens: I64 | None = field(default=None, repr=False)  # [N] of the load that was sent
    asked_output_tokens: I64 | None = field(default=None, repr=False)  # [N] likewise
    name: str = ""  # the file's, with the run's number where it holds several

    def __post_init__(self) -> None:
        """A run without a name of its own has the file's."""
        if not self.name:
            object.__setattr__(self, "name", self.path.name)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which requests were answered wholly [N]."""
        return np.array([not error for error in self.errors], dtype=np.bool_)


def read_own(path: Path) -> Recording:
    """A file of `planner loadtest`. Raises DataFileError for one that cannot be used."""
    header: RunHeader | None = None
    end: RunEnd | None = None
    rows: list[RequestRow] = []
    lines = _lines(path)
    if not lines:
        raise DataFileError("records", path, EMPTY)
    for number, text in lines:
        try:
            line = decode_line(text, number, str(path))
        except DataFileError:
            if number == lines[-1][0] and not text.endswith(b"\n"):
                break  # torn when the run was killed
            raise
        match line:
            case RunHeader():
                header = line
            case RequestRow():
                rows.append(line)
            case RunEnd():
                end = line
    if header is None:
        raise DataFileError("records", path, "has no header: the first line must be a run's")
    if header.version != RECORD_VERSION:
        raise DataFileError("records", path, f"is of version {header.version}", str(RECORD_VERSION))
    if not rows:
        raise DataFileError("records", path, "holds no request")
    rows.sort(key=lambda row: row.request)
    _refuse_twice(rows, path)
    return _columns(path, rows, header, end)


def _refuse_twice(rows: list[RequestRow], path: Path) -> None:
    """Each place of the load's arrays has one row at most."""
    for one, following in pairwise(rows):
        if one.request == following.request:
            raise DataFileError("records", path, f"holds request {one.request} twice")


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """The lines that hold anything, numbered as an editor numbers them."""
    try:
        with path.open("rb") as file:
            return [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except FileNotFoundError:
        raise DataFileError("records", path, "no such file") from None
    except OSError as error:
        raise DataFileError("records", path, f"cannot be read: {error.strerror or error}") from None


def _columns(path: Path, rows: list[RequestRow], header: RunHeader, end: RunEnd | None) -> Recording:
    return Recording(
        path=path,
        source="planner",
        request=np.array([row.request for row in rows], np.int64),
        query_s=np.array([row.query_s for row in rows]),
        scheduled_s=np.array([row.scheduled_s for row in rows]),
        sent_s=_times(row.sent_s for row in rows),
        first_token_s=_times(row.first_token_s for row in rows),
        last_token_s=_times(row.last_token_s for row in rows),
        prompt_tokens=np.array([_or(row.prompt_tokens, row.asked_prompt_tokens) for row in rows], np.int64),
        output_tokens=np.array([_or(row.output_tokens, row.events) for row in rows], np.int64),
        gap_start=np.concatenate(([0], np.cumsum([len(row.gaps_ms) for row in rows]))).astype(np.int64),
        gaps_s=np.array([gap for row in rows for gap in row.gaps_ms], np.float64) / 1000.0,
        errors=tuple(row.error for row in rows),
        header=header,
        end=end,
        ended_s=np.array([row.ended_s for row in rows], np.float64),
        held_s=np.array([row.held_s or 0.0 for row in rows], np.float64),
        cached_tokens=np.array([_or(row.cached_tokens, -1) for row in rows], np.int64),
        asked_prompt_tokens=np.array([row.asked_prompt_tokens for row in rows], np.int64),
        asked_output_tokens=np.array([row.asked_output_tokens for row in rows], np.int64),
    )


def _times(values: Iterable[float | None]) -> F64:
    return np.array([NAN if value is None else value for value in values], np.float64)


def _or(counted: int | None, otherwise: int) -> int:
    return otherwise if counted is None else counted
