"""vLLM's own Deployment: its command line is the plan's engine, its times and sizes follow from the plan's figures."""

from __future__ import annotations

import math
import shlex

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_plans import IMAGE, container, document, facts, notes, objects

from planner.errors import InputError, UnsupportedError
from planner.manifests.devices import device_of, image_of
from planner.manifests.plan_shape import EngineFacts
from planner.manifests.replicas import CACHE, CACHES, resources, startup_budget_s
from planner.manifests.serve_arguments import engine_arguments, serve_arguments
from planner.manifests.settings import Settings
from planner.readers.vllm_args import parse_serve_command

SIZES = st.integers(1, 10_000)
ENGINES = st.builds(
    EngineFacts,
    quantization=st.sampled_from(["bf16", "fp8", "mxfp4"]),
    kv_cache_dtype=st.sampled_from(["auto", "fp8"]),
    tensor_parallel_size=st.integers(1, 64),
    pipeline_parallel_size=st.integers(1, 64),
    data_parallel_size=st.integers(1, 64),
    enable_expert_parallel=st.booleans(),
    max_model_len=st.integers(2, 10_000),
    max_num_seqs=st.integers(1, 1000),
    max_num_batched_tokens=st.integers(10_000, 100_000),
    gpu_memory_utilization=st.integers(1, 100).map(lambda share: share / 100),
    block_size=st.integers(1, 1024),
    enable_prefix_caching=st.booleans(),
    enable_chunked_prefill=st.booleans(),
    async_scheduling=st.booleans(),
    enforce_eager=st.booleans(),
    vllm_version=st.just("0.32"),
    num_gpu_blocks_override=st.none() | SIZES,
)


@settings(max_examples=60, deadline=None)
@given(ENGINES)
def test_the_command_line_reads_back_as_the_engine_that_was_planned(engine):
    """`planner init --vllm-args` on what is rendered gives the plan's engine, key for key."""
    checkpoint = "bf16" if engine.quantization == "fp8" else engine.quantization
    words = ["vllm", "serve", "org/model", *engine_arguments(engine, checkpoint)]
    read = parse_serve_command(shlex.join(words))
    expected = {key: value for key, value in msgspec.to_builtins(engine).items() if value is not None}
    del expected["vllm_version"]  # the image says it
    if engine.quantization != "fp8":
        del expected["quantization"]  # the checkpoint says it
    assert expected == read.engine
    assert ((), (), ()) == (read.not_modelled, read.others, read.notes)


QUANTIZATIONS = [
    # the plan's format, the checkpoint's, --quantization, because
    ("bf16", "bf16", None, "the checkpoint as it is"),
    ("fp8", "bf16", "fp8", "vLLM quantises as it loads"),
    ("fp8", "fp8", None, "the checkpoint says so itself"),
    ("fp8_block", "fp8_block", None, "the same"),
    ("mxfp4", "mxfp4", None, "gpt-oss as published"),
]


@pytest.mark.parametrize(("planned", "checkpoint", "value", "because"), QUANTIZATIONS)
def test_quantization_is_given_only_where_the_checkpoint_has_another_format(planned, checkpoint, value, because):
    words = engine_arguments(msgspec.structs.replace(facts().engine, quantization=planned), checkpoint)
    given_value = words[words.index("--quantization") + 1] if "--quantization" in words else None
    assert value == given_value, because


@pytest.mark.parametrize(
    ("planned", "checkpoint"), [("awq", "bf16"), ("nvfp4", "bf16"), ("bf16", "fp8"), ("fp8", "mxfp4")]
)
def test_a_format_that_vllm_cannot_make_of_the_checkpoint_asks_for_another_one(planned, checkpoint):
    with pytest.raises(UnsupportedError, match="--checkpoint"):
        engine_arguments(msgspec.structs.replace(facts().engine, quantization=planned), checkpoint)


def test_another_checkpoint_is_served_under_the_model_s_own_name_in_its_own_format():
    made = objects(
        settings=Settings(name="fleet", planner_image=IMAGE, checkpoint="me/llama-awq"),
        fleet__engine=document()["fleet"]["engine"] | {"quantization": "awq"},
    )["Deployment/fleet-replicas"]
    words = container(made)["args"]
    assert ["me/llama-awq", "--served-model-name", "meta-llama/Llama-3.3-70B-Instruct"] == words[:3]
    assert "--quantization" not in words
    assert "must be llama-3.3-70b in awq, the format that was planned" == notes(made)["checkpoint"]


def test_a_model_without_a_repository_needs_a_checkpoint():
    with pytest.raises(InputError, match="no repository on the Hugging Face Hub"):
        serve_arguments(facts(model={"name": "own", "hf_repo": None}), None, (), "0.0.0.0")


