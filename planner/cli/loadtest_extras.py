"""What `planner loadtest` writes beside its answer: vllm bench's form, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.output import json_text, write_file

if TYPE_CHECKING:
    from planner.studies.loadtest import LoadTest


def write_extras(test: LoadTest, export: Path | None, plots: Path | None) -> None:
    """The run in vllm bench's form, and as pictures."""
    if export is not None:
        from planner.readers.vllm_bench_export import vllm_bench_document

        write_file(export, json_text(vllm_bench_document(test.recording)) + "\n")
    if plots is None:
        return
    from planner.report.charts import image
    from planner.report.loadtest_charts import distribution_chart, timeline_chart
    from planner.studies.loadtest_curves import limit_lines, measured_curves, simulated_curves, timeline

    name = test.document["scenario"]["name"]
    chart = distribution_chart(name, measured_curves(test), simulated_curves(test), limit_lines(test.limits))
    write_file(plots / "distributions.png", image(chart, "png"))
    write_file(plots / "distributions.svg", image(chart, "svg"))
    write_file(plots / "timeline.png", image(timeline_chart(name, *timeline(test)), "png"))


def writable_anew(records: Path) -> None:
    """Refuse a file for the records that could not be made: before the server is loaded, by the option's own name."""
    try:
        with records.open("xb"):
            pass
        records.unlink()
    except OSError as error:
        taken = isinstance(error, FileExistsError)
        reason = "exists already; records are not overwritten" if taken else error.strerror or str(error)
        raise click.UsageError(f"--out {click.format_filename(records)}: {reason}.") from None


def make_folder(folder: Path) -> None:
    """The folder to write to, made before the work rather than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.FileError(str(folder), error.strerror) from None
