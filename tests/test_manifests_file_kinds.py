"""What a plan names goes into a ConfigMap only where it is what the key asks for: a plan may be somebody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from manifest_plans import document, facts

from planner import Scenario
from planner.cli.app import cli
from planner.manifests.scenario_files import read_files

SECRET = "hunter2-of-the-cluster"
PASSWD = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
FILES = {
    "passwd": PASSWD,
    "credentials": f"[default]\naws_secret_access_key = {SECRET}\n",
    "config.json": json.dumps({"auths": {"registry": {"auth": SECRET}}}),
    "notes.csv": f"name,tokens\n{SECRET},many\n",
    "good.csv": "prompt,answer\n300,20\n310,25\n",
    "azure.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-05-04 12:00:00.25,200,20\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("kinds")
    for name, text in FILES.items():
        (made / name).write_text(text)
    return made


def histogram(file: str, column: object = "prompt") -> dict[str, object]:
    return {"query": {"stages": [{"prompt_tokens": {"histogram": {"file": file, "column": column}}}]}}


def joint(file: str, columns: object) -> dict[str, object]:
    return {"query": {"stages": [{"prompt_tokens": {"joint": {"file": file, "columns": columns}}}]}}


def trace(file: str, form: object) -> dict[str, object]:
    return {"traffic": {"arrivals": {"trace": {"file": file, "format": form}}}}


READ = [
    # scenario, what is said, because
    (histogram("good.csv"), "", "a histogram with its column"),
    (joint("good.csv", ["prompt", "answer"]), "", "two of them"),
    (trace("azure.csv", "azure"), "", "a trace"),
    ({"calibration": "passwd"}, "is no calibration", "a list of users"),
    ({"calibration": "credentials"}, "is no calibration", "keys"),
    ({"calibration": "config.json"}, "is no calibration", "keys, as JSON"),
    ({"model": "config.json"}, "is no config.json of a model", "the same under a model's usual name"),
    ({"model": ["x", "config.json"]}, "is no config.json of a model", "one of a list"),
    (histogram("passwd", PASSWD.splitlines()[0]), "is no table", "its first line taken for the column's name"),
    (histogram("notes.csv", "tokens"), "is no table", "its values are no counts"),
    (histogram("good.csv", "other"), "is no table", "not the column"),
    (histogram("good.csv", None), "is no table", "no column"),
    (joint("notes.csv", []), "is no table", "no columns let any table pass"),
    (joint("good.csv", "prompt"), "is no table", "a text is no two columns"),
    (trace("azure.csv", "mooncake"), "is no trace", "another format"),
    (trace("azure.csv", "own"), "is no trace", "a format that is not known"),
    (trace("credentials", "azure"), "is no trace", "keys"),
    ({"extra": {"file": "good.csv"}}, "is named where a scenario names no file", "a key of one's own"),
    ({"file": "passwd"}, "is named where a scenario names no file", "at the top"),
]


@pytest.mark.parametrize(("scenario", "said", "because"), READ)
def test_a_file_is_read_as_what_names_it(folder, scenario, said, because):
    (file,) = read_files(scenario, folder)
    assert (said == "") is (file.text is not None), because
    assert file.trouble.startswith(said), because
    for line in (SECRET, "daemon", "root:x"):
        assert line not in file.trouble, "words hold nothing of the file"


def test_what_says_to_be_empty_is_read_no_further_than_a_config_map_holds(folder):
    """Files of /proc have no size; what this process was started with is no calibration."""
    (file,) = read_files({"calibration": "/proc/self/environ"}, folder)
    assert file.text is None


def test_the_verb_writes_nothing_of_a_file_that_is_none_of_its_kind(folder):
    (folder / "plan.json").write_text(json.dumps(document("demo", scenario__calibration="credentials")))
    said = CliRunner().invoke(cli, ["manifests", str(folder / "plan.json")])
    assert (2, "") == (said.exit_code, said.stdout)
    assert "scenario.calibration (=credentials): is no calibration" in said.stderr
    assert SECRET not in said.output


def test_half_a_character_in_a_path_is_told_in_one_line(folder):
    (folder / "half.json").write_text(json.dumps(document("demo", scenario__calibration="a\ud800b")))
    said = CliRunner().invoke(cli, ["manifests", str(folder / "half.json")])
    assert (2, "", 1) == (said.exit_code, said.stdout, len(said.stderr.splitlines()))
    assert "is no path" in said.stderr


OUTSIDE = [
    ("good.csv", False, "in the plan's folder"),
    ("./sub/../good.csv", False, "there, by a detour"),
    ("../good.csv", True, "above it"),
    ("linked.csv", True, "a link out of it"),
    ("gone.csv", False, "not there: that is told elsewhere"),
]


@pytest.mark.parametrize(("path", "outside", "because"), OUTSIDE)
@pytest.mark.parametrize("box", [[], ["--compose"]])
def test_a_file_from_outside_the_plan_s_folder_is_told_by_key_and_path(tmp_path, path, outside, because, box):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    for place in (home / "good.csv", tmp_path / "good.csv"):
        place.write_text(FILES["good.csv"])
    os.symlink(tmp_path / "good.csv", home / "linked.csv")
    made = document("demo")
    made["scenario"]["query"]["stages"][0]["prompt_tokens"] = {"histogram": {"file": path, "column": "prompt"}}
    (home / "plan.json").write_text(json.dumps(made))
    said = CliRunner().invoke(cli, ["manifests", str(home / "plan.json"), *box])
    key = "scenario.query.stages[0].prompt_tokens.histogram.file"
    assert outside is (f"warning: {key} (={path}) lies outside the folder of the plan" in said.stderr), because


def test_a_plan_and_its_manifests_take_the_same_values_for_paths(tmp_path):
    """`Scenario.located` makes absolute what `read_files` reads, a config.json in capitals too."""
    scenario = Scenario.from_dict(
        facts("demo").document["scenario"] | {"model": ["Own/CONFIG.JSON", "qwen3-8b"]}, tmp_path
    )
    assert [str(tmp_path / "Own/CONFIG.JSON"), "qwen3-8b"] == list(scenario.located()["model"])
    assert ["Own/CONFIG.JSON"] == [file.path for file in read_files(scenario.as_dict(), tmp_path)]