REFUSED_FLAGS = [
    ("--tensor-parallel-size=4", "comes from the plan", "the plan says 2"),
    ("--tp=4", "comes from the plan", "its short name"),
    ("--tensor-parallel=4", "comes from the plan", "vLLM takes a flag's beginning for it"),
    ("--no-enable-prefix-caching", "comes from the plan", "the same switch, off"),
    ("--max_num_seqs=8", "comes from the plan", "vLLM takes both spellings"),
    ("--model=other/model", "comes from the plan", "another model"),
    ("--api-key=sk-1", "comes from a secret", "it would be readable"),
    ("dtype=auto", "must be one flag", "no flag"),
]


@pytest.mark.parametrize(("flag", "words", "because"), REFUSED_FLAGS)
def test_no_further_flag_may_contradict_the_plan_or_hold_a_key(flag, words, because):
    with pytest.raises(InputError, match=words) as caught:
        serve_arguments(facts(), None, (flag,), "0.0.0.0")
    assert "sk-1" not in str(caught.value), because


def test_a_further_flag_comes_last():
    assert ["--trust-remote-code"] == serve_arguments(facts(), None, ("--trust-remote-code",), "0.0.0.0")[-1:]


IMAGES = [
    ("h100-sxm-80gb", "0.32", "vllm/vllm-openai:v0.32.0", "a version without a patch is its first release"),
    ("h100-sxm-80gb", "0.11.2", "vllm/vllm-openai:v0.11.2", "a version with one is itself"),
    ("mi300x-192gb", "0.32", "vllm/vllm-openai-rocm:v0.32.0", "ROCm has a repository of its own"),
]


@pytest.mark.parametrize(("hardware", "version", "image", "because"), IMAGES)
def test_the_image_is_that_of_the_plan_s_own_version(hardware, version, image, because):
    engine = msgspec.structs.replace(facts().engine, vllm_version=version)
    assert image == image_of(device_of(hardware), engine), because


def test_rocm_before_its_images_were_published_asks_for_an_image():
    engine = msgspec.structs.replace(facts().engine, vllm_version="0.10")
    with pytest.raises(UnsupportedError, match="--image"):
        image_of(device_of("mi300x-192gb"), engine)


def test_gpus_are_limits_and_the_node_is_chosen_by_their_product():
    spec = objects()["Deployment/fleet-replicas"]["spec"]["template"]["spec"]
    assert {"nvidia.com/gpu": "2"} == spec["containers"][0]["resources"]["limits"]
    assert {"nvidia.com/gpu.product": "NVIDIA-H200"} == spec["nodeSelector"]
    assert "nvidia.com/gpu" == spec["tolerations"][0]["key"]


def test_without_a_well_known_label_the_object_says_to_add_one():
    made = objects(fleet__hardware="mi300x-192gb")["Deployment/fleet-replicas"]
    assert "nodeSelector" not in made["spec"]["template"]["spec"]
    assert "add the one of your nodes" in notes(made)["node-selector"]
    assert "2" == container(made)["resources"]["limits"]["amd.com/gpu"]
    assert "user 2000 must be able to open /dev/kfd" in notes(made)["device-files"]
    assert "device-files" not in notes(objects()["Deployment/fleet-replicas"])


STARTS = [
    (300.0, 900, "three times what the scenario says"),
    (0.0, 120, "never less than two minutes"),
    (33.4, 120, "the same"),
    (40.1, 121, "rounded up"),
]


@pytest.mark.parametrize(("startup_s", "budget_s", "because"), STARTS)
def test_the_startup_probe_waits_for_weights(startup_s, budget_s, because):
    changes = {"scenario__fleet__startup_s": startup_s}
    assert budget_s == startup_budget_s(facts(**changes)), because
    probe = container(objects(**changes)["Deployment/fleet-replicas"])["startupProbe"]
    assert budget_s <= probe["periodSeconds"] * probe["failureThreshold"] < budget_s + probe["periodSeconds"]
    assert "/health" == probe["httpGet"]["path"]


def test_a_pod_that_ends_first_finishes_what_it_has():
    """It leaves the Service, sleeps for one and a half times the p99 of E2E, and only then is vLLM told to end."""
    plan = facts()
    made = objects()["Deployment/fleet-replicas"]
    command = container(made)["lifecycle"]["preStop"]["exec"]["command"]
    assert ["sleep", str(15 + math.ceil(1.5 * plan.p99_e2e_s))] == command
    assert int(command[1]) + 15 == made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


SHARED = [(2, "4Gi", "two ranks, 2 GiB each"), (1, None, "one rank shares with nobody")]


@pytest.mark.parametrize(("ranks", "size", "because"), SHARED)
def test_ranks_share_memory(ranks, size, because):
    engine = document()["fleet"]["engine"] | {"tensor_parallel_size": ranks}
    made = objects(fleet__engine=engine, fleet__gpus_per_replica=ranks, fleet__gpus=21 * ranks)
    volumes = made["Deployment/fleet-replicas"]["spec"]["template"]["spec"]["volumes"]
    found = [volume["emptyDir"] for volume in volumes if volume["name"] == "shm"]
    assert ([{"medium": "Memory", "sizeLimit": size}] if size else []) == found, because


