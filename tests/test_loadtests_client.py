"""One model call against a server that fails in every way there is: each becomes a row with its reason, none hangs."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault_server import Running, fault_server
from tests.loadtest_process import loadtest, run_calls, write_scenario

# fault, the row's error, HTTP status, tokens that came of 6, because
TABLE = [
    ("none", "", 200, 6, "a whole answer"),
    ("split", "", 200, 6, "events cut anywhere, CR LF and comments are the standard's, not a fault"),
    ("no-usage", "", 200, 6, "without usage the events are counted, and all that were asked for came"),
    ("short-no-usage", "token count differs", 200, 3, "half of the tokens, and no usage that would say so"),
    ("end-apart", "", 200, 6, "an event with a finish reason and no text is the end, not a token"),
    ("end-blank", "", 200, 6, "nor is one with an empty text, where usage says that all had come"),
    ("end-blank-no-usage", "", 200, 6, "or where as many had come as were asked for"),
    ("stop-blank-no-usage", "token count differs", 200, 5, "one short: the empty end of a stop is no token"),
    ("blank-last", "", 200, 6, "vLLM's special tokens have an empty text: usage says that the last one is one"),
    ("blank-last-no-usage", "", 200, 6, "without usage the finish reason says so: the length was reached"),
    ("blank-extra", "token count differs", 200, 7, "more events than tokens: nobody knows which are none"),
    ("reset", "connection reset", None, 0, "RST instead of a reply"),
    ("close", "connection closed", None, 0, "closed before a reply"),
    ("bad-http", "invalid HTTP", None, 0, "the reply's first line is no HTTP"),
    ("reset-midway", "connection reset", 200, 3, "RST after half of the tokens"),
    ("half", "stream cut off", 200, 3, "closed before [DONE]: the tokens so far are kept"),
    ("bad-json", "invalid JSON", 200, 3, "an event that is no JSON"),
    ("bad-shape", "invalid event", 200, 3, "JSON, but choices are no list"),
    ("error-event", "error in the stream", 200, 3, "an error object where a token should be"),
    ("wrong-count", "token count differs", 200, 6, "usage says one token fewer than was asked"),
    ("wrong-prompt-count", "token count differs", 200, 6, "usage says one prompt token more than was sent"),
    ("no-token", "no token", 200, 0, "usage and [DONE], and no token"),
    ("stall", "stream stalled", 200, 3, "no token within the stall timeout after half of them"),
    ("silent", "query timed out", None, 0, "no reply within the query's time"),
    ("429", "HTTP 429", 429, 0, "the server refuses load"),
    ("429-date", "HTTP 429", 429, 0, "the same, Retry-After as a date"),
    ("500", "HTTP 500", 500, 0, "the server fails"),
    ("404", "HTTP 404", 404, 0, "no such model"),
    ("not-a-stream", "not a stream", 200, 0, "JSON where a stream was asked for"),
]
TIMEOUT_S, STALL_S = 1.5, 0.4
SHAPES = [row for row in TABLE if row[0].split("-")[0] in ("none", "no", "short", "end", "stop", "blank")]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with fault_server() as running:
        yield running


@pytest.fixture(scope="module")
def answers(server: Running) -> dict[str, dict[str, Any]]:
    faults = [fault for fault, *_ in TABLE]
    cases = [{"url": f"{server.url}/{fault}", "timeout_s": TIMEOUT_S, "stall_s": STALL_S} for fault in faults]
    return dict(zip(faults, run_calls(cases), strict=True))


@pytest.mark.parametrize(("fault", "error", "status", "tokens", "because"), TABLE, ids=[row[0] for row in TABLE])
def test_every_fault_is_a_row_with_its_reason(
    answers: dict[str, dict[str, Any]], fault: str, error: str, status: int | None, tokens: int, because: str
) -> None:
    (row,) = answers[fault]["rows"]
    assert row.get("error", "") == error, because
    assert row.get("status") == status
    assert row.get("events", 0) == tokens
    assert len(row.get("gaps_ms", [])) == max(0, tokens - 1)
    assert row["ended_s"] >= row["sent_s"] >= row["scheduled_s"]


def test_a_chat_counts_as_completions_do(server: Running) -> None:
    """Its texts stand elsewhere, and its first event says who speaks: the same rules hold."""
    cases = [{"url": f"{server.url}/{fault}", "api": "chat"} for fault, *_ in SHAPES]
    for (fault, error, _, tokens, because), answer in zip(SHAPES, run_calls(cases), strict=True):
        (row,) = answer["rows"]
        assert (fault, row.get("error", ""), row.get("events", 0)) == (fault, error, tokens), because


def test_several_samples_are_counted_one_by_one(server: Running) -> None:
    faults = ["no-usage", "short-no-usage", "end-blank", "blank-last", "blank-extra"]
    answers = run_calls([{"url": f"{server.url}/{fault}", "samples": 2} for fault in faults])
    found = [{(row.get("error", ""), row["events"]) for row in answer["rows"]} for answer in answers]
    assert found == [{("", 6)}, {("token count differs", 3)}, {("", 6)}, {("", 6)}, {("token count differs", 7)}]


def test_first_token_and_gaps_add_up_to_the_last_token(answers: dict[str, dict[str, Any]]) -> None:
    (row,) = answers["none"]["rows"]
    last_ms = row["first_token_s"] * 1000 + sum(row["gaps_ms"])
    assert math.isclose(last_ms, row["last_token_s"] * 1000, abs_tol=0.05)  # six roundings to a microsecond


def test_retry_after_is_kept_in_seconds_and_as_a_date(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["429"]["rows"][0]["retry_after_s"] == 7.0
    assert answers["429-date"]["rows"][0]["retry_after_s"] > 365 * 86400  # until 31 December 2100


def test_what_the_server_said_is_told(answers: dict[str, dict[str, Any]]) -> None:
    assert "as asked for" in answers["500"]["detail"]
    assert "engine died" in answers["error-event"]["detail"]


def test_nobody_waits_past_the_timeout(answers: dict[str, dict[str, Any]]) -> None:
    # Not a timing of the machine: the server would wait an hour, so any bound far below that shows who ended it.
    assert answers["silent"]["rows"][0]["ended_s"] < 60
    assert answers["stall"]["rows"][0]["ended_s"] < answers["silent"]["rows"][0]["ended_s"]


def test_where_nobody_listens_the_connection_is_refused() -> None:
    with fault_server() as gone:
        url = gone.url
    (answer,) = run_calls([{"url": url}])
    assert answer["rows"][0]["error"] == "connection refused"


def test_a_host_that_does_not_exist_is_named() -> None:
    (answer,) = run_calls([{"url": "http://no-such-host.invalid:80"}])
    assert answer["rows"][0]["error"] == "host not found"


def test_a_key_that_is_echoed_is_told_neither_whole_nor_in_part(server: Running) -> None:
    """The error's text is told up to its 200th character, and the key stands across it."""
    key = "sk-0123456789-abcdefghij"
    (answer,) = run_calls([{"url": f"{server.url}/echo"}], PLANNER_API_KEY=key)
    assert answer["rows"][0]["error"] == "HTTP 401"
    assert answer["detail"].startswith("wrong key ***")
    told = str(answer)
    assert [key[at : at + 8] for at in range(len(key) - 7) if key[at : at + 8] in told] == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert, *names)
    return cert, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A private authority's certificate, alone in its folder, and what it vouches for: a certificate and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    folder, home = tmp_path_factory.mktemp("authority"), tmp_path_factory.mktemp("private")
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ca, ca_key, cert, key = folder / "ca.pem", home / "ca-key.pem", home / "cert.pem", home / "key.pem"
    openssl("req", "-x509", *made, "-keyout", str(ca_key), "-out", str(ca), "-subj", "/CN=private authority")
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    signed_by = ["-CA", str(ca), "-CAkey", str(ca_key)]
    openssl("req", "-x509", *made, "-keyout", str(key), "-out", str(cert), "-subj", "/CN=server", *more, *signed_by)
    (folder / f"{openssl('x509', '-hash', '-noout', '-in', str(ca)).strip()}.0").symlink_to(ca)
    return ca, str(cert), str(key)


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60, text=True).stdout


