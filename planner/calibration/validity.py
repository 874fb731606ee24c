"""Whether a recorded run may be used: its load test's own verdict, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from planner.errors import InputError
from planner.readers.recordings import Recording

Ending = Literal["complete", "interrupted", "failed", "killed"]


def refuse_invalid(recordings: Sequence[Recording], allowed: bool) -> None:
    """Raise InputError for a run that its own load tester calls invalid: it measured the client."""
    for recording in recordings:
        if recording.end is not None and recording.end.invalid and not allowed:
            rule = f"{recording.name} is marked invalid by its load test; --allow-invalid takes it nevertheless"
            raise InputError("records", "; ".join(recording.end.invalid), rule)


def ending(recording: Recording) -> Ending | None:
    """How the run ended; "killed" where its records have no end, None where the format says nothing of it."""
    if recording.header is None:
        return None
    return "killed" if recording.end is None else recording.end.reason
