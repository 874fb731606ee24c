"""`planner report`: where the page goes, and what is refused before and after reading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import planner
from planner.cli.app import cli
from tests.report_documents import full, infeasible


class Planned:
    """What plan() returns, as far as the verb uses it."""

    feasible = True

    def as_dict(self):
        return full()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty current folder with one plan in it."""
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text(json.dumps(full()))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """Replace plan(); each call is noted."""
    calls: list[dict] = []

    def plan(scenario, **options):
        calls.append({"name": scenario.name, "peak_qps": scenario.traffic.peak_qps, **options})
        return Planned()

    monkeypatch.setattr(planner, "plan", plan, raising=False)
    return calls


def report(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", *arguments])


def test_a_plan_becomes_a_page_of_its_name_in_the_current_folder():
    answer = report("plan.json")
    assert 0 == answer.exit_code, answer.output
    page = Path("plan.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"wrote plan.html ({len(page.encode()) / 1000:,.0f} kB)\n" == answer.stdout


def test_the_page_of_a_plan_elsewhere_is_written_here(elsewhere):
    (elsewhere / "deep").mkdir()
    Path("plan.json").rename("deep/other.json")
    assert 0 == report("deep/other.json").exit_code
    assert Path("other.html").exists()


def test_out_names_the_file_or_standard_output():
    assert 0 == report("plan.json", "--out", "page.htm").exit_code
    answer = report("plan.json", "--out", "-")
    assert Path("page.htm").read_text() + "\n" == answer.stdout
    assert not Path("plan.html").exists()


def test_an_example_is_planned_first_and_what_was_set_is_passed_on(asked):
    answer = report("ai-search", "--set", "peak_qps=40", "--requests", "2000", "--seed", "7")
    assert 0 == answer.exit_code, answer.output
    expected = {"name": "AI search, answer page", "peak_qps": 40.0, "seed": 7, "requests": 2000, "progress": None}
    assert [expected] == asked
    assert Path("ai-search.html").read_text().startswith("<!doctype html>")


def test_a_plan_without_a_suffix_is_known_by_how_it_begins(asked):
    Path("plan.json").rename("plan")
    assert 0 == report("plan").exit_code
    assert [] == asked
    assert Path("plan.html").exists()


def test_a_plan_that_no_fleet_fits_has_a_page_and_exit_code_0():
    Path("plan.json").write_text(json.dumps(infeasible()))
    answer = report("plan.json")
    assert 0 == answer.exit_code
    assert answer.stdout.endswith(": no fleet fits, the page says why\n")
    assert "No fleet fits" in Path("plan.html").read_text()


WHOLE = json.dumps(full())
BAD_FILES = [
    (b"", "is empty", "nothing in it"),
    (b"  \n", "is empty", "blanks"),
    (WHOLE[:2000].encode(), "is cut off at line 1, column", "truncated"),
    (WHOLE[: WHOLE.index("llama") + 3].encode(), "is cut off at line 1, column", "truncated within a text"),
    (b'{"a": 1,}', "is not JSON: ", "broken"),
    (b"\xff\xfe\x00", "is not a text in UTF-8", "binary"),
    (b"[1, 2]", "holds a list, not a plan's document", "a list"),
    (b"[" * 100_000, "too deep, or a number too long", "nested without end"),
    (b'{"schema_version": ' + b"1" * 5000 + b"}", "too deep, or a number too long", "an endless number"),
    (b'{"hello": "world"}', "it lacks schema_version, feasible, alternatives", "foreign"),
    (json.dumps(full() | {"schema_version": 0}).encode(), "schema_version (=0): this planner reads 1", "older"),
    (json.dumps(full() | {"x": json.loads("[" * 60 + "]" * 60)}).encode(), "nested too deeply", "deep but read"),
]


@pytest.mark.parametrize(("content", "words", "because"), BAD_FILES, ids=[row[2] for row in BAD_FILES])
def test_a_file_that_is_no_plan_is_refused_in_one_line_and_nothing_is_written(content, words, because):
    Path("plan.json").write_bytes(content)
    answer = report("plan.json")
    assert 2 == answer.exit_code, because
    assert answer.stderr.startswith("planner: error: plan document plan.json: ")
    assert words in answer.stderr
    assert 1 == answer.stderr.count("\n")
    assert not Path("plan.html").exists()


BAD_CALLS = [
    (("nothere.json",), "no such file, nor a shipped example", "neither a file nor an example"),
    (("plan.json", "--waterfall"), "--waterfall: plan.json is a finished plan", "a plan has been made"),
    (("plan.json", "--seed", "0"), "--seed: plan.json is a finished plan", "even the default"),
    (("plan.json", "--set", "peak_qps=3"), "--set: plan.json is a finished plan", "a plan has been made"),
    (("plan.json", "--out", "no/such/folder.html"), "there is no folder no/such", "said before the work"),
    (("plan.json", "--out", "plan.json"), "the page would overwrite it", "the plan would be lost"),
    (("ai-search", "--requests", "10"), "--requests 10: must be at least", "too short for an interval"),
    ((), "Missing argument 'PLAN'", "nothing given"),
]


@pytest.mark.parametrize(("arguments", "words", "because"), BAD_CALLS, ids=[row[2] for row in BAD_CALLS])
def test_a_call_that_cannot_be_answered_is_refused_in_one_line(arguments, words, because):
    before = Path("plan.json").read_bytes()
    answer = report(*arguments)
    assert 2 == answer.exit_code, because
    assert words in answer.stderr
    assert 1 == answer.stderr.count("\n")
    assert before == Path("plan.json").read_bytes()


def test_a_plan_named_like_its_own_page_is_not_overwritten():
    Path("plan.json").rename("plan.html")
    before = Path("plan.html").read_bytes()
    assert "the page would overwrite it" in report("plan.html").stderr
    assert before == Path("plan.html").read_bytes()