def test_whom_health_trusts_every_request_trusts(authority: tuple[Path, str, str], tmp_path: Path) -> None:
    """A private authority, as a file by either variable or as a folder: first of all for single calls."""
    ca, cert, key = authority
    named = [{"SSL_CERT_FILE": str(ca)}, {"REQUESTS_CA_BUNDLE": str(ca)}, {"REQUESTS_CA_BUNDLE": str(ca.parent)}]
    with fault_server("--cert", cert, "--key", key) as secure:
        for variables in named:
            (answer,) = run_calls([{"url": secure.url}], **{"SSL_CERT_FILE": "", **variables})
            assert (answer["rows"][0].get("error", ""), answer["rows"][0]["events"]) == ("", 6), variables
        (nobody,) = run_calls([{"url": secure.url}], SSL_CERT_FILE=str(tmp_path / "missing.pem"))
        options = ("--requests", "5", "--warmup-s", "0")
        variables = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": str(ca)}
        run = loadtest(write_scenario(tmp_path), secure.url, tmp_path / "r.jsonl", *options, **variables)
    assert nobody["rows"][0]["error"] == "TLS error"  # nobody is trusted, and that is no crash
    assert run.header.server["version"] == "0.0.0+fault", run.output
    assert (run.code, [row.error for row in run.rows]) == (0, [""] * 5), run.output


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with fault_server("--cert", cert, "--key", key) as secure:
        (stranger,) = run_calls([{"url": secure.url}])
        (friend,) = run_calls([{"url": secure.url}], SSL_CERT_FILE=cert)
    assert stranger["rows"][0]["error"] == "TLS error"
    assert "certificate" in stranger["detail"]
    assert friend["rows"][0].get("error", "") == ""  # named as an authority, the same certificate is accepted
    assert friend["rows"][0]["events"] == 6


def test_samples_of_one_call_get_a_row_each(server: Running) -> None:
    (answer,) = run_calls([{"url": server.url, "samples": 3}])
    assert [row["request"] for row in answer["rows"]] == [0, 1, 2]
    assert [(row["events"], row["output_tokens"]) for row in answer["rows"]] == [(6, 6)] * 3
    assert server.log()[-1]["asked"]["n"] == 3
    assert server.log()[-1]["asked"]["temperature"] == 1  # vLLM refuses several samples drawn greedily


def test_chat_counts_tokens_from_the_first_that_is_one(server: Running) -> None:
    """The first event of a chat says who speaks, and holds no token."""
    (answer,) = run_calls([{"url": server.url, "api": "chat"}])
    (row,) = answer["rows"]
    assert (row["events"], row.get("error", "")) == (6, "")
    assert (row["asked_prompt_tokens"], row["prompt_tokens"]) == (20, 17)  # words, not tokens: no mismatch
    assert len(server.log()[-1]["prompt"].split()) == 20


def test_the_key_is_sent_and_shown_nowhere(server: Running) -> None:
    (answer,) = run_calls([{"url": f"{server.url}/500"}], PLANNER_API_KEY="sk-secret")
    assert server.log()[-1]["authorization"] == "bearer sk-secret"  # the server lowers its header lines
    assert "sk-secret" not in str(answer)
