"""`planner calibrate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.options import OutputFile, changes_of, read_scenario
from planner.cli.output import compile_note, json_text, write_file

if TYPE_CHECKING:
    from planner.calibration import Calibrated
    from planner.readers.recordings import Recording


@click.command(short_help="The step cost of a deployment from load tests of it.")
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--scenario", "source", metavar="SCENARIO", help="What was tested, where the records do not say it.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the scenario; may be repeated."
)
@click.option("--out", type=OutputFile((".json",)), metavar="FILE", help="Write the calibration file.")
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write pictures of the residuals."
)
@click.option("--allow-invalid", is_flag=True, help="Use runs that their load test marked invalid.")
@click.option("--json", "as_json", is_flag=True, help="Print the calibration as one JSON document and nothing else.")
def calibrate(
    records: tuple[Path, ...],
    source: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    plots: Path | None,
    allow_invalid: bool,
    as_json: bool,
) -> None:
    """Fit the planner's step cost to recorded requests of one deployment under one or several loads.

    RECORDS are files of planner loadtest, of vllm bench serve --save-result --save-detailed, or of GuideLLM. Record at
    least a light load, a heavier one and prompts of mixed lengths: what the records cannot tell is refused, with the
    run to add. A scenario that names the file (calibration: FILE) is then planned with what was measured.

    \b
    planner calibrate light.jsonl busy.jsonl mixed.jsonl --out calibration.json --plots residuals
    planner calibrate bench.json --scenario scenario.yaml --out calibration.json
    """
    scenario = None if source is None else read_scenario(source, settings)
    from planner.calibration import calibrate as answer

    recordings = read_all(records)
    with compile_note():
        result = answer(
            recordings,
            scenario,
            date=datetime.now(UTC).date().isoformat(),
            changes=None if source is not None else changes_of(settings),
            allow_invalid=allow_invalid,
        )
    if out is not None:
        write_file(out, json_text(result.as_dict()) + "\n")
    if plots is not None:
        _draw(result, plots)
    click.echo(json_text(result.as_dict()) if as_json else str(result))


def read_all(records: tuple[Path, ...]) -> list[Recording]:
    """The runs of all files; a file that is named twice is refused, for it would count twice."""
    from planner.readers.recording_files import read_recordings

    seen: set[Path] = set()
    found = []
    for path in records:
        if path.resolve() in seen:
            raise click.UsageError(f"{path}: is named twice.")
        seen.add(path.resolve())
        found += read_recordings(path)
    return found


def _draw(result: Calibrated, folder: Path) -> None:
    """The residuals as PNG files."""
    from planner.report.calibration_charts import calibration_charts
    from planner.report.charts import image

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.FileError(str(folder), error.strerror) from None
    for name, figure in calibration_charts(result.residuals()).items():
        write_file(folder / f"{name}.png", image(figure, "png"))
