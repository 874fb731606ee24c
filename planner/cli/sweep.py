"""`planner sweep`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.cli.options import (
    OutputFile,
    check_enough,
    check_length,
    find_scenario,
    from_here,
    read_scenario,
    refuse_inputs,
    refuse_same_file,
    scenario_options,
    split_setting,
)
from planner.cli.output import compile_note, json_text, print_table, progress_bar, show_and_write

if TYPE_CHECKING:
    from planner.studies.sweep import Sweep


@click.command(short_help="Plans for several values of one or two keys.")
@scenario_options
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="KEY=V1,V2,...",
    help="A key and its values; given twice, every pair is planned.",
)
@click.option("--csv", "csv_file", type=OutputFile(), metavar="FILE", help="Write the table as CSV.")
@click.option(
    "--plot",
    type=OutputFile((".png", ".svg")),
    metavar="FILE",
    help="Draw GPUs and cost per query against the varied key, as .png or .svg.",
)
def sweep(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int,
    as_json: bool,
    vary: tuple[str, ...],
    csv_file: Path | None,
    plot: Path | None,
) -> None:
    """GPUs, cost and margin of a query for several values of one or two keys.

    Every point is a whole plan with the same seed. A point where no fleet fits stays in the table, with the reason.

    \b
    planner sweep ai-search --vary peak_qps=20,40,80 --csv sweep.csv --plot sweep.svg
    planner sweep ai-search --vary peak_qps=20,40 --vary hardware=h100-sxm-80gb,h200-sxm-141gb
    """
    varied = _varied(vary)
    check_enough(requests)
    refuse_same_file(("SCENARIO", find_scenario(source)), ("--csv", csv_file), ("--plot", plot))
    scenario = read_scenario(source, settings)
    refuse_inputs(scenario, ("--csv", csv_file), ("--plot", plot))
    check_length(scenario, requests=requests)
    from planner.studies.sweep import sweep as answer

    with compile_note(), progress_bar() as progress:
        result = answer(scenario, varied, seed=seed, requests=requests, progress=progress)
    files: list[tuple[Path, Callable[[], str | bytes]]] = []
    if csv_file is not None:
        files.append((csv_file, lambda: result.table().to_csv(index=False, lineterminator="\n")))
    if plot is not None:
        files.append((plot, lambda: _picture(result.as_dict(), plot)))
    show_and_write(lambda: _show(result, as_json), files)


def _picture(document: dict[str, Any], path: Path) -> bytes:
    from planner.report.charts import image, sweep_chart

    return image(sweep_chart(document), path.suffix.lower().removeprefix("."))


def _show(result: Sweep, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(result.as_dict()))
    else:
        from planner.report.tables import sweep_table
        from planner.summary.many_plans import sweep_warning_lines

        print_table(*sweep_table(result.as_dict()))
        for line in sweep_warning_lines(result.as_dict()):
            click.echo(line)
        for note in result.as_dict()["notes"]:
            click.echo(f"Note: {note}")


def _varied(options: tuple[str, ...]) -> dict[str, list[str]]:
    """Full keys and the YAML texts of their values."""
    if len(options) > 2:
        raise click.UsageError("--vary: one or two keys, not more.")
    varied: dict[str, list[str]] = {}
    for option in options:
        key, text = split_setting(option, "--vary")
        values = [value.strip() for value in split_values(text)]
        if "" in values:
            raise click.UsageError(f"--vary {option}: a value is empty.")
        if key in varied:
            raise click.UsageError(f"--vary {key}: given twice; put all values into one.")
        varied[key] = [from_here(key, value) for value in values]
    return varied


def split_values(text: str) -> list[str]:
    """Split at commas outside brackets, braces and quotes, so that lists and mappings can be values."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quote:
            values.append("")
        else:
            values[-1] += letter
    return values
