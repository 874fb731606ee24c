"""Files and settings that are no scenario: one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import InputError, ScenarioError
from planner.scenario import Scenario
from tests.bad_scenarios import GOOD

HEAD = "version: 1\nmodel: m\n"
FILES = [
    # text, the line holds, because
    ("", "is empty", "nothing in it"),
    ("- a\n- b\n", "must hold a mapping", "a list"),
    ("just words", "must hold a mapping", "a scalar"),
    ("a: [1, 2", "line 1: not valid YAML", "truncated"),
    ("a: b: c", "line 1: not valid YAML", "broken"),
    (HEAD + "a: !!python/object/apply:os.system [ls]\n", "line 3: tags", "a tag that would run code"),
    (HEAD + "a: !x 1\n", "line 3: tags", "a local tag"),
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: anchors and aliases", "YAML bomb"),
    ("a: *b\n", "line 1: anchors and aliases", "alias"),
    (HEAD + "model: n\n", "line 3: the key model is given twice", "repeated key"),
    ("? [a]\n: 1\n", "line 1: a key must be text", "list as a key"),
    ("[" * 5000, "nested more than 20 levels", "deep nesting"),
    (HEAD + "---\nversion: 1\n", "not valid YAML", "two documents"),
    ("a: \x07\n", "is not allowed in YAML", "control character"),
    (HEAD + "#" * 1_000_001, "larger than 1 MB", "too large"),
    ("a: [" + "1, " * 20_000 + "1]", "more than 20000 values", "a list without end"),
    (HEAD + "<<: {a: 1}\n", "<< (=", "merge keys are not read"),
    (HEAD + "1: x\n", "1 (=x): unknown key", "number as a key"),
    (HEAD + "traffic: {peak_qps: .nan}\n", "must be finite", "NaN in YAML"),
    (HEAD + "traffic: {peak_qps: 1:30}\n", "must be a number", "sexagesimal"),
    (HEAD + "traffic: {peak_qps: 0x10}\n", "must be a number", "hexadecimal"),
    (HEAD + f"traffic: {{peak_qps: {'9' * 5000}}}\n", "traffic.peak_qps", "a number of 5,000 digits"),
]


@pytest.mark.parametrize(("text", "holds", "because"), FILES, ids=[row[2] for row in FILES])
def test_a_bad_file_is_refused_in_one_line(text: str, holds: str, because: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Scenario.load(path)
    assert holds in str(caught.value), because
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", [b'{"record":"run"', b'\n{"record": "request"'])
@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_load_tests_records_are_told_from_a_scenario_whatever_their_size(
    start: bytes, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(start + b"}\n" + b"x" * size)
    with pytest.raises(ScenarioError, match="is a load test's records file; a scenario is YAML"):
        Scenario.load(path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"version: 1\nname: caf\xe9\n")
    with pytest.raises(ScenarioError, match="not UTF-8 text"):
        Scenario.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such file"):
        Scenario.load(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="is a folder"):
        Scenario.load(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        Scenario.load("a\0b")


SETS = [
    ("traffic.peak_qsp", "40", "traffic.peak_qsp (=40): unknown key; nearest: peak_qps", "misspelt"),
    ("zzz", "40", "zzz (=40): unknown key", "unknown"),
    ("requests", "40", "several keys end so", "closed and offline both have it"),
    ("query.stages[3].calls", "2", "there is no item 3: the list has 1", "beyond the list"),
    ("query.stages.calls", "2", "name an item", "list without index"),
    ("traffic[0]", "2", "traffic[0] (=2): traffic is not a list", "index on a mapping"),
    ("traffic..x", "2", "not a key", "broken path"),
    ("traffic.peak_qps", "[1", "not valid YAML", "broken value"),
    ("traffic.peak_qps", "&a 1", "anchors", "anchor"),
    ("model", "null", "model: is required", "removed though required"),
]


@pytest.mark.parametrize(("key", "value", "holds", "because"), SETS, ids=[f"{r[0]}-{r[3]}" for r in SETS])
def test_a_bad_setting_is_refused_in_one_line(key: str, value: str, holds: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD).with_values({key: value})
    assert holds in str(caught.value), because
    assert "\n" not in str(caught.value)
