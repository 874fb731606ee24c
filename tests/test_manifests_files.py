"""The files that a scenario names go where its plan goes: exporter and load test run from what was rendered alone."""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from drift_specimens import window
from manifest_plans import IMAGE, document, facts, objects
from recorded import World, scenario_of, write_run

from loadtests.schedule import make_schedule
from planner import Scenario, plan
from planner.calibration import calibrate
from planner.cli.app import cli
from planner.cli.output import json_text
from planner.errors import DataFileError, MisfitError
from planner.manifests.compose import compose
from planner.manifests.facts import read_facts
from planner.manifests.kubernetes import kubernetes
from planner.manifests.scenario_files import MOST_BYTES, read_files, with_names
from planner.manifests.settings import Settings
from planner.manifests.text import one_document
from planner.planned import planned
from planner.readers.recording_files import read_recordings

HISTOGRAM = "lengths/prompts of may.csv"
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2026-05-04 12:{second // 60:02}:{second % 60:02}.2500000,{200 + 7 * second % 400},{20 + second % 50}\n"
    for second in range(600)
)
MEASURED = {"step": 1.5, "tokens": 1.2, "sequences": 5.0, "decode_attention": 2.0, "frontend": 2.0}


NOISY = World(jitter_s=0.0005, step_noise=0.05)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody plans: a calibration, a histogram and a trace beside the scenario, a config.json in a folder."""
    folder = tmp_path_factory.mktemp("source")
    loads = scenario_of(2, 500, 100), scenario_of(12, 500, 100), scenario_of(18, {"uniform": [100, 3000]}, 60)
    server = {"version": "0.32.0", "kv_cache_tokens": 160_000}
    runs = [
        write_run(folder / f"{place}.jsonl", load, MEASURED, 150, place, NOISY, server=server)
        for place, load in enumerate(loads)
    ]
    found = calibrate([recording for path in runs for recording in read_recordings(path)], date="2026-11-22")
    (folder / "own.calibration.json").write_text(found.calibration.model_dump_json())
    (folder / HISTOGRAM).parent.mkdir()
    (folder / HISTOGRAM).write_bytes(b"prompt\r\n" + b"".join(b"%d\r\n" % (300 + 10 * n) for n in range(40)))
    (folder / "day.csv").write_text(TRACE)
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_bytes(Path("examples/cpu-tiny/config.json").read_bytes())
    return folder


MONEY = {"prices": {"gpu_hour_usd": 2.0}, "slo": {"p95_ttft_ms": "<=2000"}, "name": "files"}
CALIBRATED = {"calibration": "own.calibration.json"}
COUNTED = {"stage": {"prompt_tokens": {"histogram": {"file": HISTOGRAM, "column": "prompt"}}}}
TINY = {"model": ["tiny/config.json", "qwen3-8b"], "hardware": "l4-24gb", "engine": {"max_model_len": 4096}}
RECORDED = {"traffic": {"arrivals": {"trace": {"file": "day.csv", "format": "azure"}}}}
PLANS = [
    # what the scenario says more, the files that go with the plan, because
    (CALIBRATED | COUNTED, {"own.calibration.json", "prompts-of-may.csv"}, "a path in a folder, a name with spaces"),
    (TINY, {"tiny.json"}, "one of a list; it is called by the folder of its config.json"),
    (RECORDED | CALIBRATED, {"own.calibration.json"}, "a trace has no rate that the exporter could vary"),
]


def plan_of(source: Path, **more: Any) -> dict[str, Any]:
    """The JSON of a plan, as `planner plan --out` writes it."""
    scenario = Scenario.from_dict(scenario_of(4, 500, 60, **(MONEY | copy.deepcopy(more))).as_dict(), source)
    read: dict[str, Any] = json.loads(json_text(plan(scenario, requests=2000, worlds=0).as_dict()))
    return read


def rendered(source: Path, made: dict[str, Any], **settings: Any) -> dict[str, dict[str, Any]]:
    """{"Kind/name": object} as a cluster would read them."""
    chosen = Settings(name="fleet", planner_image=IMAGE, checkpoint="org/model", **settings)
    found = kubernetes(read_facts(made, "plan", source), chosen)
    every = yaml.safe_load_all("---\n".join(one_document(one) for one in (*found.standing, *found.load_test)))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in every}


def mounted(data: dict[str, str], folder: Path) -> Path:
    """A ConfigMap as a container finds it."""
    folder.mkdir()
    for name, text in data.items():
        (folder / name).write_bytes(text.encode())
    return folder


def drift(*words: object) -> Result:
    return CliRunner().invoke(cli, ["drift", *map(str, words)])


@pytest.mark.parametrize(("more", "files", "because"), PLANS)
def test_the_exporter_finds_all_that_its_plan_names_in_its_own_folder(source, tmp_path, more, files, because):
    """`planner drift` reads the plan as `planner export` does, and judges one window in place of every reading."""
    made = plan_of(source, **more)
    data = rendered(source, made)["ConfigMap/fleet-plan"]["data"]
    assert files | {"plan.json"} == data.keys(), because
    folder = mounted(data, tmp_path / "etc-planner")
    seen = tmp_path / "window.json"
    seen.write_text(json.dumps(window(planned(made, base=source)).as_dict()))
    said = drift(folder / "plan.json", "--observed", seen, "--json")
    assert 0 == said.exit_code, said.output
    (source / "plan.json").write_text(json.dumps(made))
    at_home = drift(source / "plan.json", "--observed", seen, "--json")
    assert json.loads(at_home.stdout) == json.loads(said.stdout), "the same answer as where it was planned"


def test_without_its_files_the_exporter_would_not_start(source, tmp_path):
    """What the test above would see if the ConfigMap held the plan alone."""
    made = plan_of(source, **CALIBRATED)
    data = rendered(source, made)["ConfigMap/fleet-plan"]["data"]
    folder = mounted({"plan.json": data["plan.json"]}, tmp_path / "etc-planner")
    seen = tmp_path / "window.json"
    seen.write_text(json.dumps(window(planned(made, base=source)).as_dict()))
    said = drift(folder / "plan.json", "--observed", seen)
    assert 2 == said.exit_code
    assert "error: calibration (=" in said.stderr
    assert "no such file" in said.stderr


LOADS = [
    (CALIBRATED | COUNTED, {"prompts-of-may.csv"}, "the calibration stays behind: the load tester only sends"),
    (TINY, {"tiny.json"}, "the tokeniser's size and the context come of the model"),
    (RECORDED | CALIBRATED, {"day.csv"}, "a trace is what is sent"),
]


@pytest.mark.parametrize(("more", "files", "because"), LOADS)
def test_the_load_test_finds_all_that_its_scenario_names_in_its_own_folder(source, tmp_path, more, files, because):
    """The arrays that the rendered scenario makes are those of the scenario that was planned."""
    made = plan_of(source, **more)
    data = rendered(source, made)["ConfigMap/fleet-loadtest"]["data"]
    assert files | {"scenario.yaml"} == data.keys(), because
    folder = mounted(data, tmp_path / "etc-planner")
    sent = make_schedule(Scenario.load(folder / "scenario.yaml"), 0, None, 60.0, 0.0)
    meant = make_schedule(planned(made, base=source).pinned, 0, None, 60.0, 0.0)
    assert len(sent.load.prompt_tokens) > 100
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert getattr(meant.load, column).tolist() == getattr(sent.load, column).tolist(), column


def test_a_trace_s_job_lives_twice_as_long_as_the_trace(source):
    """600 s of it are sent whole; five minutes are the length of any other run."""
    long = rendered(source, plan_of(source, **RECORDED))["Job/fleet-loadtest-master"]["spec"]["activeDeadlineSeconds"]
    short = objects("demo")["Job/fleet-loadtest-master"]["spec"]["activeDeadlineSeconds"]
    assert 600 + 2 * 600 <= long <= 600 + 2 * 700
    assert 600 + 2 * 300 <= short < 600 + 2 * 310


def test_compose_puts_the_same_files_beside_the_plan(source, tmp_path):
    made = read_facts(plan_of(source, **CALIBRATED, **COUNTED), "plan", source)
    project = yaml.safe_load(one_document(compose(made, Settings(name="fleet", planner_image=IMAGE))))
    places = {one["target"]: one["source"] for one in project["services"]["exporter"]["configs"]}
    assert {f"/etc/planner/{name}" for name in ("plan.json", "own.calibration.json", "prompts-of-may.csv")} == set(
        places
    )
    texts = {Path(place).name: project["configs"][name]["content"].replace("$$", "$") for place, name in places.items()}
    folder = mounted(texts, tmp_path / "etc-planner")
    read = planned(json.loads(texts["plan.json"]), base=folder)
    seen = tmp_path / "window.json"
    seen.write_text(json.dumps(window(read).as_dict()))
    said = drift(folder / "plan.json", "--observed", seen)
    assert 0 == said.exit_code, said.output
    assert (source / HISTOGRAM).read_bytes() == (folder / "prompts-of-may.csv").read_bytes(), "line ends and all"


MISSING = [
    ({"calibration": "gone.json"}, "scenario.calibration (=gone.json): no such file", "nobody sent it along"),
    ({"calibration": "lengths"}, "scenario.calibration (=lengths): is no regular file", "a folder"),
    ({"calibration": "pipe"}, "scenario.calibration (=pipe): is no regular file", "reading it would wait for ever"),
    ({"calibration": "/dev/zero"}, "(=/dev/zero): is no regular file", "it never ends"),
    ({"calibration": "packed.csv.gz"}, "(=packed.csv.gz): is no text in UTF-8", "unpack it"),
    ({"calibration": "large.json"}, "(=large.json): has more than 1,000,000 bytes", "no ConfigMap holds it"),
    ({"model": ["llama-3.1-8b", "gone/config.json"]}, "scenario.model[1] (=gone/config.json)", "one of a list"),
    ({"calibration": "a\0b"}, "is no path", "a null character"),
    ({"calibration": "a\ud800.json"}, "is no path", "half a character, which JSON can hold"),
    ({"model": "a\ud800/config.json"}, "is no path", "the same in a folder's name"),
]


@pytest.mark.parametrize(("changes", "words", "because"), MISSING)
def test_a_file_that_cannot_go_along_is_told_by_key_and_path(source, changes, words, because):
    (source / "packed.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\xff")
    (source / "large.json").write_bytes(b" " * (MOST_BYTES + 1))
    if not (source / "pipe").exists():
        os.mkfifo(source / "pipe")
    made = read_facts(document("demo", **{f"scenario__{key}": value for key, value in changes.items()}), "plan", source)
    for render in (kubernetes, compose):
        with pytest.raises(DataFileError) as caught:
            render(made, Settings(name="fleet"))
        assert words in str(caught.value), because
        assert "--without exporter" in str(caught.value), "a way out"


def test_files_that_are_too_large_together_are_refused_with_their_sizes(source):
    calibration = (source / "own.calibration.json").read_bytes()
    (source / "half.json").write_bytes(calibration.ljust(MOST_BYTES - 1000))
    made = read_facts(document("demo", scenario__calibration="half.json"), "plan", source)
    with pytest.raises(MisfitError, match=r"half\.json 999,000.*--without exporter"):
        kubernetes(made, Settings(name="fleet"))
    told = kubernetes(made, Settings(name="fleet", without=frozenset({"exporter"})))
    assert told.load_test, "which needs no calibration"


def test_a_load_test_whose_files_no_config_map_holds_is_left_out_and_that_is_said(source):
    (source / "long.csv").write_text(TRACE.ljust(MOST_BYTES, "\n"))
    arrivals = {"trace": {"file": "long.csv", "format": "azure", "speedup": 1.0}}
    made = kubernetes(read_facts(document("demo", scenario__traffic__arrivals=arrivals), "plan", source), Settings())
    assert [] == made.load_test
    assert any("no load test: scenario and its files, bytes (=100" in note for note in made.notes)
    assert "long.csv" not in str([one for one in made.standing if one["kind"] == "ConfigMap"][-1]["data"].keys())


def test_a_changed_calibration_rolls_the_exporter(source):
    def mark(text: str) -> str:
        (source / "some.json").write_text((source / "own.calibration.json").read_text() + text)
        made = read_facts(document("demo", scenario__calibration="some.json"), "plan", source)
        one = {f"{one['kind']}/{one['metadata']['name']}": one for one in kubernetes(made, Settings(name="f")).standing}
        return str(one["Deployment/f-exporter"]["spec"]["template"]["metadata"]["annotations"])

    assert mark("") == mark("") != mark(" ")


NAMES = [
    # model, other files, names, because
    ("m/config.json", [], ["m.json"], "hf_config calls a model by the folder of its config.json"),
    ("m/own.json", [], ["own.json"], "and by any other file's name"),
    ("x", ["a/n.csv", "b/n.csv"], ["n.csv", "n-{}.csv"], "two files of one name stay two"),
    ("x", ["n.csv", "n.csv"], ["n.csv"], "one file named twice is one"),
    ("x", ["plan.json"], ["plan-{}.json"], "the plan's own name is taken"),
    ("x", ["grün & weiß.csv"], ["gr-n-wei-.csv"], "a ConfigMap's key is ASCII"),
    ("x", ["/abs/n.csv"], ["n.csv"], "an absolute path"),
    ("x", ["..n.csv"], ["n.csv"], "Kubernetes refuses a key that begins with two dots"),
    ("x", ["..."], ["file"], "of which nothing is left"),
    ("x", [".csv", "...csv"], [".csv", "file.csv"], "one dot it takes"),
]


@pytest.mark.parametrize(("model", "paths", "names", "because"), NAMES)
def test_every_file_gets_a_name_that_a_config_map_takes(tmp_path, model, paths, names, because):
    scenario = {"model": model, "query": {"stages": [{"prompt_tokens": {"file": path}} for path in paths]}}
    files = read_files(scenario, tmp_path)
    for file, name in zip(files, names, strict=True):
        before, _, after = name.partition("{}")
        assert file.name.startswith(before), because
        assert file.name.endswith(after), because
    assert len({file.name for file in files}) == len(files), because
    assert all(re.fullmatch(r"(?!\.\.)[-._a-zA-Z0-9]{1,253}", file.name) for file in files), because
    by_path = {file.path: file.name for file in files}
    renamed = with_names(scenario, files)
    assert [by_path[path] for path in paths] == [stage["prompt_tokens"]["file"] for stage in renamed["query"]["stages"]]
    assert by_path.get(model, model) == renamed["model"], because


def test_a_plan_without_files_is_handed_on_as_it_is():
    assert () == facts().files
    assert document()["scenario"] == facts().document["scenario"]


def test_the_verb_looks_beside_the_plan_and_beside_the_scenario(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away").mkdir()
    made = document("demo", scenario__calibration="own.calibration.json")
    (source / "with-file.json").write_text(json.dumps(made))
    (tmp_path / "away" / "plan.json").write_text(json.dumps(made))
    found = CliRunner().invoke(cli, ["manifests", str(source / "with-file.json"), "--out", "fleet"])
    assert 0 == found.exit_code, found.output
    assert "own.calibration.json: " in Path("fleet/configmap.yaml").read_text()
    lost = CliRunner().invoke(cli, ["manifests", "away/plan.json"])
    assert (2, "") == (lost.exit_code, lost.stdout)
    assert "scenario.calibration (=own.calibration.json): no such file" in lost.stderr
    assert 1 == len(lost.stderr.splitlines())


def test_where_a_file_is_missing_facts_still_say_what_else_there_is(source):
    """Whoever needs no file is not stopped by one that is missing: the router, the replicas."""
    made = read_facts(document("demo", scenario__calibration="gone.json"), "plan", source)
    without = kubernetes(made, Settings(name="fleet", without=frozenset({"exporter"})))
    assert replace(made, files=()).replicas == 5
    assert {"Deployment", "Job"} <= {one["kind"] for one in (*without.standing, *without.load_test)}
