"""`planner validate`."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.calibrate import read_all
from planner.cli.options import changes_of, read_scenario
from planner.cli.output import compile_note, json_text, print_table, progress_bar, progress_lines, warn_of, write_file

NEEDED = ("model", "hardware")  # of a row, and what a report may lack


@click.command(short_help="Predicted against measured: error by source and figure.")
@click.argument("tables", metavar="[TABLE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--convert",
    "report",
    type=click.Path(path_type=Path),
    metavar="REPORT",
    help="Print a vllm bench or GuideLLM report as rows of a table, and stop.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="With --convert: a column that the report lacks, as model=llama-3.1-8b; with --records: a key of the "
    "scenario. May be repeated.",
)
@click.option(
    "--records",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Replay recorded requests (planner loadtest, vllm bench, GuideLLM) in the simulator instead; may be repeated.",
)
@click.option("--scenario", "source", metavar="SCENARIO", help="With --records: what was tested, or its calibration.")
@click.option("--allow-invalid", is_flag=True, help="With --records: use runs that their load test marked invalid.")
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write accuracy.md and its pictures there, with each part of the model taken away in turn; the hand-written "
    "reasons are those of accuracy-notes.md there.",
)
@click.option("--bands/--no-bands", default=True, show_default=True, help="Simulate the 80 % bands too.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def validate(
    tables: tuple[Path, ...],
    report: Path | None,
    settings: tuple[str, ...],
    records: tuple[Path, ...],
    source: str | None,
    allow_invalid: bool,
    folder: Path | None,
    bands: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measured runs through the simulator: error by source and figure, the naive roofline beside it, how often the
    80 % bands hold.

    TABLE is a measured table, one run a row (docs/measured-table.md); without one, the project's own rows. All problems
    of a table are said at once, each with line, column and rule. With --records, every request of a load test is sent
    again in the simulator when it was sent then, and the figures of both stand side by side. A SCENARIO whose queries
    have other stages or turns is refused, one of another deployment is warned of.

    \b
    planner validate
    planner validate --convert bench.json --set model=llama-3.1-8b --set hardware=h100-sxm-80gb > mine.csv
    planner validate mine.csv
    planner validate --records run.jsonl --scenario scenario.yaml
    """
    if report is not None:
        if tables or folder or as_json or records or source or allow_invalid:
            raise click.UsageError("--convert stands alone, with --set.")
        _convert(report, settings)
        return
    if records:
        if tables or folder:
            raise click.UsageError("--records stands without a TABLE and without --write.")
        _replay(records, source, settings, allow_invalid=allow_invalid, as_json=as_json)
        return
    if settings:
        raise click.UsageError("--set: only with --convert or --records.")
    if source:
        raise click.UsageError("--scenario: only with --records.")
    if allow_invalid:
        raise click.UsageError("--allow-invalid: only with --records.")
    if folder is not None:
        _make_folder(folder)
    from planner.validation import ABLATIONS
    from planner.validation import validate as answer

    with compile_note(), progress_bar() as bar:
        progress = bar or (None if as_json else progress_lines())
        result = answer(tables, with_bands=bands, ablations=ABLATIONS if folder else None, seed=seed, progress=progress)
    document = result.as_dict()
    if folder is not None:
        _write(document, folder)
    if as_json:
        click.echo(json_text(document))
        return
    from planner.report.accuracy import headline
    from planner.report.accuracy import tables as shown

    for title, (columns, rows) in shown(document):
        click.echo(f"\n{title}")
        print_table(columns, rows)
    click.echo(f"\n{headline(document)}")


def _replay(
    records: tuple[Path, ...], source: str | None, settings: tuple[str, ...], *, allow_invalid: bool, as_json: bool
) -> None:
    """Recorded runs beside the simulator's replay of them."""
    scenario = None if source is None else read_scenario(source, settings)
    from planner.calibration import compare_recordings

    recordings = read_all(records)
    with compile_note():
        changes = None if source is not None else changes_of(settings)
        result = compare_recordings(recordings, scenario, changes, allow_invalid=allow_invalid)
    for run in result.as_dict()["runs"]:
        warn_of(run)
    click.echo(json_text(result.as_dict()) if as_json else str(result))


def _convert(report: Path, settings: tuple[str, ...]) -> None:
    """Print the report's rows as CSV, with the columns that were set, and say what is still missing."""
    from planner.readers import FIGURES, report_rows, unknown_column, write_measured

    given = {}
    for setting in settings:
        column, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not column:
            raise click.UsageError(f"--set {setting}: must be COLUMN=VALUE.")
        problem = unknown_column(column)
        if problem is not None:
            hint = f"; nearest: {problem.nearest}" if problem.nearest else ""
            raise click.UsageError(f"--set {setting}: {problem.rule}{hint}.")
        if column in FIGURES:
            raise click.UsageError(f"--set {setting}: a measured figure comes from the report alone.")
        given[column] = text
    rows = [row | given for row in report_rows(report)]
    click.echo(write_measured(rows), nl=False)
    missing = [column for column in NEEDED if not all(row.get(column) for row in rows)]
    if missing:
        flags = " ".join(f"--set {column}=…" for column in missing)
        click.echo(f"still missing before these rows can be run: {', '.join(missing)} ({flags})", err=True)


def _make_folder(folder: Path) -> None:
    """The folder to write to, made before the work rather than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.FileError(str(folder), error.strerror) from None


def _write(document: dict[str, object], folder: Path) -> None:
    """accuracy.md with its pictures and the notes that stand beside it, else, for the project's rows, the project's."""
    from planner.report.accuracy import is_own
    from planner.report.accuracy_charts import accuracy_chart
    from planner.report.accuracy_page import FIGURES, accuracy_page
    from planner.report.charts import image
    from planner.validation.cases import own_notes

    notes = folder / "accuracy-notes.md"
    for name, (title, metrics) in FIGURES.items():
        write_file(folder / f"{name}.png", image(accuracy_chart(document, title, metrics), "png"))
    text = notes.read_text(encoding="utf-8") if notes.is_file() else own_notes() if is_own(document) else ""
    write_file(folder / "accuracy.md", accuracy_page(document, text))
