"""`planner emulate` as a process: its one line, its signals, its ports, several replicas, and faults on demand."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
import requests
from emulator_process import ROOT, Emulator, emulator, fast_scenario
from prometheus_client.parser import text_string_to_metric_families

from planner import vllm_metrics as names
from planner.emulator.faults import Fault, FaultPlan, FaultShare, parse_fault, parse_shares
from planner.errors import InputError

WAIT_S = 20
STREAM = {"prompt": [1, 2, 3], "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True}}


def post(server: Emulator, body: dict[str, Any], fault: str | None = None, timeout_s: float = WAIT_S):
    headers = {} if fault is None else {"x-planner-fault": fault}
    return requests.post(server.url + "/v1/completions", json=body, headers=headers, timeout=timeout_s)


def fails(scenario: str, *options: str) -> tuple[int, str]:
    """Exit code and standard error of a start that must fail."""
    command = [sys.executable, "-m", "planner", "emulate", scenario, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "" == done.stdout
    return done.returncode, done.stderr


def raw_answer(server: Emulator, fault: str, timeout_s: float = WAIT_S) -> tuple[bytes, str]:
    """All bytes that come until the connection ends, and how it ends."""
    body = json.dumps(STREAM).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nx-planner-fault: {fault}\r\n"
    got = b""
    with socket.create_connection((server.host, server.port), timeout_s) as client:
        client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        try:
            while data := client.recv(65536):
                got += data
                if got.endswith(b"0\r\n\r\n"):
                    return got, "complete"
        except ConnectionResetError:
            return got, "reset"
        except TimeoutError:
            return got, "silence"
    return got, "closed"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with emulator(fast_scenario(folder)) as running:
        yield running


# --- starting and stopping ---


def test_the_ready_line_says_address_model_hardware_replicas_and_cache(server):
    expected = (
        f"planner emulate: http://127.0.0.1:{server.port}  qwen3-0.6b on h100-sxm-80gb, 1 replica, KV 65,536 tokens"
    )
    assert expected == server.ready_line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_at_once_even_while_it_streams(tmp_path, number, code):
    with emulator(fast_scenario(tmp_path)) as server:
        body = STREAM | {"max_tokens": 4000}
        with requests.post(server.url + "/v1/completions", json=body, stream=True, timeout=WAIT_S) as answer:
            next(answer.iter_lines())
            assert code == server.stop(number)
        assert "Traceback" not in server.process.stderr.read()


def test_a_port_in_use_is_one_line_and_exit_code_2(server, tmp_path):
    code, error = fails(fast_scenario(tmp_path), "--port", str(server.port))
    assert 2 == code
    assert f"planner: error: port (={server.port}): cannot listen on 127.0.0.1" in error
    assert 1 == error.count("\n")


BAD = [
    (("--fault", "flood:0.1"), "must be one of 429, 500, drop", "no such fault"),
    (("--fault", "drop"), "needs a share of requests between 0 and 1", "no share"),
    (("--fault", "drop:1.5"), "needs a share of requests between 0 and 1", "more than all of them"),
    (("--fault", "drop:0.6", "--fault", "500:0.6"), "must not add up to more than 1", "more than all together"),
    (("--fault", "slow-start:soon"), "must be slow-start:SECONDS", "no number"),
    (("--host", "no.such.host.invalid"), "cannot be found", "no such host"),
    (("--set", "hardware=[h100-sxm-80gb, l4-24gb]"), "takes one value, not a list", "one server, one GPU"),
    (("--replicas", "0"), "0 is not in the range", "nobody would serve"),
]


@pytest.mark.parametrize(("options", "says", "because"), BAD, ids=[row[-1] for row in BAD])
def test_bad_options_are_one_line_and_exit_code_2(tmp_path, options, says, because):
    code, error = fails(fast_scenario(tmp_path), "--port", "0", *options)
    assert (2, True) == (code, says in error), error
    assert 1 == error.count("\n"), because


def test_an_open_door_is_warned_of(tmp_path):
    with emulator(fast_scenario(tmp_path), "--host", "0.0.0.0") as server:
        server.stop()
        assert "warning: listening on 0.0.0.0" in server.process.stderr.read()


def test_replicas_share_a_port_and_count_each_on_their_own(tmp_path):
    with emulator(fast_scenario(tmp_path), "--replicas", "3", "--set", "fleet.routing=round_robin") as server:
        for _ in range(6):
            post(server, {"prompt": [1, 2], "max_tokens": 2})
        text = requests.get(server.url + "/metrics", timeout=WAIT_S).text
    generated = {
        sample.labels["engine"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == names.GENERATION_TOKENS_TOTAL
    }
    assert {"0": 4.0, "1": 4.0, "2": 4.0} == generated


def generated(server) -> list[float]:
    """Tokens that each engine has given."""
    text = requests.get(server.url + "/metrics", timeout=WAIT_S).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {s.labels["engine"]: s.value for s in samples if s.name == names.GENERATION_TOKENS_TOTAL}
    return [found[engine] for engine in sorted(found)]


def test_who_finds_no_room_is_answered_503_in_vllms_error_shape(tmp_path):
    """Three of each replica: a request for seven answers is refused, six of single answers are let in."""
    options = ("--replicas", "2", "--set", "fleet.admission={max_requests_per_replica: 3}")
    with emulator(fast_scenario(tmp_path), *options) as server:
        refused = post(server, {"prompt": [1, 2], "max_tokens": 2, "n": 4})
        assert 503 == refused.status_code
        message = "No replica has room for this request (fleet.admission.max_requests_per_replica=3)."
        told = {"message": message, "type": "Service Unavailable", "param": None, "code": 503}
        assert told == refused.json()["error"]
        assert 503 == post(server, {"prompt": [[1, 2]] * 7, "max_tokens": 2}).status_code, "all prompts or none"
        assert 200 == post(server, {"prompt": [[1, 2]] * 6, "max_tokens": 2}).status_code, "which left nothing behind"
        assert [6.0, 6.0] == generated(server)


def test_a_session_stays_with_its_engine_over_http(tmp_path):
    options = ("--replicas", "3", "--set", "fleet.routing=session_affinity")
    with emulator(fast_scenario(tmp_path), *options) as server:
        for name in ("one", "two"):
            before = generated(server)
            for turn in range(6):
                body = {"prompt": [turn, 2], "max_tokens": 2}
                requests.post(
                    server.url + "/v1/completions", json=body, headers={"x-session-id": name}, timeout=WAIT_S
                ).raise_for_status()
            gained = [after - had for after, had in zip(generated(server), before, strict=True)]
            assert [0.0, 0.0, 12.0] == sorted(gained)


def test_prefix_aware_routing_finds_what_it_sent_before(tmp_path):
    options = ("--replicas", "3", "--set", "fleet.routing=prefix_aware")
    with emulator(fast_scenario(tmp_path), *options) as server:
        for _ in range(4):
            for group in range(3):
                post(server, {"prompt": [group] * 64 + [9], "max_tokens": 2})
        assert [8.0, 8.0, 8.0] == generated(server), "each prompt has its engine"
        text = requests.get(server.url + "/metrics", timeout=WAIT_S).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    hits = sum(sample.value for sample in samples if sample.name == names.PREFIX_HITS_TOTAL)
    assert 3 * 3 * 64 == hits, "all but the first of each hit its four blocks"


def test_a_slow_start_is_not_healthy_and_serves_nobody(tmp_path):
    with emulator(fast_scenario(tmp_path), "--fault", "slow-start:3600") as server:
        assert 503 == requests.get(server.url + "/health", timeout=WAIT_S).status_code
        assert 503 == post(server, STREAM).status_code
    with emulator(fast_scenario(tmp_path), "--fault", "slow-start:0") as server:
        assert 200 == requests.get(server.url + "/health", timeout=WAIT_S).status_code


def test_a_full_disk_ends_the_record_with_a_warning_and_not_the_server(tmp_path):
    with emulator(fast_scenario(tmp_path), "--record", "/dev/full") as server:
        answers = [post(server, STREAM).text for _ in range(2)]
        assert 0 == server.stop()
        assert "warning: the record ends here: No space left on device\n" in server.process.stderr.read()
    assert all(answer.endswith("data: [DONE]\n\n") for answer in answers)


# --- faults ---


def test_a_429_says_when_to_come_back(server):
    answer = post(server, STREAM, "429;retry-after=7")
    assert (429, "7", 429) == (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"])


def test_a_500_has_the_error_shape(server):
    assert "InternalServerError" == post(server, STREAM, "500").json()["error"]["type"]


def test_a_dropped_stream_ends_after_whole_events_without_done(server):
    got, ending = raw_answer(server, "drop;after=2")
    assert ("closed", 2, True) == (ending, got.count(b"data: {"), got.endswith(b"\n\n\r\n"))


def test_a_reset_is_a_reset(server):
    got, ending = raw_answer(server, "reset;after=2")
    assert "reset" == ending
    assert b"[DONE]" not in got


def test_half_an_event_has_no_end(server):
    got, ending = raw_answer(server, "half-event;after=2")
    assert ("closed", 3) == (ending, got.count(b"data: {"))
    assert not got.endswith(b"\n\n\r\n")


def test_a_stalled_stream_stays_open_and_silent(server):
    got, ending = raw_answer(server, "stall;after=3", timeout_s=1)
    assert ("silence", 3) == (ending, got.count(b"data: {"))


def test_a_fault_after_the_last_token_keeps_usage_and_done_back(server):
    got, ending = raw_answer(server, "drop;after=6")
    assert ("closed", 6) == (ending, got.count(b"data: {"))


def test_an_event_of_broken_json_stands_between_good_ones(server):
    lines = [line[6:] for line in post(server, STREAM, "invalid-json;after=2").text.split("\n\n") if line]
    broken = []
    for number, line in enumerate(lines[:-1]):
        try:
            json.loads(line)
        except ValueError:
            broken.append(number)
    assert ([2], 8, "[DONE]") == (broken, len(lines), lines[-1])


def test_wrong_usage_counts_one_token_too_many(server):
    last = post(server, STREAM, "wrong-usage").text.split("\n\n")[-3]
    assert 7 == json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"]


@pytest.mark.parametrize("fault", ["drop", "reset", "half-event", "invalid-json"])
def test_a_whole_answer_can_break_too(server, fault):
    with pytest.raises((requests.RequestException, ValueError)):
        post(server, {"prompt": [1], "max_tokens": 2, "planner_fault": fault}).json()


def test_a_fault_of_one_request_does_not_touch_the_next(server):
    raw_answer(server, "reset")
    assert post(server, STREAM).text.endswith("data: [DONE]\n\n")


def test_a_share_of_all_requests_fails_and_repeats_with_the_seed(tmp_path):
    def statuses() -> list[int]:
        with emulator(fast_scenario(tmp_path), "--fault", "429:0.5;retry-after=1", "--seed", "4") as server:
            return [post(server, {"prompt": [1], "max_tokens": 1}).status_code for _ in range(12)]

    first = statuses()
    assert {200, 429} == set(first)
    assert first == statuses()


def test_shares_are_drawn_as_asked_for():
    plan = FaultPlan([FaultShare(Fault("429"), 0.1), FaultShare(Fault("drop"), 0.3)], random.Random(0))
    drawn = [plan.draw() for _ in range(10_000)]
    assert 910 < drawn.count(Fault("429")) < 1090  # three standard deviations
    assert 2862 < drawn.count(Fault("drop")) < 3138


def test_a_fault_is_read_with_its_parameters():
    assert Fault("429", 4, 9) == parse_fault(" 429 ; after=4; retry-after=9")
    assert ((FaultShare(Fault("drop", 5), 0.25),), 2.5) == parse_shares(["drop:0.25;after=5", "slow-start:2.5"])


@pytest.mark.parametrize("text", ["", "drop;after=-1", "drop;after=x", "stal", "drop;after"])
def test_a_fault_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="fault"):
        parse_fault(text)
