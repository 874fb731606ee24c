"""`planner init`: what of a server or its command line becomes a scenario, and what is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from emulator_process import emulator, fast_scenario
from live_server import closed_port

from planner.cli.app import cli
from planner.deployment import only_candidate
from planner.errors import InputError, ScenarioError
from planner.live import ServerFacts
from planner.readers.vllm_args import parse_serve_command
from planner.scenario import Scenario
from planner.scenario.writing import Draft, Value, flow, scenario_text
from planner.studies.drafts import blank_draft, draft_from_arguments, draft_from_server, left_open


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def loaded(text: str, folder: Path) -> Scenario:
    path = folder / "scenario.yaml"
    path.write_text(text)
    return Scenario.load(path)


def from_command(command: str, folder: Path) -> Scenario:
    return loaded(scenario_text(draft_from_arguments(parse_serve_command(command))), folder)


# --- from nothing ---


def test_the_blank_scenario_runs_as_it_stands(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    answer = run("init", "--out", str(path))
    assert answer.exit_code == 0
    assert "to fill in: nothing" in answer.stderr
    candidate = only_candidate(Scenario.load(path), "simulate")
    assert (candidate.model.name, candidate.gpu.name) == ("llama-3.1-8b", "h100-sxm-80gb")


def test_a_file_is_overwritten_only_by_force(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    refused = run("init", "--out", str(path))
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert path.read_text() == "precious"
    assert run("init", "--out", str(path), "--force").exit_code == 0
    assert Scenario.load(path).demand == "open"


def test_two_sources_are_one_too_many():
    answer = run("init", "--from", "http://127.0.0.1:1", "--vllm-args", "vllm serve m")
    assert answer.exit_code == 2
    assert "give only one of --from and --vllm-args" in answer.stderr


# --- from a server ---


def test_a_running_server_becomes_a_scenario_that_lacks_only_its_hardware(tmp_path: Path):
    path = tmp_path / "found.yaml"
    with emulator(fast_scenario(tmp_path)) as server:
        answer = run("init", "--from", server.url, "--out", str(path))
    assert answer.exit_code == 0, answer.stderr
    scenario = Scenario.load(path)
    assert scenario.hardware is None
    assert "to fill in: hardware, " in answer.stderr
    filled = scenario.with_values({"hardware": "h100-sxm-80gb"})
    options = only_candidate(filled, "simulate").options
    # fast_scenario: 4096 tokens of context, 4096 blocks of 16 tokens
    assert (options.max_model_len, options.block_size, options.num_gpu_blocks_override) == (4096, 16, 4096)
    assert filled.model == ("qwen3-0.6b",)
    assert options.enable_prefix_caching


@pytest.mark.parametrize("wait", ["nan", "inf", "-1"])
def test_a_time_to_wait_that_is_none_is_refused(wait: str):
    answer = run("init", "--wait", wait)
    assert answer.exit_code == 2
    assert "--wait" in answer.stderr


def test_no_server_is_an_endpoint_that_failed():
    url = f"http://127.0.0.1:{closed_port()}"
    answer = run("init", "--from", url)
    assert answer.exit_code == 3
    assert "connection refused" in answer.stderr
    assert answer.stdout == ""


def test_an_address_with_a_password_is_refused_under_the_option_s_own_name():
    answer = run("init", "--from", "http://me:hunter2@127.0.0.1:8000")
    assert answer.exit_code == 2
    assert "--from" in answer.stderr
    assert "hunter2" not in answer.stderr


FACTS = [
    (ServerFacts(models=("meta-llama/Llama-3.1-8B-Instruct",)), ("llama-3.1-8b", "auto"), "the repository's name"),
    (ServerFacts(models=("chat",), model_root="Qwen/Qwen3-8B"), ("qwen3-8b", "auto"), "the root behind an alias"),
    (ServerFacts(models=("/models/Qwen3-8B/",)), ("qwen3-8b", "auto"), "the last part of a path"),
    (ServerFacts(models=("chat",), model_root="/models/Qwen3-8B-FP8"), ("qwen3-8b", "fp8"), "that of the root too"),
    (
        ServerFacts(models=("org/Meta-Llama-3.1-8B-Instruct-FP8",)),
        ("llama-3.1-8b", "fp8"),
        "a number format in the name",
    ),
]


@pytest.mark.parametrize(("facts", "expected", "because"), FACTS)
def test_the_model_is_found_by_any_of_its_names(
    facts: ServerFacts, expected: tuple[str, str], because: str, tmp_path: Path
):
    scenario = loaded(scenario_text(draft_from_server(facts, None, "http://h")), tmp_path)
    assert (scenario.model[0], scenario.engine.quantization[0]) == expected, because


def test_an_unknown_model_is_left_to_fill_in_with_the_nearest_names(tmp_path: Path):
    text = scenario_text(draft_from_server(ServerFacts(models=("org/qwen3-9b",)), None, "http://h"))
    assert re.search(r"^model: +# fill in: served as org/qwen3-9b.*nearest: qwen3-8b", text, re.MULTILINE)
    with pytest.raises(ScenarioError, match="model"):
        loaded(text, tmp_path)


def test_a_config_beside_the_weights_is_used_where_the_command_line_names_it(tmp_path: Path):
    folder = weights(tmp_path)
    assert from_command(f"vllm serve {folder} -tp 2", tmp_path).model == (str(folder / "config.json"),)


def test_a_path_of_the_servers_machine_is_not_looked_for_on_this_one(tmp_path: Path):
    folder = str(weights(tmp_path))
    for facts in (ServerFacts(models=(folder,)), ServerFacts(models=("chat",), model_root=folder)):
        text = scenario_text(draft_from_server(facts, None, "http://h"))
        assert f"{folder}/config.json" not in text
        assert re.search(r"^model: +# fill in", text, re.MULTILINE)
    assert folder not in text  # the root behind an alias is nobody's business


def weights(folder: Path) -> Path:
    """A folder as weights are kept in: with their configuration."""
    source = Path(__file__).parents[1] / "examples" / "cpu-tiny" / "config.json"
    made = folder / "weights"
    made.mkdir()
    (made / "config.json").write_text(source.read_text())
    return made


def test_what_the_server_reports_of_its_cache_is_taken(tmp_path: Path):
    facts = ServerFacts(
        models=("Qwen/Qwen3-8B",),
        version="0.32.0+cpu",
        engines=2,
        kv_cache_tokens=131072,
        block_size=128,
        kv_cache_dtype="fp8_e4m3",
    )
    scenario = loaded(scenario_text(draft_from_server(facts, None, "http://h")), tmp_path)
    engine = scenario.engine
    assert engine.num_gpu_blocks_override == (1024,)  # 131072 ÷ 128
    assert (engine.kv_cache_dtype, engine.data_parallel_size) == (("fp8",), (2,))
    assert engine.vllm_version == ("0.32.0",)
    assert scenario.hardware == ("cpu",)  # the version says so


# --- from a command line ---


def test_a_command_line_becomes_the_engine(tmp_path: Path):
    scenario = from_command(
        "CUDA_VISIBLE_DEVICES=0,1 vllm serve meta-llama/Llama-3.1-8B-Instruct --max_model_len 8K -tp 2"
        " --pipeline-parallel-size=2 --quantization fp8 --max-num-seqs 64 --no-enable-prefix-caching"
        " --gpu_memory_utilization=0.85 -ep",
        tmp_path,
    )
    assert scenario.model == ("llama-3.1-8b",)
    engine = scenario.engine
    assert (engine.max_model_len, engine.max_num_seqs) == ((8192,), (64,))
    assert (engine.tensor_parallel_size, engine.pipeline_parallel_size) == ((2,), (2,))
    assert (engine.quantization, engine.enable_prefix_caching) == (("fp8",), (False,))
    assert (engine.gpu_memory_utilization, engine.enable_expert_parallel) == ((0.85,), (True,))


@pytest.mark.parametrize(
    ("command", "key", "expected", "because"),
    [
        ("vllm serve m --max-model-len 8k", "max_model_len", 8000, "vLLM reads k as a thousand"),
        ("vllm serve m --max-model-len=2.5K", "max_model_len", 2560, "and K as 1024"),
        ("vllm serve m --max-model-len auto", "max_model_len", None, "vLLM's own choice is no number"),
        ("vllm serve m --max-model-len -1", "max_model_len", None, "nor is this"),
        ("vllm serve m --kv-cache-dtype fp8_e5m2", "kv_cache_dtype", "fp8", "both forms take a byte"),
        ("vllm serve m --quantization awq_marlin", "quantization", "awq", "the kernel is vLLM's business"),
        ("vllm serve m --quantization compressed-tensors", "quantization", "auto", "the checkpoint says which"),
        ("vllm serve m -tp=4", "tensor_parallel_size", 4, "a short form with an equals sign"),
        ("vllm serve m --enforce-eager --seed 3", "enforce_eager", True, "a switch takes no value"),
        ("vllm serve m --enable-prefix-caching=false", "enable_prefix_caching", False, "or is given one"),
    ],
)
def test_values_are_read_as_vllm_reads_them(command: str, key: str, expected: object, because: str):
    assert parse_serve_command(command).engine.get(key) == expected, because


@pytest.mark.parametrize(
    ("command", "model", "because"),
    [
        ("vllm serve Qwen/Qwen3-8B --port 1", "Qwen/Qwen3-8B", "the first word after serve"),
        ("vllm serve --trust-remote-code Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "a switch takes no value"),
        ("vllm serve --port 8000 Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "8000 is the port's"),
        ("python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "the older form"),
        ("--model=Qwen/Qwen3-8B -tp 2", "Qwen/Qwen3-8B", "arguments alone"),
        ("docker run --gpus all vllm/vllm-openai vllm serve Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "after the command"),
        ("vllm serve -tp 2", None, "none is given"),
    ],
)
def test_the_model_of_a_command_line(command: str, model: str | None, because: str):
    assert parse_serve_command(command).model == model, because


def test_an_unknown_model_is_in_the_list_to_fill_in():
    answer = run("init", "--vllm-args", "vllm serve org/nobody-9b")
    assert answer.exit_code == 0
    (said,) = [line for line in answer.stderr.splitlines() if "to fill in" in line]
    keys = said.removeprefix("scenario written; to fill in: ").split(", ")
    assert keys[:3] == ["model", "hardware", "traffic.peak_qps"]
    assert len(keys) == sum("# fill in" in line for line in answer.stdout.splitlines())


def test_every_key_to_fill_in_can_be_given_by_set(tmp_path: Path):
    """The list is not only for the eye: each of its names is a key of the scenario."""
    draft = draft_from_arguments(parse_serve_command("vllm serve org/nobody-9b"))
    whole = blank_draft()
    scenario = loaded(scenario_text(whole), tmp_path)
    for key in left_open(draft):
        value = scenario.as_dict()
        for step in re.findall(r"[^.\[\]]+", key):
            value = value[int(step) if step.isdecimal() else step]
        assert scenario.with_values({key: value}).as_dict() == scenario.as_dict(), key
    assert left_open(whole) == []


def test_what_is_not_carried_over_is_said_on_standard_error():
    command = "vllm serve qwen3-8b --enable-lora --port 80 --new-flag sk-1234 --quantization odd"
    answer = run("init", "--vllm-args", command)
    assert "warning: not carried over, though they change speed or memory: --enable-lora\n" in answer.stderr
    assert "not carried over (without effect on a plan, or not known here): --port --new-flag\n" in answer.stderr
    assert "warning: --quantization odd has no counterpart here" in answer.stderr
    assert "1234" not in answer.output
    assert "carried over" not in run("init", "--vllm-args", "vllm serve qwen3-8b -tp 2").stderr


def test_no_flag_is_lost_and_no_secret_is_kept():
    command = (
        "vllm serve m --api-key sk-1234 --hf-token hf_5678 --speculative-config '{\"a\": 1}' --new-flag x --enable-lora"
    )
    text = scenario_text(draft_from_arguments(parse_serve_command(command)))
    assert "NOT modelled: --speculative-config --enable-lora" in text
    assert "not known here: --api-key --hf-token --new-flag" in text
    assert "1234" not in text
    assert "5678" not in text


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("vllm serve 'm", "is no command line"),
        ("vllm serve m -tp two", "--tensor-parallel-size"),
        ("vllm serve m --gpu-memory-utilization 9", "--gpu-memory-utilization"),
        ("vllm serve m --max-num-seqs", "--max-num-seqs"),
        ("vllm serve --model", "has no value"),
        ("vllm serve m --max-num-seqs 0", "--vllm-args --max-num-seqs (=0): must be >= 1"),
        ("vllm serve m --max-num-seqs 70000", "--max-num-seqs (=70000): must be <= 65536"),
        ("vllm serve m -tp 0", "--vllm-args --tensor-parallel-size (=0): must be >= 1"),
        ("vllm serve m --max-model-len 1", "--max-model-len (=1): must be >= 2"),
        ("vllm serve m --gpu-memory-utilization nan", "--gpu-memory-utilization (=nan): is no value for it"),
        (
            "vllm serve m --max-num-seqs 512 --max-num-batched-tokens 256",
            "--max-num-batched-tokens (=256): must be at least --max-num-seqs (=512); nearest: 512",
        ),
        (
            "vllm serve m --max-num-batched-tokens 2k --max-model-len 8192 --no-enable-chunked-prefill",
            "(=2000): must be at least --max-model-len (=8192) with --no-enable-chunked-prefill",
        ),
    ],
)
def test_a_command_line_that_vllm_would_refuse_is_bad_input(command: str, rule: str):
    with pytest.raises(InputError, match=r"^--vllm-args") as caught:
        parse_serve_command(command)
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        "--max-num-seqs 256 --max-num-batched-tokens 256",
        "--max-num-seqs 512",
        "--max-num-batched-tokens 256 --max-model-len 8192",
        "--max-num-batched-tokens 256 --max-model-len 8192 --enable-chunked-prefill",
    ],
)
def test_limits_of_a_step_that_go_together_are_taken(flags: str):
    assert parse_serve_command(f"vllm serve m {flags}").engine


# --- the text ---


@pytest.mark.parametrize(
    "value",
    [
        *(True, 3, 0.25, 1e-7, 1e20, "0.32", "on", "null", "a: b", "x # y", "C:\\models", "ä", "- a", "{a}", "", "1e3"),
        *([1, "two"], {"lognormal": {"mean": 10, "cv": 0.5}}, {"file": "a b.csv"}, "<=500"),
    ],
)
def test_every_value_is_read_back_as_it_was_written(value: object):
    from planner.scenario.yaml_text import parse

    assert parse(f"key: {flow(value)} # note", "key") == {"key": value}


def test_a_flag_cannot_write_lines_of_its_own(tmp_path: Path):
    text = scenario_text(draft_from_arguments(parse_serve_command('vllm serve llama-3.1-8b "--x\nmodel: evil"')))
    assert loaded(text, tmp_path).model == ("llama-3.1-8b",)


def test_comments_hold_no_line_break(tmp_path: Path):
    draft = blank_draft()
    told = Draft(**{**vars(draft), "model": Value("llama-3.1-8b", "served as\nmodel: evil")})
    assert loaded(scenario_text(told), tmp_path).model == ("llama-3.1-8b",)
