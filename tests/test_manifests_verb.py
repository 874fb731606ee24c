"""`planner manifests`: what goes where, what is refused, what is never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from manifest_plans import document

import planner
from planner.cli.app import cli


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty current folder with one plan in it."""
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text(json.dumps(document("demo")))
    return tmp_path


def manifests(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["manifests", *arguments])


def kinds(text: str) -> list[str]:
    return [one["kind"] for one in yaml.safe_load_all(text)]


def test_standard_output_has_the_objects_that_stand_and_nothing_else():
    answer = manifests("plan.json")
    assert 0 == answer.exit_code, answer.output
    assert "" == answer.stderr
    assert {"Deployment", "Service", "PodDisruptionBudget", "ConfigMap", "ScaledObject"} <= set(kinds(answer.stdout))
    assert "Job" not in kinds(answer.stdout)


def test_a_folder_gets_a_file_for_each_kind_and_the_load_test_apart():
    answer = manifests("plan.json", "--out", "deep/fleet")
    assert 0 == answer.exit_code, answer.output
    folder = Path("deep/fleet")
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert sorted(f"wrote {folder / name}" for name in written if name != "loadtest") == sorted(
        answer.stdout.splitlines()
    )
    for place in (folder, folder / "loadtest"):
        listed = yaml.safe_load((place / "kustomization.yaml").read_text())["resources"]
        assert sorted(listed) == sorted({path.name for path in place.glob("*.yaml")} - {"kustomization.yaml"})
    for path in folder.rglob("*.yaml"):
        assert {path.stem} == {kind.lower() for kind in kinds(path.read_text())}


