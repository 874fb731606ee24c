"""Calibrate on the fit loads of each repeat, predict the judge loads, and compare settings."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.readers.recordings import read_own
from planner.scenario import Scenario
from planner.studies.compare import compare
from planner.studies.loadtest import LoadTest, evaluate
from tools.cpu_study.plan import CHANGES, MAIN, MAIN_JUDGES, Server
from tools.cpu_study.record import SCENARIO, records_path

FIGURES = ("ttft_ms.p50", "tpot_ms.p50", "e2e_ms.p50", "output_throughput")
FLOOR, SPREADS = 0.15, 1.5  # the bar: the larger of 15 % and 1.5 times the server's own spread


@dataclass(frozen=True)
class Row:
    """One figure of one judged load. `spread`: half the range of the repeats ÷ their median, the same arrays each time.

    `errors` has predicted ÷ measured − 1 of each repeat, calibrated on the same repeat's fit loads.
    """

    load: str
    figure: str
    measured: float
    predicted: float
    errors: tuple[float, ...]
    spread: float

    @property
    def median_error(self) -> float:
        """Median of the absolute errors."""
        return statistics.median(abs(error) for error in self.errors)

    @property
    def bar(self) -> float:
        """What the median error may be."""
        return max(FLOOR, SPREADS * self.spread)

    @property
    def holds(self) -> bool:
        """Whether it is."""
        return self.median_error <= self.bar


@dataclass(frozen=True)
class Change:
    """A figure before and after a setting is changed; `measured` and `predicted` are after ÷ before.

    `interval95` is that of the measured ratio, from the same queries in both runs.
    """

    what: str
    figure: str
    before: float
    after: float
    measured: float
    interval95: tuple[float, float] | None
    predicted: float


def calibrations(out: Path, server: Server, repeats: int) -> list[Path]:
    """One calibration file for each repeat, from its fit loads."""
    return [
        calibrated(out / f"{server.name}-{number}.calibration.json", _fit_records(out, server, [number]))
        for number in range(repeats)
    ]


def calibration_of_all(out: Path, server: Server, repeats: int) -> Path:
    """One calibration file from the fit loads of all repeats."""
    return calibrated(out / f"{server.name}.calibration.json", _fit_records(out, server, range(repeats)))


def calibrated(file: Path, records: Sequence[Path]) -> Path:
    """A calibration file by the command that users have."""
    command = [sys.executable, "-m", "planner", "calibrate", *map(str, records), "--out", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"planner calibrate ended with {done.returncode}: {done.stderr.strip()}")
    return file


def _fit_records(out: Path, server: Server, repeats: Iterable[int]) -> list[Path]:
    return [records_path(out, server.name, load, number) for number in repeats for load in server.fit]


def judged(out: Path, repeats: int, files: Sequence[Path]) -> Iterator[Row]:
    """Every figure of every load that nothing was fitted to."""
    for load in MAIN_JUDGES:
        tests = [tested(records_path(out, MAIN.name, load, number), files[number]) for number in range(repeats)]
        for figure in FIGURES:
            measured = [value(test.document, figure) for test in tests]
            predicted = [value(test.document["simulated"], figure) for test in tests]
            middle = statistics.median(measured)
            errors = tuple(guess / seen - 1.0 for guess, seen in zip(predicted, measured, strict=True))
            spread = 0.5 * (max(measured) - min(measured)) / middle
            yield Row(load, figure, middle, statistics.median(predicted), errors, spread)


def changes(out: Path, dense: Path, moe: Path) -> Iterator[Change]:
    """What changing one setting did, and what the calibrated planner says it does."""
    for what, before, after in CHANGES:
        paths = [records_path(out, server, load, 0) for server, load in (before, after)]
        rows = {row["name"]: row for row in compare(*paths, base=SCENARIO.parent).document["ratios"]}
        files = [moe if server == "moe" else dense for server, _ in (before, after)]
        said = [tested(path, file).document["simulated"] for path, file in zip(paths, files, strict=True)]
        for figure in FIGURES:
            row = rows[figure]
            interval = None if row["interval95"] is None else (row["interval95"][0], row["interval95"][1])
            predicted = value(said[1], figure) / value(said[0], figure)
            yield Change(what, figure, row["a"], row["b"], row["ratio"], interval, predicted)


def tested(records: Path, calibration: Path) -> LoadTest:
    """A run beside the calibrated simulator's run of the same arrays."""
    recording = read_own(records)
    assert recording.header is not None
    sent = recording.header.scenario | {"calibration": str(calibration.absolute())}
    return evaluate(recording, Scenario.from_dict(sent, SCENARIO.parent))


def value(document: dict[str, Any], figure: str) -> float:
    """A figure by its dotted name."""
    name, _, statistic = figure.partition(".")
    found = document[name]
    return float(found[statistic] if statistic else found)
