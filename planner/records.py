"""A load test's file, line by line: what was sent and what came of it.

JSON lines. The first is a `RunHeader`, then one `RequestRow` for each model call in the order in which they ended, and
at the end of a run that was not killed a `RunEnd`; `planner loadtest` adds a second one, with what the server's metrics
say of the run, and readers take the last. A reader must bear a missing end and a torn last line. Times are
seconds since the start of the schedule (query 0 of a Poisson load is due one gap after it); what did not happen is
null. Nothing in here names a credential: a host is written without user, password and query.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from planner.errors import DataFileError

RECORD_VERSION = 1
SESSION_HEADER = "x-session-id"  # by which requests say which session they are of; routers keep those together
Count = Annotated[int, msgspec.Meta(ge=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Span = Annotated[float, msgspec.Meta(ge=0)]  # seconds, milliseconds or a moment since the run's start
_TOO_SMALL = re.compile(r">= (\d+)\S* - at `\$\.?(.+)`")  # msgspec's words for a number below its least


class RunHeader(msgspec.Struct, tag="run", tag_field="record", frozen=True, kw_only=True, omit_defaults=True):
    """What was asked of whom. Paths in `scenario` are absolute.

    `scenario` is resolved, all defaults filled in; with `seed`, `queries`, `warmup`, `duration_s` and `max_model_len`
    it gives the same arrays again. `queries` counts those that reach the model, the `warmup` ones included.
    `limits` are those that make a run invalid: see `RunEnd.invalid`.
    """

    version: int = RECORD_VERSION
    name: str
    scenario: dict[str, Any]
    seed: Count
    prompt_seed: Count = 0  # of the prompts' token ids alone: which tokens were sent, not how many nor when
    queries: Count
    warmup: Count
    width: AtLeastOne  # model calls of a query
    max_model_len: AtLeastOne
    duration_s: Span | None = None
    demand: Literal["open", "closed", "offline", "trace"]
    api: Literal["completions", "chat"]
    host: str
    model: str  # as the server names it
    started_at: str  # ISO 8601, UTC
    processes: int = 1
    client: dict[str, str] = {}  # versions of the client's parts
    server: dict[str, Any] = {}  # what /version, /v1/models and /metrics said before the run
    limits: dict[str, float] = {}


class RequestRow(msgspec.Struct, tag="request", tag_field="record", frozen=True, kw_only=True, omit_defaults=True):
    """One model call, place `request` of the load's arrays (query = request // width).

    `scheduled_s` is when its query was due; of a later stage, when the stage before had finished (`query_s` is then
    earlier). `gaps_ms` are the times between successive token events, so first + Σ gaps = last; an event that carried
    k > 1 tokens makes one gap (`events` < tokens). `error` is empty, or the reason why it missed, in a few words that
    are the same for the same cause.
    """

    request: Count
    query_s: Span  # when the user's query was due
    scheduled_s: Span
    held_s: Span | None = None  # of the time from scheduled_s to sent_s: spent waiting for `max_in_flight`
    sent_s: Span | None = None
    first_token_s: Span | None = None
    last_token_s: Span | None = None
    ended_s: Span
    gaps_ms: list[Span] = []
    asked_prompt_tokens: Count
    asked_output_tokens: Count
    prompt_tokens: Count | None = None  # as the server counted them
    output_tokens: Count | None = None
    cached_tokens: Count | None = None
    events: Count = 0  # that carried text
    status: int | None = None  # HTTP
    error: str = ""
    retry_after_s: float | None = None
    worker: int = 0


class RunEnd(msgspec.Struct, tag="end", tag_field="record", frozen=True, kw_only=True, omit_defaults=True):
    """How the run ended. `invalid` gives the reasons why its figures must not be used; empty = valid."""

    finished_at: str
    reason: Literal["complete", "interrupted", "failed"]
    rows: Count
    unsent: Count = 0  # requests of the schedule that never left the client
    invalid: list[str] = []
    notes: list[str] = []  # what must be known of how it was sent
    # Answers of sessions that were re-sent otherwise than given: the server did not say their tokens.
    made_up: Count = 0
    # Seconds of CPU by process; "busy_max": largest share of one core; "loop_lag_p99_ms": how late it read at most.
    client_cpu: dict[str, float] = {}
    server: dict[str, Any] = {}  # /metrics: what changed during the run


Line = RunHeader | RequestRow | RunEnd
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(Line)


def encode_line(line: Line) -> bytes:
    """One line of the file, its line feed included."""
    return _encoder.encode(line) + b"\n"


def decode_line(text: bytes, number: int, file: str = "records") -> Line:
    """A line of the file. Raises DataFileError for what is none, naming `file`, line `number` and a field too small."""
    try:
        line: Line = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        small = _TOO_SMALL.search(str(error))
        if small is not None:
            least, field = small.groups()
            raise DataFileError(f"{file}, line {number}: {field}", _at(text, field), f"must be >= {least}") from None
        raise DataFileError(
            f"{file}, line {number}", text[:60].decode(errors="replace"), f"is no record: {error}"
        ) from None
    return line


def _at(text: bytes, field: str) -> Any:
    """The value at a path of a line, as `gaps_ms[3]`."""
    value = msgspec.json.decode(text)
    for step in re.findall(r"\w+", field):
        value = value[int(step) if isinstance(value, list) else step]
    return value
