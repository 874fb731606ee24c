"""What clients see of `planner emulate`, over sockets: vLLM's shapes, errors, metrics; batching and prefix cache."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from emulator_process import Emulator, emulator, fast_scenario
from prometheus_client.parser import text_string_to_metric_families

from planner import vllm_metrics as names

MODEL = "Qwen/Qwen3-0.6B"
WAIT_S = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emulator")


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Emulator]:
    with emulator(fast_scenario(folder), "--record", str(folder / "truth.jsonl")) as running:
        yield running


@pytest.fixture
def fresh(tmp_path) -> Iterator[Emulator]:
    """A server of the test's own: counters at 0, an empty cache."""
    with emulator(fast_scenario(tmp_path)) as running:
        yield running


def post(server: Emulator, body: dict[str, Any], path: str = "/v1/completions", **more: Any) -> requests.Response:
    return requests.post(server.url + path, json=body, timeout=WAIT_S, **more)


def events(response: requests.Response) -> list[Any]:
    """The data of each event; the last must be [DONE]."""
    assert (200, "text/event-stream; charset=utf-8") == (response.status_code, response.headers["content-type"])
    assert response.text.endswith("\n\n")
    data = [block.removeprefix("data: ") for block in response.text.removesuffix("\n\n").split("\n\n")]
    assert "[DONE]" == data.pop()
    return [json.loads(text) for text in data]


def samples(server: Emulator) -> dict[tuple[str, str], float]:
    """(name, engine) → value, summed over other labels."""
    text = requests.get(server.url + "/metrics", timeout=WAIT_S).text
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, sample.labels["engine"]
            found[key] = found.get(key, 0.0) + sample.value
    return found


# --- streams ---


