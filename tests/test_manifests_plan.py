"""What is read of a plan before anything is rendered: damaged, infeasible and impossible ones are refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from manifest_plans import document, facts, objects

from planner.errors import DataFileError, InputError, MisfitError, UnsupportedError
from planner.manifests.facts import read_facts
from planner.manifests.kubernetes import kubernetes, name_of
from planner.manifests.naming import LONGEST, base_name
from planner.manifests.settings import Settings, checked_settings


def test_the_facts_are_the_plan_s_own():
    plan, found = document(), facts()
    fleet, peak = plan["fleet"], plan["at_peak"]
    assert (fleet["replicas"], fleet["gpus_per_replica"], fleet["spare_replicas"]) == (
        found.replicas,
        found.gpus_per_replica,
        found.spare_replicas,
    )
    assert peak["e2e_ms"]["p99"] / 1000 == found.p99_e2e_s
    assert peak["ledger"]["running_mean"] + peak["ledger"]["waiting_mean"] == found.requests_per_replica
    assert (("p99_ttft_ms", 1000.0), ("p99_tpot_ms", 50.0)) == found.limits
    assert fleet["engine"] | {"num_gpu_blocks_override": None} == {
        key: getattr(found.engine, key) for key in found.engine.__struct_fields__
    }
    assert 0.3 == found.response_cache_hit_rate
    assert not found.calibrated


def test_timings_of_the_run_that_planned_do_not_enter():
    """Two plannings of one scenario render the same, to the byte."""
    timed = document()
    timed["at_peak"]["wall_s"] = 1.25
    timed["alternatives"][0]["wall_s"] = 2.5
    assert facts().document == read_facts(timed).document


DAMAGED = [
    # changes, words of the message, because
    ({"schema_version": 2}, "schema_version (=2)", "another version may mean other things by the same names"),
    ({"schema_version": True}, "schema_version", "true == 1 in Python"),
    ({"alternatives": ...}, "is not a plan's document", "a simulation's document has no alternatives"),
    ({"fleet": ...}, "fleet", "a feasible plan has a fleet"),
    ({"fleet": None}, "fleet: Expected `object`, got `null`", "the same, damaged otherwise"),
    ({"fleet__replicas": "21"}, "fleet.replicas: Expected `int`, got `str`", "a number is no text"),
    ({"fleet__replicas": 0}, "fleet.replicas", "no fleet has no replicas"),
    ({"fleet__replicas": 22}, "fleet.gpus", "42 GPUs are not 22 replicas of 2"),
    ({"fleet__gpus_per_replica": 4}, "fleet.gpus_per_replica (=4): its engine has 2 ranks", "TP 2 is on 2 GPUs"),
    ({"fleet__spare_replicas": 21}, "fleet.spare_replicas", "then none serves"),
    ({"fleet__routing": 3}, "fleet.routing: Expected `str`, got `int`", "a number names no routing"),
    ({"scenario__monitor": {"interval_s": 0}}, "scenario.monitor.interval_s", "a reading after no time"),
    ({"fleet__engine__vllm_version": "0.32; rm -rf /"}, "vllm_version", "it becomes an image's tag"),
    ({"fleet__engine__quantization": "fp9"}, "quantization", "unknown formats have no argument"),
    ({"fleet__engine__max_num_seqs": -1}, "max_num_seqs", "vLLM would refuse it"),
    ({"model__hf_repo": "--trust-remote-code"}, "model.hf_repo", "it becomes an argument of vLLM's"),
    ({"model__hf_repo": "a/b/../../etc"}, "model.hf_repo", "a repository is owner/name"),
    ({"at_peak__e2e_ms": {}}, "at_peak.e2e_ms.p99", "how long a pod drains comes from it"),
    ({"at_peak__ledger__running_mean": 0.0}, "at_peak.ledger.running_mean", "the autoscaler would divide by it"),
    ({"at_peak__slo": [{"key": "p99_ttft_ms"}]}, "limit_ms", "a limit without its number"),
    ({"scenario__traffic": []}, "scenario.traffic", "a list is no section"),
    ({"cost": 3}, "cost", "a number is no section"),
]


@pytest.mark.parametrize(("changes", "words", "because"), DAMAGED)
def test_a_damaged_document_is_refused_by_the_name_of_what_is_wrong(changes, words, because):
    with pytest.raises(DataFileError) as caught:
        facts(**changes)
    assert words in str(caught.value), because


@pytest.mark.parametrize("whole", [None, [], "plan", 3, {}, {"version": 1}])
def test_what_is_no_plan_at_all_is_refused(whole):
    with pytest.raises(DataFileError, match="is not a plan's document"):
        read_facts(whole)


def test_numbers_that_json_does_not_have_and_bottomless_nesting_are_refused():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for value, words in ((math.nan, "NaN or Infinity"), (math.inf, "NaN or Infinity"), (deep, "nested too deeply")):
        with pytest.raises(DataFileError, match=f"is damaged: {words}"):
            read_facts(document() | {"waterfall": value})


def test_an_infeasible_plan_has_nothing_to_deploy():
    with pytest.raises(MisfitError, match="no fleet holds the service levels"):
        facts(feasible=False, fleet=None)


def test_a_replica_that_spans_nodes_is_refused_with_the_reason():
    with pytest.raises(MisfitError, match=r"fleet.gpus_per_node \(=1\).*LeaderWorkerSet") as caught:
        facts(scenario__fleet__gpus_per_node=1)
    assert "fleet.gpus_per_replica (=2)" in str(caught.value)


HARDWARE = [
    ("tpu-v4", UnsupportedError, "TPU"),
    ("cpu", UnsupportedError, "no accelerator"),
    ("b60-24gb", UnsupportedError, "vLLM publishes no versioned image"),
    ("h300", InputError, "h300"),
]


@pytest.mark.parametrize(("name", "error", "words"), HARDWARE)
def test_hardware_without_a_standard_way_is_refused(name, error, words):
    with pytest.raises(error, match=words):
        kubernetes(facts(fleet__hardware=name), Settings())


NAMES = [
    ("AI search, answer page", "ai-search-answer-page", "what is no letter or digit becomes one dash"),
    ("2-stage", "plan-2-stage", "a Service's name begins with a letter"),
    ("Größe", "gr-e", "letters beyond ASCII go"),
    ("日本", "plan-cf2abf", "nothing is left but that two such names differ"),
    ("東京", "plan-130016", "as here"),
    ("--", "plan-d8156b", "nor is of dashes"),
    ("plan", "plan", "a name of its own"),
]


@pytest.mark.parametrize(("text", "name", "because"), NAMES)
def test_a_scenario_s_name_becomes_a_label(text, name, because):
    assert name == base_name(text), because


def test_long_names_are_cut_and_stay_apart():
    first, second = base_name("x" * 80 + " a"), base_name("x" * 80 + " b")
    assert first != second
    assert LONGEST >= max(len(first), len(second))


def test_every_name_in_every_object_fits_kubernetes_63_characters():
    """The longest name that is allowed, with the longest suffix."""
    settings = Settings(name="n" * LONGEST, planner_image="p")
    for key in objects(settings=settings):
        assert 63 - len("-0a1b2") >= len(key.partition("/")[2]), key  # a Job's pods carry its name and five more


BAD_SETTINGS = [
    ({"image": "vllm:$(whoami)"}, "--image"),
    ({"image": "two words"}, "--image"),
    ({"planner_image": "UPPER/../x"}, "--planner-image"),
    ({"checkpoint": "--help"}, "--checkpoint"),
    ({"checkpoint": "../../etc"}, "--checkpoint"),
    ({"model_cache": "Not A Claim"}, "--model-cache"),
    ({"prometheus_url": "prometheus:9090"}, "--prometheus-url"),
    ({"prometheus_url": "http://[::1"}, "--prometheus-url"),
]


@pytest.mark.parametrize(("given", "option"), BAD_SETTINGS)
def test_settings_that_could_be_no_image_repository_claim_or_address_are_refused(given, option):
    with pytest.raises(InputError) as caught:
        checked_settings(**given)
    assert option == caught.value.key


def test_a_password_in_the_address_of_prometheus_is_refused_and_not_shown():
    with pytest.raises(InputError, match="no user and no password") as caught:
        checked_settings(prometheus_url="http://me:hunter2@prometheus:9090")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["Upper", "9lives", "dash-", "x" * (LONGEST + 1), "a_b", ""])
def test_a_name_that_kubernetes_would_refuse_is_refused_here(name):
    with pytest.raises(InputError, match="--name"):
        name_of(facts(), Settings(name=name))


def test_a_text_from_the_plan_stays_text_in_the_objects():
    """A name that would be YAML, or several lines, is one line of an annotation."""
    name = "a: b\n---\nkind: Pod # x"
    made = objects(scenario__name=name)["Deployment/fleet-replicas"]
    assert "a: b --- kind: Pod # x (schema_version 1)" == made["metadata"]["annotations"]["vllm-capacity-planner/plan"]
    assert name in json.loads(json.dumps(facts(scenario__name=name).document))["scenario"]["name"]


@pytest.mark.parametrize("key", ["schema_version", "feasible"])
def test_a_damaged_value_is_not_shown_as_python_prints_it(key):
    with pytest.raises(InputError, match=key) as caught:
        read_facts(document(**{key: {"a": [1, None]}}))
    assert "{" not in str(caught.value)


def test_what_a_plan_tells_people_does_not_enter():
    """Warnings, the proof of the spare, the pause of a session, a row's warnings: they stay in the plan's own file."""
    proof = {"replicas": 21, "stopped": 1, "verdict": "fails", "after": {"limits": [{"key": 3}]}}
    told = document(warnings=["a warning"], spare_proof=proof, waterfall=[{"step": "baseline", "warnings": ["edge"]}])
    told["at_peak"]["session_pause"] = {"share": 0.8, "near_collapse": True}
    found = read_facts(told)
    assert facts() == replace(found, document=facts().document)
    assert ["a warning"] == found.document["warnings"]
