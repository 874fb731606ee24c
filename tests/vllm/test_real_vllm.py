"""What real vLLM does that this project relies on, asked of a real server with the planner's own names and clients."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from planner import vllm_metrics
from planner.catalogue.hf_config import read_config
from planner.deployment import deploy, only_candidate
from planner.live.endpoint import connect
from planner.live.server import server_facts
from planner.scenario import Scenario
from tools.vllm_cpu import cores
from tools.vllm_cpu.server import ENVIRONMENT, MOE, VllmServer, serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpu-tiny.yaml"
PROMPT = [token % 8000 + 10 for token in range(300)]


def ask(server: VllmServer, path: str = "/v1/completions", **body: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        body = {"model": server.model, "ignore_eos": True, **body}
        return session.post(server.url + path, json=body, stream=True, timeout=60)


def events(response: requests.Response) -> list[str]:
    """The data of each server-sent event."""
    assert 200 == response.status_code, response.text
    lines = [line.decode() for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines), lines
    return [line.removeprefix("data: ") for line in lines]


def metrics(server: VllmServer) -> str:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{server.url}/metrics", timeout=60).text


def total(text: str, name: str) -> float:
    """A metric's value, summed over its labels."""
    samples = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    assert samples, f"{name} is not in /metrics"
    return sum(float(sample) for sample in samples)


def test_a_stream_has_one_event_for_each_token_then_the_usage_and_the_end(dense):
    usage = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last, done = events(ask(dense, prompt=PROMPT, max_tokens=48, stream=True, stream_options=usage))
    tokens = [json.loads(chunk) for chunk in chunks]
    assert list(range(1, 49)) == [token["usage"]["completion_tokens"] for token in tokens]
    assert {1} == {len(token["choices"]) for token in tokens}
    assert ["length"] == [choice["finish_reason"] for choice in tokens[-1]["choices"]]
    assert [] == json.loads(last)["choices"]
    assert {"prompt_tokens": 300, "total_tokens": 348, "completion_tokens": 48}.items() <= json.loads(last)[
        "usage"
    ].items()
    assert "[DONE]" == done


def test_a_chat_of_n_words_is_a_prompt_of_n_tokens_because_the_template_adds_none(dense):
    messages = [{"role": "system", "content": "w20 w21 w22"}, {"role": "user", "content": "w23 w24"}]
    answer = ask(dense, "/v1/chat/completions", messages=messages, max_tokens=7).json()
    assert (5, 7) == (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])


def test_a_chats_first_event_names_the_role_and_is_no_token(dense):
    usage = {"include_usage": True, "continuous_usage_stats": True}
    messages = [{"role": "user", "content": "w30 w31"}]
    stream = events(
        ask(dense, "/v1/chat/completions", messages=messages, max_tokens=3, stream=True, stream_options=usage)
    )
    role, *tokens = [json.loads(event) for event in stream[:-2]]
    assert ("assistant", 0) == (role["choices"][0]["delta"]["role"], role["usage"]["completion_tokens"])
    assert [1, 2, 3] == [token["usage"]["completion_tokens"] for token in tokens]


def test_an_answer_is_cut_at_the_longest_sequence_without_an_error_so_counts_must_be_checked(dense):
    answer = ask(dense, prompt=(PROMPT * 14)[:4090], max_tokens=20).json()
    assert 6 == answer["usage"]["completion_tokens"], "4,090 and 6 make the 4,096 of max_model_len"


ERRORS = [
    # body, status, in the message, because
    ({"model": "nope", "prompt": [5]}, 404, "`nope` does not exist", "another model is served"),
    ({"prompt": PROMPT * 14}, 400, "maximum context length is 4096", "the prompt alone is longer than that"),
    ({"prompt": [5, 9000]}, 400, "out of vocabulary", "the model has 8,192 tokens"),
]


@pytest.mark.parametrize(("body", "status", "said", "because"), ERRORS, ids=[row[3] for row in ERRORS])
def test_a_request_that_cannot_be_served_is_refused_in_openais_shape(dense, body, status, said, because):
    response = ask(dense, max_tokens=2, **body)
    error = response.json()["error"]
    assert (status, status) == (response.status_code, error["code"]), because
    assert said in error["message"]


