"""Write docs/cpu-study.md and its pictures from the records of the study.

python -m tools.cpu_study.page --records DIR [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from planner.readers.recordings import read_own
from planner.report.charts import image
from planner.report.loadtest_charts import distribution_chart
from planner.studies.loadtest_curves import measured_curves, simulated_curves
from tools.cpu_study.plan import FIT, MAIN, MAIN_JUDGES, OTHERS, TRAFFIC, WARMUP_S
from tools.cpu_study.predict import Change, Row, calibration_of_all, calibrations, changes, judged, tested
from tools.cpu_study.record import records_path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cpu-study.md"
NOTES = ROOT / "docs" / "cpu-study-notes.md"  # written by hand
NAMES = {
    "ttft_ms.p50": "TTFT p50 [ms]",
    "tpot_ms.p50": "TPOT p50 [ms]",
    "e2e_ms.p50": "E2E p50 [ms]",
    "output_throughput": "output tokens/s",
}
HEAD = """# The loop held against real vLLM

<!-- Written by `make study-cpu`. -->

Real vLLM {version} on one CPU core, with a tiny model of random weights; its API server and the load test on the other
core. `planner loadtest` sends three loads that the calibration is made from and three that it never sees; `planner
calibrate` reads the first three, and the calibrated simulator predicts the others from their schedule alone. All of
it {repeats} times over, each time with the same arrays, so that the repeats show how much the server itself differs
from run to run.

What is judged here is the loop (scheduler, load test, calibration), not the planner's knowledge of any GPU: on a CPU
the uncalibrated step cost is a stand-in and says so.

## The loads

| load | used to | what |
| --- | --- | --- |
{loads}

{length} s counted after {warmup} s of warm-up; the examples' `cpu-tiny.yaml` says the rest.

## Predicted against measured

Median of {repeats} repeats. *Error*: median of |predicted ÷ measured − 1|, each repeat predicted from its own
calibration. *Spread*: half the range of the measured repeats ÷ their median. The bar is the larger of 15 % and 1.5
times the spread.

| load | figure | measured | predicted | error | spread | bar | |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

{holding} of {total} figures hold their bar; median error {median}.
"""


def write(records: Path, repeats: int) -> None:
    """The whole page."""
    dense = calibrations(records, MAIN, repeats)
    moe_server = next(server for server in OTHERS if server.name == "moe")
    every, moe = calibration_of_all(records, MAIN, repeats), calibration_of_all(records, moe_server, 1)
    text = _head(records, repeats, list(judged(records, repeats, dense)))
    text += _changes(list(changes(records, every, moe))) + "\n" + NOTES.read_text(encoding="utf-8")
    text += _pictures(records, every)
    PAGE.write_text(text, encoding="utf-8")


def _head(records: Path, repeats: int, rows: Sequence[Row]) -> str:
    recording = read_own(records_path(records, MAIN.name, FIT[0], 0))
    header = recording.header
    assert header is not None
    return HEAD.format(
        version=header.server.get("version", "of unknown version"),
        repeats=repeats,
        loads="\n".join(
            f"| {load} | {'calibrate' if load in FIT else 'judge'} | {TRAFFIC[load].what} |"
            for load in (*FIT, *MAIN_JUDGES)
        ),
        length=f"{header.duration_s:g}",
        warmup=WARMUP_S,
        rows="\n".join(_row(row) for row in rows),
        holding=sum(row.holds for row in rows),
        total=len(rows),
        median=_percent(statistics.median(row.median_error for row in rows)),
    )


def _row(row: Row) -> str:
    cells = (
        row.load,
        NAMES[row.figure],
        f"{row.measured:,.4g}",
        f"{row.predicted:,.4g}",
        _percent(row.median_error),
        _percent(row.spread),
        _percent(row.bar),
        "holds" if row.holds else "MISSES",
    )
    return f"| {' | '.join(cells)} |"


def _changes(rows: Sequence[Change]) -> str:
    lines = [
        "",
        "## Settings changed on the real server",
        "",
        "One load, two servers that differ in one setting; *measured* and *predicted* are after ÷ before. The",
        "interval is `planner loadtest --compare`'s: 95 %, from the same queries in both runs. Predictions are",
        "calibrated on all repeats of the three loads, those of the mixture on its own loads.",
        "",
        "| change | figure | before | after | measured | interval | predicted |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        told = f"| {row.what} | {NAMES[row.figure]} | {row.before:,.4g} | {row.after:,.4g} "
        interval = "" if row.interval95 is None else f"{row.interval95[0]:.3g} to {row.interval95[1]:.3g}"
        lines.append(f"{told}| × {row.measured:.3g} | {interval} | × {row.predicted:.3g} |")
    return "\n".join(lines) + "\n"


def _pictures(records: Path, calibration: Path) -> str:
    lines = ["", "## Distributions, measured and simulated", ""]
    lines += ["The first repeat of each load that nothing was fitted to, and the same calibration.", ""]
    for load in MAIN_JUDGES:
        test = tested(records_path(records, MAIN.name, load, 0), calibration)
        name = f"cpu-study-{load}.png"
        chart = distribution_chart(TRAFFIC[load].what, measured_curves(test), simulated_curves(test))
        (PAGE.parent / name).write_bytes(image(chart, "png"))
        lines += [f"![{TRAFFIC[load].what}]({name})", ""]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    write(given.records, given.repeats)
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
