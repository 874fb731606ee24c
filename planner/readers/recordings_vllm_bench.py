"""The requests of a `vllm bench serve --save-result --save-detailed` report.

As vLLM 0.32 writes it: parallel lists, one place a request: `start_times` (seconds of any clock, when it was sent),
`ttfts` and `itls` (seconds), `input_lens`, `output_lens`, `errors`. What was due when is not in it: `scheduled_s` is
when a request was sent. A chunk that carries several tokens makes one ITL.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from planner.errors import DataFileError
from planner.readers.recordings import NAN, Recording
from planner.readers.reports import Fields, Length, checked

Seconds = Annotated[float, Field(ge=0, le=1e12)]


class _Detailed(Fields):
    start_times: list[Seconds] | None = None
    ttfts: list[Seconds] | None = None
    itls: list[list[Seconds]] | None = None
    input_lens: list[Length] | None = None
    output_lens: list[Length] | None = None
    errors: list[str | None] | None = None


def vllm_bench_recording(report: Mapping[str, Any], path: Path) -> Recording:
    """The one run of a report; DataFileError where it has no single requests."""
    lists = checked(_Detailed, report, path)
    for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens"):
        if not getattr(lists, name):
            rule = f"{path.name}: is required for single requests: run vllm bench serve with --save-detailed"
            raise DataFileError(f"report.{name}", None, rule)
    start, ttft, itls = lists.start_times or [], lists.ttfts or [], lists.itls or []
    prompt, output = lists.input_lens or [], lists.output_lens or []
    errors = [error or "" for error in lists.errors or [""] * len(start)]
    lengths = {"ttfts": len(ttft), "itls": len(itls), "input_lens": len(prompt), "output_lens": len(output)}
    for name, length in (lengths | {"errors": len(errors)}).items():
        if length != len(start):
            rule = f"{path.name}: must be as long as start_times (={len(start)})"
            raise DataFileError(f"report.{name}", length, rule)
    sent_s = np.array(start) - min(start)
    first_s = np.array([at + wait if wait > 0 else NAN for at, wait in zip(sent_s, ttft, strict=True)])
    last_s = first_s + np.array([float(sum(gaps)) for gaps in itls])
    failed = [
        "no token" if not error and np.isnan(first) else error for error, first in zip(errors, first_s, strict=True)
    ]
    return Recording(
        path=path,
        source="vllm bench",
        request=np.arange(len(start)),
        query_s=sent_s,
        scheduled_s=sent_s,
        sent_s=sent_s,
        first_token_s=first_s,
        last_token_s=last_s,
        prompt_tokens=np.array(prompt, np.int64),
        output_tokens=np.array(output, np.int64),
        gap_start=np.concatenate(([0], np.cumsum([len(gaps) for gaps in itls]))).astype(np.int64),
        gaps_s=np.array([gap for gaps in itls for gap in gaps], np.float64),
        errors=tuple(failed),
    )