def test_a_folder_and_standard_output_hold_the_same_objects():
    manifests("plan.json", "--out", "fleet")
    in_files = [one for path in Path("fleet").glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    found = {one["metadata"]["name"] + one["kind"]: one for one in in_files if one["kind"] != "Kustomization"}
    printed = yaml.safe_load_all(manifests("plan.json").stdout)
    assert found == {one["metadata"]["name"] + one["kind"]: one for one in printed}


def test_its_own_files_are_written_again_and_foreign_ones_never():
    assert 0 == manifests("plan.json", "--out", "fleet").exit_code
    assert 0 == manifests("plan.json", "--out", "fleet").exit_code
    Path("fleet/service.yaml").write_text("by hand\n")
    Path("fleet/deployment.yaml").unlink()
    answer = manifests("plan.json", "--out", "fleet")
    assert 2 == answer.exit_code
    assert "fleet/service.yaml: was not written by planner manifests" in answer.stderr
    assert "by hand\n" == Path("fleet/service.yaml").read_text()
    assert not Path("fleet/deployment.yaml").exists(), "nothing at all is written then"


def test_what_was_changed_by_hand_is_never_overwritten():
    """One character in the text, or the header's checksum taken away: the person who did it is asked."""
    manifests("plan.json", "--out", "fleet")
    file = Path("fleet/deployment.yaml")
    rendered = file.read_text()
    edits = [rendered.replace("replicas: 5", "replicas: 6"), rendered + "# mine\n", rendered.partition("\n")[2]]
    edits.append(rendered.replace(". Checksum ", ", Checksum "))
    for edited in edits:
        assert edited != rendered
        file.write_text(edited)
        answer = manifests("plan.json", "--out", "fleet", "--name", "other")
        assert 2 == answer.exit_code
        assert "fleet/deployment.yaml: was " in answer.stderr
        assert edited == file.read_text()
        assert "other" not in Path("fleet/service.yaml").read_text(), "nothing at all is written then"
    file.unlink()
    assert 0 == manifests("plan.json", "--out", "fleet").exit_code
    assert rendered == file.read_text()


def test_line_ends_that_a_tool_changed_are_no_edit():
    manifests("plan.json", "--out", "fleet")
    file = Path("fleet/deployment.yaml")
    rendered = file.read_bytes()
    file.write_bytes(rendered.replace(b"\n", b"\r\n"))
    assert 0 == manifests("plan.json", "--out", "fleet").exit_code
    assert rendered == file.read_bytes()


def test_labels_and_cpus_of_the_command_line_reach_the_objects():
    answer = manifests("plan.json", "--label", "release=kps", "--cpu", "4")
    made = list(yaml.safe_load_all(answer.stdout))
    assert {"PodMonitor", "PrometheusRule"} == {
        one["kind"] for one in made if one["metadata"]["labels"].get("release") == "kps"
    }
    (replicas,) = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"].endswith("-replicas")]
    assert "4" == replicas["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]


def test_a_file_of_an_earlier_rendering_is_named_and_left():
    manifests("plan.json", "--out", "fleet")
    Path("fleet/notes.yaml").write_text("mine: true\n")
    answer = manifests("plan.json", "--out", "fleet", "--without", "autoscaling")
    assert "fleet/scaledobject.yaml: of an earlier rendering" in answer.stderr
    assert "notes.yaml" not in answer.stderr
    assert Path("fleet/scaledobject.yaml").exists()


def test_a_folder_within_that_is_another_rendering_is_none_of_this_one():
    """Its load test neither; the own load test of an earlier rendering is."""
    assert 0 == manifests("plan.json", "--out", "multi/a").exit_code
    assert "" == manifests("plan.json", "--out", "multi").stderr
    arrivals = {"trace": {"file": "day.csv", "format": "azure", "speedup": 1.0}}
    Path("trace.json").write_text(json.dumps(document("demo", scenario__traffic__arrivals=arrivals)))
    answer = manifests("trace.json", "--out", "multi", "--without", "exporter")
    assert "multi/loadtest/job.yaml: of an earlier rendering" in answer.stderr
    assert "multi/a/" not in answer.stderr


@pytest.mark.parametrize("form", [(), ("--compose",)])
def test_a_folder_that_changes_its_fleet_names_both(form):
    words = ("plan.json", "--out", "fleet", *form)
    manifests(*words, "--name", "first")
    answer = manifests(*words, "--name", "second")
    assert 0 == answer.exit_code
    (line,) = answer.stderr.splitlines()
    assert "fleet: had the fleet first, now has second" in line
    assert "" == manifests(*words, "--name", "second").stderr


def test_the_namespace_stands_in_every_object_and_name_begins_every_name():
    answer = manifests("plan.json", "--namespace", "search", "--name", "bot")
    for one in yaml.safe_load_all(answer.stdout):
        assert "search" == one["metadata"]["namespace"]
        assert one["metadata"]["name"] == "bot" or one["metadata"]["name"].startswith("bot-")


def test_compose_prints_one_project_and_writes_one_file():
    answer = manifests("plan.json", "--compose")
    assert {"name", "services", "configs", "volumes"} == yaml.safe_load(answer.stdout).keys()
    assert 0 == manifests("plan.json", "--compose", "--out", "box").exit_code
    assert answer.stdout == Path("box/compose.yaml").read_text()


REFUSED = [
    # arguments, words, because
    (("plan.json", "--seed", "1"), "plan.json is a finished plan", "it was planned with its own seed"),
    (("plan.json", "--set", "fleet.spare_replicas=1"), "is a finished plan", "it was planned without"),
    (("plan.json", "--compose", "--namespace", "x"), "--namespace: a Compose project has none", "it has a name"),
    (("plan.json", "--name", "Not A Name"), "--name (=Not A Name)", "Kubernetes would refuse it"),
    (("plan.json", "--image", "two words"), "--image (=two words)", "no image"),
    (("plan.json", "--vllm-arg=--block-size=32"), "comes from the plan", "the plan says 16"),
    (("plan.json", "--label", "release"), "--label (=release): must be KEY=VALUE", "no value"),
    (("plan.json", "--label", "a=b", "--without", "monitoring"), "nothing to label", "it would have no effect"),
    (("plan.json", "--out", ""), "--out': is empty", "an unset variable is not this folder"),
    (("plan.json", "--autoscale", "--without", "autoscaling"), "--autoscale: there is no autoscaler", "one of them"),
    (("plan.json", "--compose", "--cpu", "4"), "--cpu: is of Kubernetes", "Compose asks no scheduler"),
    (("nowhere.json",), "nowhere.json", "no such file or example"),
    (("cut.json",), "is cut off", "half a download"),
    (("list.json",), "is not a plan's document", "JSON, but no plan"),
    (("infeasible.json",), "no fleet holds the service levels", "there is nothing to deploy"),
    (("large.json", "--compose"), "one box has fleet.gpus_per_node (=8)", "42 GPUs"),
]


@pytest.mark.parametrize(("arguments", "words", "because"), REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, because):
    Path("cut.json").write_text('{"schema_version": 1, "fleet"')
    Path("list.json").write_text("[1, 2]")
    Path("infeasible.json").write_text(json.dumps(document("demo", feasible=False)))
    Path("large.json").write_text(json.dumps(document("ai-search")))
    answer = manifests(*arguments)
    assert 2 == answer.exit_code, because
    assert "" == answer.stdout
    assert 1 == len(answer.stderr.splitlines())
    assert words in answer.stderr


def test_a_scenario_is_planned_first_with_what_was_set(monkeypatch):
    calls: list[tuple] = []

    class Planned:
        feasible = True

        def as_dict(self):
            return document("demo")

    def plan(scenario, **options):
        calls.append((scenario.traffic.peak_qps, options["seed"], options["requests"]))
        return Planned()

    monkeypatch.setattr(planner, "plan", plan, raising=False)
    answer = manifests("demo", "--set", "traffic.peak_qps=7", "--seed", "3", "--requests", "2000")
    assert 0 == answer.exit_code, answer.output
    assert [(7.0, 3, 2000)] == calls
    assert manifests("plan.json").stdout == answer.stdout


def test_what_cannot_be_rendered_is_said_on_standard_error():
    """The load test of a trace that is not there; the exporter needs none."""
    arrivals = {"trace": {"file": "day.csv", "format": "azure", "speedup": 1.0}}
    Path("trace.json").write_text(json.dumps(document("demo", scenario__traffic__arrivals=arrivals)))
    answer = manifests("trace.json", "--out", "fleet")
    assert 0 == answer.exit_code
    assert "no load test: scenario.traffic.arrivals.trace.file (=day.csv): no such file" in answer.stderr
    assert "no autoscaler" in answer.stderr
    assert not Path("fleet/loadtest").exists()


def test_no_key_of_the_environment_is_ever_written(monkeypatch):
    for variable in ("HF_TOKEN", "VLLM_API_KEY", "PLANNER_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "sk-never-written")
    for arguments in (("plan.json",), ("plan.json", "--compose")):
        assert "sk-never-written" not in manifests(*arguments).output
    manifests("plan.json", "--out", "fleet")
    assert not [path for path in Path("fleet").rglob("*.yaml") if "sk-never-written" in path.read_text()]