def test_a_stream_of_completions_has_one_event_a_token_then_usage_then_done(server):
    body = {"model": MODEL, "prompt": [5, 6, 7], "max_tokens": 3, "stream": True}
    chunks = events(post(server, body | {"stream_options": {"include_usage": True}}))
    assert 4 == len(chunks)
    assert 1 == len({(chunk["id"], chunk["created"]) for chunk in chunks})
    assert chunks[0]["id"].startswith("cmpl-")
    text = chunks[0]["choices"][0].pop("text")
    assert text.startswith(" ")
    choice = {"index": 0, "logprobs": None, "finish_reason": None, "stop_reason": None}
    assert [choice | {"prompt_token_ids": None, "token_ids": None}] == chunks[0]["choices"]
    assert {"id", "object", "created", "model", "choices"} == set(chunks[0])
    assert ("text_completion", MODEL) == (chunks[0]["object"], chunks[0]["model"])
    assert [None, None, "length"] == [chunk["choices"][0]["finish_reason"] for chunk in chunks[:3]]
    assert ([], {"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}) == (
        chunks[3]["choices"],
        chunks[3]["usage"],
    )


def test_a_chat_opens_with_its_role_and_goes_on_with_content(server):
    body = {"messages": [{"role": "user", "content": "Good morning, planner"}], "max_completion_tokens": 2}
    chunks = events(post(server, body | {"stream": True}, "/v1/chat/completions"))
    assert chunks[0]["id"].startswith("chatcmpl-")
    assert {"chat.completion.chunk"} == {chunk["object"] for chunk in chunks}
    assert {"role": "assistant", "content": ""} == chunks[0]["choices"][0]["delta"]
    assert [{"content"}, {"content"}] == [set(chunk["choices"][0]["delta"]) for chunk in chunks[1:]]
    assert [None, None, "length"] == [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert not any("usage" in chunk for chunk in chunks)  # it was not asked for


def test_continuous_usage_counts_up_with_the_tokens(server):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "one two three", "max_tokens": 3, "stream": True, "stream_options": options}
    assert [1, 2, 3, 3] == [chunk["usage"]["completion_tokens"] for chunk in events(post(server, body))]


def test_token_ids_come_on_demand_and_are_those_of_the_text(server):
    body = {"prompt": [8, 9], "max_tokens": 3, "return_token_ids": True}
    chunks = events(post(server, body | {"stream": True}))
    assert [[8, 9], None, None] == [chunk["choices"][0]["prompt_token_ids"] for chunk in chunks]
    ids = [token for chunk in chunks for token in chunk["choices"][0]["token_ids"]]
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert ids == post(server, {"prompt": text}, "/tokenize").json()["tokens"]
    assert ids == post(server, body).json()["choices"][0]["token_ids"]


def test_n_samples_of_two_prompts_are_four_sequences_in_vllms_order(server):
    body = {"prompt": [[1, 2, 3], [4, 5]], "n": 2, "max_tokens": 4}
    whole = post(server, body).json()
    assert [0, 1, 2, 3] == [choice["index"] for choice in whole["choices"]]
    assert 4 == len({choice["text"] for choice in whole["choices"]})  # samples differ, prompts differ
    usage = {"prompt_tokens": 5, "total_tokens": 21, "completion_tokens": 16, "prompt_tokens_details": None}
    assert usage == whole["usage"]
    texts = ["", "", "", ""]
    for chunk in events(post(server, body | {"stream": True})):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_a_whole_chat_answer_holds_a_message(server):
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_tokens": 3}
    answer = post(server, body, "/v1/chat/completions").json()
    (choice,) = answer["choices"]
    assert ("chat.completion", "assistant", "length") == (
        answer["object"],
        choice["message"]["role"],
        choice["finish_reason"],
    )
    assert 3 == len(choice["message"]["content"].split())
    assert 8 == answer["usage"]["prompt_tokens"]  # one token, four around it, three that open the answer


def test_fields_that_nobody_knows_are_tolerated_as_vllm_does(server):
    body = {"prompt": "x", "max_tokens": 1, "ignore_eos": True, "top_k": 5, "surprise": {"a": [1]}}
    assert 200 == post(server, body).status_code


def test_without_max_tokens_a_completion_has_16(server):
    assert 16 == post(server, {"prompt": "x"}).json()["usage"]["completion_tokens"]


def test_one_connection_serves_many_streams_one_after_the_other(server):
    with requests.Session() as session:
        for _ in range(3):
            body = {"prompt": [1], "max_tokens": 2, "stream": True}
            assert 2 == len(events(session.post(server.url + "/v1/completions", json=body, timeout=WAIT_S)))


# --- errors ---

REFUSED = [
    ({"prompt": "x", "model": "gpt-x"}, 404, "NotFoundError", "model", "not served here"),
    ({"prompt": [1] * 4096}, 400, "BadRequestError", "input_tokens", "no room for a token in a context of 4096"),
    ({"prompt": [1] * 4097, "max_tokens": 1}, 400, "BadRequestError", "input_tokens", "the prompt alone is too long"),
    ({"prompt": [151936]}, 400, "BadRequestError", "prompt", "the vocabulary ends at 151935"),
    ({"prompt": [1, -1]}, 400, "BadRequestError", "prompt", "a negative id"),
    ({"prompt": [1, "x"]}, 400, "BadRequestError", "prompt", "neither ids nor texts"),
    ({"prompt": [[1], []]}, 400, "BadRequestError", "prompt", "one of the prompts is empty"),
    ({"prompt": ""}, 400, "BadRequestError", "prompt", "empty"),
    ({}, 400, "BadRequestError", "prompt", "missing"),
    ({"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens", "no token to give"),
    ({"prompt": "x", "max_tokens": "no"}, 400, "BadRequestError", "max_tokens", "not a number"),
    ({"prompt": "x", "n": 0}, 400, "BadRequestError", "n", "no answer to give"),
    ({"prompt": "x", "n": 10**9}, 400, "BadRequestError", "n", "more than any machine holds"),
    ({"prompt": "x", "min_tokens": 17}, 400, "BadRequestError", "min_tokens", "above the 16 of max_tokens"),
    ({"prompt": "x", "temperature": -1}, 400, "BadRequestError", "temperature", "negative"),
    ({"prompt": "x", "stream_options": {}}, 400, "BadRequestError", "stream_options", "without a stream"),
    ({"prompt": "x", "logprobs": 1}, 400, "BadRequestError", "logprobs", "a made-up answer has none"),
    ({"prompt": "x", "planner_fault": "429;later=1"}, 400, "BadRequestError", "fault", "no such parameter"),
]


@pytest.mark.parametrize(("body", "status", "kind", "param", "because"), REFUSED, ids=[row[-1] for row in REFUSED])
def test_a_bad_request_is_answered_in_vllms_error_shape(server, body, status, kind, param, because):
    response = post(server, body)
    error = response.json()["error"]
    assert (status, kind, param, status) == (response.status_code, error["type"], error["param"], error["code"]), (
        because
    )
    assert {"message", "type", "param", "code"} == set(error)


@pytest.mark.parametrize("raw", [b"{", b"", b"\xff\xfe", b'"text"', b"[" * 100_000, b'{"prompt": NaN}'])
def test_what_is_no_json_object_is_a_400_and_no_traceback(server, raw):
    headers = {"content-type": "application/json"}
    response = requests.post(server.url + "/v1/completions", data=raw, headers=headers, timeout=WAIT_S)
    assert (400, "BadRequestError") == (response.status_code, response.json()["error"]["type"])


def test_a_chat_without_messages_is_refused(server):
    assert 400 == post(server, {"messages": []}, "/v1/chat/completions").status_code


def test_an_unknown_path_and_a_wrong_method_are_told_as_vllms_web_framework_tells_them(server):
    for response, status, detail in (
        (requests.get(server.url + "/v1/nothing", timeout=WAIT_S), 404, "Not Found"),
        (requests.get(server.url + "/v1/completions", timeout=WAIT_S), 405, "Method Not Allowed"),
    ):
        assert (status, {"detail": detail}) == (response.status_code, response.json())


@pytest.mark.parametrize(("asked", "given"), [(95, 95), (96, 96), (97, 96), (5000, 96)])
def test_an_answer_is_cut_to_what_the_context_leaves(server, asked, given):
    # vLLM 0.32: a prompt of 4090 in a context of 4096 with 20 asked for has status 200 and 6 tokens
    body = {"prompt": [1] * 4000, "max_tokens": asked}
    whole = post(server, body)
    assert (200, given, "length") == (
        whole.status_code,
        whole.json()["usage"]["completion_tokens"],
        whole.json()["choices"][0]["finish_reason"],
    )
    chunks = events(post(server, body | {"stream": True}))
    assert given == len(chunks)
    assert "length" == chunks[-1]["choices"][0]["finish_reason"]


def test_a_chat_is_cut_to_the_context_too(server):
    words = " ".join(["word"] * 4000)  # and seven tokens of its form
    body = {"messages": [{"role": "user", "content": words}], "max_completion_tokens": 4096}
    assert 4096 == post(server, body, "/v1/chat/completions").json()["usage"]["total_tokens"]


# --- what the server says of itself ---


def test_the_models_page_names_the_model_its_context_and_that_this_is_an_emulator(server):
    (card,) = requests.get(server.url + "/v1/models", timeout=WAIT_S).json()["data"]
    assert (MODEL, "model", 4096, "planner emulate") == (
        card["id"],
        card["object"],
        card["max_model_len"],
        card["owned_by"],
    )


def test_it_answers_to_the_catalogues_name_and_still_calls_itself_by_its_own(server):
    assert MODEL == post(server, {"prompt": "x", "model": "qwen3-0.6b", "max_tokens": 1}).json()["model"]


def test_health_and_version(server):
    health = requests.get(server.url + "/health", timeout=WAIT_S)
    assert (200, b"") == (health.status_code, health.content)
    assert "0.32.0" == requests.get(server.url + "/version", timeout=WAIT_S).json()["version"]


def test_tokenize_counts_words_and_signs(server):
    answer = post(server, {"prompt": "Hello, world: 2 tokens?"}, "/tokenize").json()
    assert (7, 7, 4096) == (answer["count"], len(answer["tokens"]), answer["max_model_len"])


# --- metrics ---


def test_metrics_count_what_was_served(fresh):
    for _ in range(2):
        post(fresh, {"prompt": list(range(40)), "max_tokens": 5})  # the second time 32 of the 40 are in the cache
    post(fresh, {"prompt": list(range(100, 110)), "max_tokens": 1, "n": 3})
    expected = {
        names.RUNNING: 0,
        names.WAITING: 0,
        names.KV_USAGE: 0,
        names.PROMPT_TOKENS_TOTAL: 40 + 40 + 3 * 10,
        names.GENERATION_TOKENS_TOTAL: 5 + 5 + 3,
        names.PREFIX_QUERIES_TOTAL: 40 + 40 + 3 * 10,
        names.PREFIX_HITS_TOTAL: 32,
        names.SUCCESS_TOTAL: 5,
        names.PREEMPTIONS_TOTAL: 0,
        names.TTFT + "_count": 5,
        names.ITL + "_count": 4 + 4,
        names.E2E + "_count": 5,
        names.REQUEST_N + "_sum": 1 + 1 + 3,
        names.REQUEST_PROMPT + "_sum": 40 + 40 + 30,
        names.ITERATION + "_sum": (40 + 5) + (8 + 5) + 3 * 10 + 3,
    }
    found = samples(fresh)
    assert expected == {name: found[name, "0"] for name in expected}
    assert found[names.E2E + "_sum", "0"] >= found[names.TTFT + "_sum", "0"] > 0


def test_the_cache_config_says_what_the_ready_line_says(fresh):
    text = requests.get(fresh.url + "/metrics", timeout=WAIT_S).text
    (info,) = [family for family in text_string_to_metric_families(text) if family.name == names.CACHE_CONFIG]
    labels = info.samples[0].labels
    assert ("65536", "16", "4096", "True") == (
        labels["kv_cache_size_tokens"],
        labels["block_size"],
        labels["num_gpu_blocks"],
        labels["enable_prefix_caching"],
    )
    assert "KV 65,536 tokens" in fresh.ready_line


def test_the_next_turn_of_a_conversation_hits_what_the_last_one_generated(fresh):
    first = " ".join(f"word{i}" for i in range(32))
    answer = post(fresh, {"prompt": first, "max_tokens": 20}).json()["choices"][0]["text"]
    post(fresh, {"prompt": first + answer + " and now something else", "max_tokens": 1})
    # 32 + 19 tokens were computed, three blocks of 16; the prompt has 56, four of them new.
    assert 48 == samples(fresh)[names.PREFIX_HITS_TOTAL, "0"]


def test_requests_that_come_together_are_batched(fresh):
    threads = [
        threading.Thread(target=post, args=(fresh, {"prompt": [number, 1, 2], "max_tokens": 100}))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    found = samples(fresh)
    assert 800 == found[names.GENERATION_TOKENS_TOTAL, "0"]
    assert found[names.ITERATION + "_count", "0"] < 600  # steps: 800 if each had been served alone


# --- clients that go away ---


def test_a_client_that_goes_away_is_dropped_by_the_scheduler(fresh):
    body = json.dumps({"prompt": [1, 2, 3], "max_tokens": 4000, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection((fresh.host, fresh.port), WAIT_S) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        got = b""
        while b"data: " not in got:
            got += client.recv(4096)
        assert 1 == samples(fresh)[names.RUNNING, "0"]
    deadline = time.monotonic() + WAIT_S
    while samples(fresh)[names.RUNNING, "0"] and time.monotonic() < deadline:
        time.sleep(0.02)
    found = samples(fresh)
    assert (0, 0, 0) == tuple(found[name, "0"] for name in (names.RUNNING, names.KV_USAGE, names.SUCCESS_TOTAL))
    assert 0 < found[names.GENERATION_TOKENS_TOTAL, "0"] < 4000


# --- the truth ---


def recorded(path, answer_id):
    """An answer's row, which is written when the answer is out."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        found = [row for row in rows if row["id"] == answer_id]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no row of {answer_id}")


def test_the_record_holds_every_token_of_an_answer_by_the_engines_own_clock(server, folder):
    before_s = time.time()
    answer = post(server, {"prompt": [3] * 50, "max_tokens": 7}).json()
    after_s = time.time()
    row = recorded(folder / "truth.jsonl", answer["id"])
    assert (0, 50, 7, True, None) == (
        row["index"],
        row["prompt_tokens"],
        row["output_tokens"],
        row["complete"],
        row["fault"],
    )
    assert (7, sorted(row["token_s"])) == (len(row["token_s"]), row["token_s"])
    assert before_s < row["received_unix_s"] < row["received_unix_s"] + row["token_s"][-1] < after_s
