"""Files that verbs write beside their answer: what is refused before the work, and what a failed write costs."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from planner.cli.app import cli
from planner.cli.output import show_and_write
from planner.errors import UnsupportedError

SCENARIO = """
version: 1
name: two replicas
model: llama-3.1-8b
hardware: h100-sxm-80gb
fleet: {replicas: 2}
traffic: {peak_qps: 10}
query: {stages: [{name: answer, prompt_tokens: 300, output_tokens: 20}]}
slo: {p99_ttft_ms: "<=1000"}
"""
full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a scenario, an empty folder, and links."""
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SCENARIO)
    Path("sub").mkdir()
    Path("link.parquet").symlink_to("calls.parquet")  # to a file that is not there yet
    Path("loop.png").symlink_to("loop.png")
    return tmp_path


def planner(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments])


SIMULATE = ("simulate", "s.yaml", "--requests", "1000")
SWEEP = ("sweep", "s.yaml", "--vary", "peak_qps=10")
REFUSED = [
    ((*SIMULATE, "--timeline", "a.parquet", "--per-request", "a.parquet"), "--timeline is the same file", "one name"),
    ((*SIMULATE, "--timeline", "a.parquet", "--per-request", "./sub/../a.parquet"), "the same file", "spelt otherwise"),
    ((*SIMULATE, "--timeline", "link.parquet", "--per-request", "calls.parquet"), "the same file", "through a link"),
    ((*SIMULATE, "--timeline", "a.png", "--timeline", "a.png"), "--timeline a.png: --timeline is", "twice the same"),
    (
        (*SWEEP, "--csv", "a.svg", "--plot", "a.svg"),
        "--plot a.svg: --csv is the same file",
        "the picture over the table",
    ),
    (("plan", "s.yaml", "--out", "sub/../s.yaml"), "SCENARIO is the same file", "the scenario would be lost"),
    ((*SWEEP, "--csv", "s.yaml"), "SCENARIO is the same file", "the scenario would be lost"),
    ((*SIMULATE, "--intervals", "10"), "--intervals needs --timeline", "of nothing"),
    ((*SIMULATE, "--timeline", ""), "'--timeline': is empty", "no name"),
    (("plan", "s.yaml", "--out", ""), "'--out': is empty", "no name"),
    ((*SIMULATE, "--timeline", "nowhere/a.png"), "there is no folder nowhere", "no folder"),
    ((*SIMULATE, "--timeline", "sub"), "is a directory", "a folder"),
]


@pytest.mark.parametrize(("arguments", "says", "because"), REFUSED)
def test_files_that_are_refused_before_the_work(arguments: tuple[str, ...], says: str, because: str):
    before = sorted(Path().rglob("*"))
    result = planner(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), because
    assert says in result.stderr, because
    assert sorted(Path().rglob("*")) == before, because
    assert SCENARIO == Path("s.yaml").read_text()


