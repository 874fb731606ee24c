"""What a server says of itself, and what it does not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulator_process import emulator, fast_scenario
from live_server import Fake

from planner.errors import EndpointError
from planner.live import ServerFacts, check_model, connect, release, scrape, server_facts, wait_ready
from planner.live.idle import wait_idle


def test_the_facts_of_an_emulated_server(tmp_path: Path):
    with emulator(fast_scenario(tmp_path)) as server:
        endpoint = connect(server.url)
        wait_ready(endpoint, 10.0)
        facts, read = server_facts(endpoint)
        assert wait_idle(endpoint, 10.0)
    # what the scenario of `fast_scenario` says, 4096 blocks of 16 tokens
    assert facts.models == ("Qwen/Qwen3-0.6B",)
    assert (facts.max_model_len, facts.kv_cache_tokens, facts.block_size) == (4096, 65536, 16)
    assert (facts.enable_prefix_caching, facts.engines, facts.has_metrics) == (True, 1, True)
    assert read is not None
    assert read.totals["vllm:num_requests_running"] == 0.0
    assert facts.as_dict()["models"] == ["Qwen/Qwen3-0.6B"]


def test_a_server_without_metrics_or_version_leaves_what_it_does_not_say_unknown(fake: Fake):
    facts, read = server_facts(connect(fake.url))
    assert read is None
    assert (facts.models, facts.model_root, facts.max_model_len) == (("m", "lora"), "org/m", 4096)
    assert facts.as_dict() == {
        "models": ["m", "lora"],
        "model_root": "org/m",
        "max_model_len": 4096,
        "has_metrics": False,
    }


@pytest.mark.parametrize(
    ("root", "told", "because"),
    [
        ("org/m", "org/m", "a repository is public"),
        ("gpt2", "gpt2", "one without an organisation too"),
        ("/home/somebody/models/m", None, "a path says how another machine is laid out"),
        ("~/models/m", None, "so does one from somebody's home"),
        ("./m", None, "or from a working folder"),
        ("models/of/m", None, "a repository has two parts at most"),
        ("C:\\models\\m", None, "whatever the system"),
        ("s3://bucket/m", None, "a store's address is no repository"),
        (None, None, "nothing was said"),
    ],
)
def test_a_path_of_the_servers_machine_goes_into_no_record(root: str | None, told: str | None, because: str):
    assert ServerFacts(models=("m",), model_root=root).as_dict().get("model_root") == told, because


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"data": []}', '{"data": [{"name": "m"}]}', '{"data": {}}'])
def test_what_lists_no_models_is_no_such_server(fake: Fake, body: str):
    fake.say("/v1/models", 200, body)
    with pytest.raises(EndpointError, match="no list of models; is it an OpenAI-compatible server"):
        server_facts(connect(fake.url))


def test_a_model_that_is_not_served_is_named_with_the_nearest(fake: Fake):
    facts, _ = server_facts(connect(fake.url))
    check_model(facts, "lora", fake.url)
    with pytest.raises(EndpointError, match="no model laro; it serves: lora"):
        check_model(facts, "laro", fake.url)


def test_metrics_that_are_none_are_said(fake: Fake):
    fake.say("/metrics", 200, "vllm:num_requests_running{engine=0} many\n")
    with pytest.raises(EndpointError, match="no Prometheus text"):
        scrape(connect(fake.url))
    fake.say("/metrics", 404)
    with pytest.raises(EndpointError, match="HTTP 404"):
        scrape(connect(fake.url))


@pytest.mark.parametrize(
    ("said", "release_of_it"),
    [("0.32.0", "0.32.0"), ("0.32.0+cpu", "0.32.0"), ("v0.9.1.dev3", "0.9.1"), ("dev", None), (None, None)],
)
def test_the_release_that_a_scenario_can_name(said: str | None, release_of_it: str | None):
    assert release(said) == release_of_it