CPUS = [(1, 1, "6"), (2, 1, "8"), (8, 1, "20"), (8, 8, "36")]


@pytest.mark.parametrize(("ranks", "parallel", "cpus"), CPUS)
def test_cpus_by_vllm_s_rule(ranks, parallel, cpus):
    """Two units for each core: API server, engine cores, workers, and a coordinator with data parallelism."""
    sizes = {"tensor_parallel_size": ranks // parallel, "data_parallel_size": parallel}
    engine = document()["fleet"]["engine"] | sizes
    plan = facts(fleet__engine=engine, fleet__gpus_per_replica=ranks, fleet__gpus=21 * ranks)
    assert cpus == resources(plan, Settings(), quantised_on_load=False)["requests"]["cpu"]


def test_the_rule_for_cpus_stands_beside_the_request_and_another_number_may_be_asked_for():
    """One L4 machine has 4: a pod that asks for 6 would stay pending, and the object says why."""
    ruled = objects("demo")["Deployment/fleet-replicas"]
    assert "6" == container(ruled)["resources"]["requests"]["cpu"]
    assert "2 x 3 cores of vLLM's guide (API server 1, engine cores 1, GPU workers 1)" in notes(ruled)["cpu"]
    given = objects("demo", Settings(name="fleet", planner_image=IMAGE, cpu=3))["Deployment/fleet-replicas"]
    assert "3" == container(given)["resources"]["requests"]["cpu"]
    assert notes(given)["cpu"].startswith("--cpu 3; the rule is 2 x 3 cores")


FLEETS = [
    ("demo", "5 replicas of 1 GPU (l4-24gb) each, none of them spare"),
    ("ai-search", "21 replicas of 2 GPUs (h200-sxm-141gb) each, 1 of them spare"),
]


@pytest.mark.parametrize(("name", "said"), FLEETS)
def test_the_fleet_is_said_in_words(name, said):
    assert said == notes(objects(name)["Deployment/fleet-replicas"])["fleet"]


def test_disk_for_the_weights_is_asked_for_unless_they_are_on_a_claim():
    """What 2 GPUs hold in fp8 is twice that in the 16-bit checkpoint; a fifth more, and 10 GiB for caches."""
    requests = container(objects()["Deployment/fleet-replicas"])["resources"]["requests"]
    weights = facts().weights_gib
    assert f"{math.ceil(1.2 * 2 * weights * 2) + 10}Gi" == requests["ephemeral-storage"]
    claimed = objects(settings=Settings(name="fleet", planner_image=IMAGE, model_cache="weights"))
    made = claimed["Deployment/fleet-replicas"]
    assert "ephemeral-storage" not in container(made)["resources"]["requests"]
    volumes = {volume["name"]: volume for volume in made["spec"]["template"]["spec"]["volumes"]}
    assert "weights" == volumes["weights"]["persistentVolumeClaim"]["claimName"]


def test_every_cache_lies_on_a_volume_that_can_be_written():
    paths = {value for value in CACHES.values() if value.startswith("/")}
    assert all(path == CACHE or path.startswith(f"{CACHE}/") for path in paths)
    mounts = container(objects()["Deployment/fleet-replicas"])["volumeMounts"]
    assert {CACHE, f"{CACHE}/huggingface", "/tmp", "/dev/shm"} == {mount["mountPath"] for mount in mounts}


def test_keys_come_from_a_secret_that_may_be_missing():
    variables = {entry["name"]: entry for entry in container(objects()["Deployment/fleet-replicas"])["env"]}
    for variable, key in (("HF_TOKEN", "hf-token"), ("VLLM_API_KEY", "api-key")):
        source = {"name": "fleet-secrets", "key": key, "optional": True}
        assert {"name": variable, "valueFrom": {"secretKeyRef": source}} == variables[variable]


def test_the_plan_s_promises_stand_on_the_deployment():
    found = notes(objects()["Deployment/fleet-replicas"])
    assert "120" == found["peak-qps"]
    assert "p99_ttft_ms <= 1000, p99_tpot_ms <= 50" == found["slo"]
    assert found["confidence"].startswith("uncalibrated")
    assert "answers 30% of the queries" in found["response-cache"]
    assert f"{facts().usd_per_query:.6g}" == found["usd-per-query"]


def test_a_calibrated_plan_says_so_and_one_without_a_price_names_none():
    scenario = document()["scenario"] | {"calibration": "calibration.json"}
    scenario["query"] = {**scenario["query"], "response_cache": None}
    bare = Settings(name="fleet", planner_image=IMAGE, without=frozenset({"exporter"}))  # which would need the file
    found = notes(objects(settings=bare, scenario=scenario, cost=None)["Deployment/fleet-replicas"])
    assert found["confidence"].startswith("calibrated")
    assert not {"usd-per-query", "usd-per-hour", "response-cache"} & found.keys()
