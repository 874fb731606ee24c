"""One box: every replica has GPUs of its own, nothing listens beyond loopback, what does not fit is refused."""

from __future__ import annotations

import json

import pytest
import yaml
from manifest_plans import IMAGE, container, document, facts, objects

from planner.cli.app import cli
from planner.errors import InputError, MisfitError
from planner.exporter.hosts import allowed_hosts, is_allowed
from planner.manifests.compose import compose
from planner.manifests.facts import read_facts
from planner.manifests.kubernetes import rule_groups
from planner.manifests.settings import Settings
from planner.manifests.text import one_document

BOX = Settings(name="fleet", planner_image=IMAGE)


def project(name: str = "demo", settings: Settings = BOX, **changes) -> dict:
    """As Compose would read it."""
    return yaml.safe_load(one_document(compose(facts(name, **changes), settings)))


def test_each_replica_reserves_gpus_of_its_own():
    made = project("demo")["services"]
    ids = [
        device["device_ids"]
        for name, service in made.items()
        if name.startswith("vllm-")
        for device in service["deploy"]["resources"]["reservations"]["devices"]
    ]
    assert [["0"], ["1"], ["2"], ["3"], ["4"]] == ids


def test_gpus_of_one_replica_lie_together():
    made = project("ai-search", fleet__replicas=4, fleet__gpus=8)["services"]
    (device,) = made["vllm-3"]["deploy"]["resources"]["reservations"]["devices"]
    assert ("nvidia", ["6", "7"], ["gpu"]) == (device["driver"], device["device_ids"], device["capabilities"])
    assert "4gb" == made["vllm-3"]["shm_size"]


def test_a_fleet_larger_than_one_box_is_refused():
    with pytest.raises(MisfitError, match=r"fleet.gpus \(=42\): one box has fleet.gpus_per_node \(=8\)"):
        compose(facts("ai-search"), BOX)


REFUSED = [
    ({"fleet__hardware": "mi300x-192gb"}, BOX, "fleet.hardware", "only NVIDIA's runtime hands out single GPUs"),
    ({}, Settings(name="fleet", autoscale=True), "--autoscale", "there is nothing to scale on"),
    ({}, Settings(name="fleet", model_cache="claim"), "--model-cache", "a claim is of a cluster"),
    ({}, Settings(name="fleet", labels=(("release", "x"),)), "--label", "there is no operator"),
    ({}, Settings(name="fleet", cpu=4), "--cpu", "nothing is asked of a scheduler"),
]


@pytest.mark.parametrize(("changes", "settings", "key", "because"), REFUSED)
def test_what_a_box_cannot_do_is_refused(changes, settings, key, because):
    with pytest.raises(InputError) as caught:
        compose(facts("demo", **changes), settings)
    assert key == caught.value.key, because


def test_published_ports_are_on_loopback_alone():
    ports = [port for service in project()["services"].values() for port in service.get("ports", [])]
    assert {"127.0.0.1:8000:8000", "127.0.0.1:9090:9090", "127.0.0.1:9595:9595"} == set(ports)


def test_a_single_replica_is_called_directly():
    made = project(fleet__replicas=1, fleet__gpus=1)
    assert "router" not in made["services"]
    assert ["127.0.0.1:8000:8000"] == made["services"]["vllm-0"]["ports"]
    assert "haproxy.cfg" not in made["configs"]


def test_every_service_is_watched_and_confined():
    for name, service in project()["services"].items():
        assert {"test", "interval", "timeout", "retries", "start_period"} == service["healthcheck"].keys(), name
        assert (["ALL"], ["no-new-privileges:true"]) == (service["cap_drop"], service["security_opt"]), name
        # Compose cannot copy a config into a read-only root file system.
        assert service.get("read_only", False) is ("configs" not in service), name


def test_every_file_and_volume_that_a_service_takes_is_defined():
    made = project()
    taken = {entry["source"] for service in made["services"].values() for entry in service.get("configs", [])}
    assert taken == made["configs"].keys()
    mounted = {entry.partition(":")[0] for service in made["services"].values() for entry in service.get("volumes", [])}
    assert mounted == made["volumes"].keys()


def test_the_command_is_that_of_the_cluster_s_pods():
    words = container(objects("demo")["Deployment/fleet-replicas"])["args"]
    assert words == project()["services"]["vllm-0"]["command"]


def test_keys_are_taken_from_the_environment_and_written_nowhere():
    made = project()["services"]["vllm-0"]["environment"]
    assert (None, None) == (made["HF_TOKEN"], made["VLLM_API_KEY"])


def test_dollars_reach_the_containers():
    """Compose reads $ as its own; the plan that the exporter reads is the plan, whatever stands in it."""
    text = project(scenario__name="costs $5 ${HOME}")["configs"]["plan.json"]["content"]
    assert "$5" not in text.replace("$$", "")
    assert "costs $5 ${HOME}" == json.loads(text.replace("$$", "$"))["scenario"]["name"]


def test_the_exporter_s_file_is_the_whole_plan_without_its_timings():
    text = project()["configs"]["plan.json"]["content"]
    read = json.loads(text.replace("$$", "$"))
    assert read["scenario"].pop("monitor"), "and where this very box is read"
    assert read_facts(document("demo")).document == read


def test_prometheus_reads_every_replica_the_router_and_the_exporter():
    made = project()
    config = yaml.safe_load(made["configs"]["prometheus.yml"]["content"])
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert {
        "vllm": [f"vllm-{index}:8000" for index in range(5)],
        "router": ["router:8404"],
        "exporter": ["exporter:9595"],
    } == targets
    rules = yaml.safe_load(made["configs"]["rules.yml"]["content"].replace("$$", "$"))
    assert rules["groups"] == rule_groups(facts("demo"), BOX, {"model_name": "meta-llama/Llama-3.1-8B"}), "this fleet"


HEADERS = [
    ("127.0.0.1:9595", True, "the published port"),
    ("localhost:9595", True, "as everybody types it"),
    ("exporter:9595", True, "Prometheus, by the service's name"),
    ("evil.example:9595", False, "a name that a web page points at 127.0.0.1"),
    ("10.2.3.4:9595", False, "nobody has the container's own address"),
]


@pytest.mark.parametrize(("header", "answered", "because"), HEADERS)
def test_the_exporter_s_published_port_answers_to_its_names_alone(header, answered, because):
    """A container's port is bound to every address, and what reaches it through the box's loopback is a browser."""
    verb, *words = project()["services"]["exporter"]["command"]
    read = cli.commands[verb].make_context(verb, words).params
    assert answered is is_allowed(header, allowed_hosts(read["host"], read["host"], read["allowed"])), because


def test_without_monitoring_nothing_of_it_is_left():
    made = project(settings=Settings(name="fleet", without=frozenset({"monitoring"})))
    assert {"router", *(f"vllm-{index}" for index in range(5))} == made["services"].keys()
    assert {"haproxy.cfg"} == made["configs"].keys()
