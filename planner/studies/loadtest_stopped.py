"""A load test that was stopped before anything of it could be judged: what there is of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.deployment import SCHEMA_VERSION
from planner.errors import DataFileError
from planner.readers.recordings import Recording
from planner.studies.loadtest import validity, whose
from planner.studies.loadtest_warnings import traffic_warning
from planner.summary.loadtest_stopped import stopped_text


@dataclass(frozen=True)
class StoppedTest:
    """The answer of `loadtest` in place of a LoadTest: counts of requests, warm-up included, and no statistics."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return stopped_text(self.document)


def stopped_test(recording: Recording, server: Mapping[str, Any], why: str) -> StoppedTest:
    """Counts of a run's records. `why` says what kept them from being judged, `server` what the server said.

    `requests` and `queries` are those that were counted: none. Of those that were `sent`, `ended` had an end of their
    own, answered or failed, and `cut_off` were given up when the run was stopped. Raises DataFileError where no header
    says what was sent.
    """
    header, end = recording.header, recording.end
    if header is None:
        raise DataFileError("records", recording.path, "are not of planner loadtest: no header says what was sent")
    sent = int(np.isfinite(recording.sent_s).sum())
    answered = int(recording.answered.sum())
    said = validity(recording)
    cut_off = said["cut_off"]
    facts = {**header.server, **(end.server if end else {}), **server}
    warning = traffic_warning(recording, facts)
    return StoppedTest(
        {
            "schema_version": SCHEMA_VERSION,
            "scenario": header.scenario,
            "seed": header.seed,
            "warnings": [warning] if warning else [],
            **whose(recording, header),
            "requests": 0,
            "queries": 0,
            "warmup_queries": header.warmup,
            "sent": sent,
            "ended_requests": len(recording.errors) - cut_off,
            "answered": answered,
            "failed_requests": len(recording.errors) - cut_off - answered,
            **said,
            "server": facts,
            "not_judged": why,
        }
    )