def test_every_metric_that_the_planner_names_is_vllms_with_its_buckets(dense):
    ask(dense, prompt=PROMPT, max_tokens=4).raise_for_status()
    text = metrics(dense)
    for gauge in (*vllm_metrics.GAUGES, vllm_metrics.CACHE_CONFIG):
        total(text, gauge)
    for counter in (*vllm_metrics.COUNTERS, vllm_metrics.SUCCESS):
        total(text, f"{counter}_total")
    for histogram, (_, buckets) in vllm_metrics.HISTOGRAMS.items():
        bounds = re.findall(rf'^{re.escape(histogram)}_bucket\{{.*le="([^"]+)"', text, re.MULTILINE)
        ours = vllm_metrics.token_buckets(4096) if buckets is None else buckets
        assert [*ours, float("inf")] == [float(bound) for bound in bounds], histogram
        total(text, f"{histogram}_sum")
    reasons = set(re.findall(rf'^{vllm_metrics.SUCCESS}_total\{{.*finished_reason="(\w+)"', text, re.MULTILINE))
    assert set(vllm_metrics.REASONS) == reasons
    labels = set(re.findall(r"(\w+)=", re.findall(rf"^{vllm_metrics.RUNNING}\{{(.*)\}}", text, re.MULTILINE)[0]))
    assert set(vllm_metrics.LABELS) == labels


def test_the_counters_count_this_projects_tokens(dense):
    before = metrics(dense)
    events(ask(dense, prompt=[7, *PROMPT], max_tokens=9, stream=True))
    after = metrics(dense)
    names = [f"{name}_total" for name in (vllm_metrics.PROMPT_TOKENS, vllm_metrics.GENERATION_TOKENS)]
    assert [301, 9] == [total(after, name) - total(before, name) for name in names]
    # The first step gives the first token, each of eight more gives one.
    assert 9 == total(after, f"{vllm_metrics.ITERATION}_count") - total(before, f"{vllm_metrics.ITERATION}_count")


def test_a_prompt_sent_twice_is_found_in_whole_blocks_of_128(dense):
    prompt = [11, 13, *PROMPT]
    ask(dense, prompt=prompt, max_tokens=2).raise_for_status()
    before = metrics(dense)
    ask(dense, prompt=prompt, max_tokens=2).raise_for_status()
    after = metrics(dense)
    hits = vllm_metrics.PREFIX_HITS_TOTAL
    assert 256 == total(after, hits) - total(before, hits), "302 tokens fill two blocks of 128"


def test_the_example_speaks_of_the_server_as_it_is(dense):
    scenario = Scenario.load(EXAMPLE)
    deployment = deploy(only_candidate(scenario, "simulate"))
    config = deployment.config
    facts, _ = server_facts(connect(dense.url))
    assert dense.kv_tokens == facts.kv_cache_tokens == deployment.kv.tokens
    assert (facts.max_model_len, facts.block_size) == (config.max_model_len, config.block_size)
    assert facts.enable_prefix_caching is config.enable_prefix_caching
    assert "0.32" == ".".join(str(facts.version).split(".")[:2])
    assert "0.32" in str(scenario.engine.vllm_version)
    assert (dense.model,) == facts.models


def test_the_moe_server_starts_with_given_flags_answers_and_leaves_no_process(tmp_path):
    flags = ["--max-num-seqs", "4", "--no-enable-prefix-caching"]
    with serve(MOE, flags, log=tmp_path / "moe.log") as server:
        answer = ask(server, prompt=PROMPT, max_tokens=5).json()
        facts, _ = server_facts(connect(server.url))
        session = server.process.pid
        assert 3 <= len(cores.session_processes(session)), "API server, engine and worker"
    assert (300, 5) == (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
    assert facts.enable_prefix_caching is False
    assert "'max_num_seqs': 4" in server.log.read_text(), "the later flag wins"
    assert [] == cores.session_processes(session)


def test_the_served_models_are_those_that_the_planner_reads():
    dense_model, moe = (read_config(ENVIRONMENT / "models" / name / "config.json") for name in ("cpu-tiny", MOE))
    assert (8, 512, 4, None) == (dense_model.layers, dense_model.hidden, dense_model.kv_heads, dense_model.experts)
    assert moe.experts is not None
    assert (16, 2) == (moe.experts.count, moe.experts.per_token)
