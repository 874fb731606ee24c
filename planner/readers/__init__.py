"""Readers: what others measured, brought into one form.

Where to look: `measured` the measured table, one row a run (its columns: docs/measured-table.md) · `figures` the names
that a measured figure may have, and what cannot be true of them together · `vllm_bench` and `guidellm` reports of load
generators as rows of that table, `reports` what these two share · `recording_files` single requests of a load test,
ours and theirs (`recordings`, `recordings_vllm_bench`, `recordings_guidellm`) · `calibration_file` what was made of
them.
"""

from pathlib import Path

from planner.errors import DataFileError
from planner.readers.figures import FIGURES
from planner.readers.guidellm import guidellm_rows, is_guidellm
from planner.readers.measured import MeasuredRow, Problem, read_measured, refuse, unknown_column, write_measured
from planner.readers.reports import Cells, read_report
from planner.readers.vllm_bench import is_vllm_bench, vllm_bench_rows

__all__ = [
    "FIGURES",
    "Cells",
    "MeasuredRow",
    "Problem",
    "read_measured",
    "refuse",
    "report_rows",
    "unknown_column",
    "write_measured",
]


def report_rows(path: Path) -> list[Cells]:
    """The runs of a vllm bench or GuideLLM report as cells of the measured table; model and GPU may be missing."""
    report = read_report(path)
    if is_guidellm(report):
        return guidellm_rows(report, path)
    if is_vllm_bench(report):
        return vllm_bench_rows(report, path)
    raise DataFileError("report", path, "is neither vllm bench's (request_throughput) nor GuideLLM's (benchmarks)")