@pytest.mark.parametrize(
    "arguments", [(*SIMULATE, "--timeline", "sub/a.png"), ("report", "s.yaml", "--out", "sub/a.html")]
)
def test_a_folder_that_is_not_writable_is_refused_before_the_work(arguments: tuple[str, ...], monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **_: Path(path) != Path("sub"))  # root may write anywhere
    result = planner(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "folder sub is not writable" in result.stderr


def test_the_page_that_nobody_named_is_checked_before_the_work_too(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **_: False)
    result = planner("report", "s.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "s.html: folder . is not writable" in result.stderr


def test_the_name_of_an_example_is_no_file_that_would_be_lost():
    """Nothing stands in the current folder under that name: the plan goes there."""
    result = planner("plan", "demo", "--requests", "1000", "--out", "demo")
    assert result.exit_code == 0, result.stderr
    assert Path("demo").read_text().startswith("{")


def test_a_link_to_itself_is_one_line_not_a_traceback():
    result = planner(*SIMULATE, "--timeline", "loop.png", "--per-request", "calls.parquet")
    assert result.exit_code == 2
    assert "cannot write loop.png: Too many levels of symbolic links" in result.stderr
    assert Path("calls.parquet").exists()


def test_a_device_may_be_named_twice():
    Path("null.png").symlink_to("/dev/null")
    Path("null.parquet").symlink_to("/dev/null")
    result = planner(*SIMULATE, "--timeline", "null.png", "--per-request", "null.parquet")
    assert result.exit_code == 0, result.stderr
    assert "every limit HOLDS" in result.stdout


@full_disk
def test_a_full_disk_costs_neither_the_answer_nor_the_other_files():
    Path("full.png").symlink_to("/dev/full")
    Path("full.parquet").symlink_to("/dev/full")
    named = ("--timeline", "full.png", "--timeline", "full.parquet", "--per-request", "calls.parquet")
    result = planner(*SIMULATE, *named)
    assert result.exit_code == 2
    assert planner(*SIMULATE).stdout.splitlines()[:4] == result.stdout.splitlines()[:4]
    assert "planner: warning: cannot write full.parquet: No space left on device" in result.stderr
    assert "planner: error: cannot write full.png: No space left on device" in result.stderr
    assert 1000 == pd.read_parquet("calls.parquet")["counted"].sum()


FULL = [
    (
        ("plan", "s.yaml", "--requests", "1000", "--out", "full.svg"),
        "serves 10 queries/s within the limits",
        "the plan",
    ),
    ((*SWEEP, "--requests", "1000", "--plot", "full.svg"), "h100-sxm-80gb", "the table"),
]


@full_disk
@pytest.mark.parametrize(("arguments", "shows", "because"), FULL)
def test_other_verbs_print_their_answer_too(arguments: tuple[str, ...], shows: str, because: str):
    Path("full.svg").symlink_to("/dev/full")
    result = planner(*arguments)
    assert result.exit_code == 2
    assert shows in result.stdout, because
    assert "planner: error: cannot write full.svg: No space left on device" in result.stderr


def test_what_cannot_be_told_does_not_cost_what_can(capsys):
    """As a run over time of data-parallel ranks that compute in step."""

    def refused() -> bytes:
        raise UnsupportedError("engine.data_parallel_size", 2, "is not supported yet", "1")

    with pytest.raises(UnsupportedError, match="data_parallel_size"):
        show_and_write(lambda: click.echo("the answer"), [(Path("a"), refused), (Path("b"), lambda: "text")])
    assert "the answer\n" == capsys.readouterr().out
    assert "text" == Path("b").read_text()


def test_where_nobody_reads_the_answer_a_failed_write_is_still_told(capsys):
    def gone() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        show_and_write(gone, [(Path("sub"), lambda: "text")])
    assert "planner: warning: cannot write sub: Is a directory" in capsys.readouterr().err


def test_an_answer_is_not_written_over_a_file_that_its_scenario_reads(tmp_path: Path) -> None:
    """The rates would be gone, and the next run with them."""
    rates = tmp_path / "rates.csv"
    rates.write_text("seconds,qps\n0,1\n43200,2\n")
    scenario = tmp_path / "s.yaml"
    week = (Path(__file__).parents[1] / "examples" / "week-autoscaler.yaml").read_text(encoding="utf-8")
    scenario.write_text(week.replace("week-rates.csv", "rates.csv"))
    for arguments in (["plan", "--out"], ["sweep", "--vary", "fleet.min_replicas=1,2", "--csv"]):
        verb, *options = arguments
        made = CliRunner().invoke(cli, [verb, str(scenario), *options, str(rates)])
        assert 2 == made.exit_code
        assert "scenario.traffic.rates.file is the same file" in made.stderr
    assert rates.read_text().startswith("seconds,qps")


def test_a_fault_of_ours_in_a_file_does_not_hide_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        raise ValueError("no such column")

    with pytest.raises(ValueError, match="no such column"):
        show_and_write(lambda: print("the answer"), [(tmp_path / "a.csv", broken)])
    assert "the answer" in capsys.readouterr().out
