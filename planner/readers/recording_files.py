"""Any file of recorded requests as Recordings."""

from __future__ import annotations

from pathlib import Path

from planner.errors import DataFileError
from planner.readers.guidellm import is_guidellm
from planner.readers.recordings import EMPTY, Recording, read_own
from planner.readers.recordings_guidellm import guidellm_recordings
from planner.readers.recordings_vllm_bench import vllm_bench_recording
from planner.readers.reports import read_report
from planner.readers.vllm_bench import is_vllm_bench

HEAD_BYTES = 4096
OWN = tuple(f'"record":{space}"{kind}"'.encode() for space in ("", " ") for kind in ("run", "request"))


def read_recordings(path: Path) -> list[Recording]:
    """The runs of a file: ours, vllm bench's or GuideLLM's. Raises DataFileError for one that cannot be used."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise DataFileError("records", path, "no such file") from None
    except OSError as error:
        raise DataFileError("records", path, f"cannot be read: {error.strerror or error}") from None
    if not head.strip():
        raise DataFileError("records", path, EMPTY)
    if any(mark in head for mark in OWN) or path.suffix == ".jsonl":
        return [read_own(path)]
    report = read_report(path)
    if is_guidellm(report):
        return guidellm_recordings(report, path)
    if is_vllm_bench(report):
        return [vllm_bench_recording(report, path)]
    rule = 'is neither planner loadtest\'s (a first line of "record": "run"), vllm bench\'s nor GuideLLM\'s'
    raise DataFileError("records", path, rule)
