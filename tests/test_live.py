"""The clients of a running server: how long they wait, what they read, and what they keep to themselves."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from emulator_process import emulator, fast_scenario

from planner.errors import EndpointError, InputError
from planner.live import (
    ServerFacts,
    ca_bundle,
    check_model,
    checked_url,
    connect,
    idle,
    release,
    scrape,
    server_facts,
    wait_ready,
)
from planner.live.idle import wait_idle

KEY = "sk-0123456789-never-shown"
MODELS = '{"object": "list", "data": [{"id": "m", "root": "org/m", "max_model_len": 4096}, {"id": "lora"}]}'


@dataclass
class Fake:
    """A server whose answers are chosen: (status, headers, body) by path. It notes the keys it was sent."""

    url: str
    answers: dict[str, Callable[[], tuple[int, dict[str, str], str]]]
    keys: list[str | None] = field(default_factory=list)

    def say(self, path: str, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.answers[path] = lambda: (status, headers or {}, body)


@contextmanager
def fake_server(certificate: Path | None = None) -> Iterator[Fake]:
    fake = Fake("", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.keys.append(self.headers.get("Authorization"))
            status, headers, body = fake.answers.get(self.path, lambda: (404, {}, "no"))()
            data = body.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    fake.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def fake() -> Iterator[Fake]:
    with fake_server() as server:
        server.say("/health", 200)
        server.say("/v1/models", 200, MODELS)
        yield server


def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def no_environment(name: str) -> str | None:
    return None


def with_key(name: str) -> str | None:
    return KEY if name == "OPENAI_API_KEY" else None


# --- addresses ---


@pytest.mark.parametrize(
    ("given", "expected", "because"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "as it is"),
        (" http://127.0.0.1:8000/ ", "http://127.0.0.1:8000", "blanks and the last slash say nothing"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000", "OpenAI clients are given the address with /v1"),
        ("https://host/gateway/v1/", "https://host/gateway", "a gateway may put the API below a path"),
        ("http://[::1]:8000", "http://[::1]:8000", "IPv6"),
    ],
)
def test_an_address_is_brought_to_the_api_root(given: str, expected: str, because: str):
    assert checked_url(given) == expected, because


@pytest.mark.parametrize(
    "given", ["127.0.0.1:8000", "ftp://host", "http://", "", "http://host:port", "http://h:1/?a=b"]
)
def test_what_is_no_address_of_a_server_is_bad_input(given: str):
    with pytest.raises(InputError, match=r"^--host"):
        checked_url(given)


def test_credentials_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(InputError) as caught:
        checked_url("http://user:hunter2@127.0.0.1:8000")
    assert "hunter2" not in str(caught.value)
    assert "user" not in str(caught.value).replace("no user and password", "")
    assert caught.value.nearest == "http://127.0.0.1:8000"


# --- waiting ---


def test_a_server_that_is_starting_is_waited_for(fake: Fake):
    asked = [0]

    def starting() -> tuple[int, dict[str, str], str]:
        asked[0] += 1
        return (503 if asked[0] < 4 else 200, {}, "")

    fake.answers["/health"] = starting
    waited: list[float] = []
    wait_ready(connect(fake.url), 30.0, waited.append)
    assert asked[0] == 4
    assert len(waited) == 3


def test_a_server_that_comes_up_late_is_waited_for():
    port = closed_port()
    late: list[ThreadingHTTPServer] = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    def start() -> None:
        late.append(ThreadingHTTPServer(("127.0.0.1", port), Ready))
        late[0].serve_forever()

    timer = threading.Timer(0.5, start)
    timer.start()
    try:
        wait_ready(connect(f"http://127.0.0.1:{port}"), 20.0)
    finally:
        late[0].shutdown()
        late[0].server_close()
        timer.join()


def test_waiting_ends_when_its_time_is_over():
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(EndpointError) as caught:
        wait_ready(connect(url), 0.5)
    assert str(caught.value).startswith(f"{url}: GET /health: not ready after 0.5 s: connection refused")
    assert caught.value.exit_code == 3


def test_a_server_that_never_gets_ready_says_with_what_it_answered(fake: Fake):
    fake.say("/health", 503)
    with pytest.raises(EndpointError, match=r"not ready after 0\.3 s: HTTP 503"):
        wait_ready(connect(fake.url), 0.3)


def test_a_server_without_health_is_ready_once_it_lists_models(fake: Fake):
    del fake.answers["/health"]
    wait_ready(connect(fake.url), 5.0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_not_waited_for(fake: Fake, status: int):
    fake.say("/health", status, f"who is {KEY}?")
    begun = time.monotonic()
    with pytest.raises(EndpointError, match=f"HTTP {status}; put the key into the environment") as caught:
        wait_ready(connect(fake.url, environment=with_key), 60.0)
    assert time.monotonic() - begun < 30.0  # it has not waited its 60 s
    assert KEY not in str(caught.value)


def test_a_plain_server_asked_over_tls_fails_at_once(fake: Fake):
    with pytest.raises(EndpointError, match="a TLS error; check the address"):
        wait_ready(connect(fake.url.replace("http:", "https:")), 60.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(["openssl", "req", "-x509", *files, *subject], check=True, capture_output=True, timeout=60)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_named(certificate: Path):
    with fake_server(certificate) as fake:
        fake.say("/health", 200)
        with pytest.raises(EndpointError, match=r"a TLS error \(self-signed certificate\)"):
            wait_ready(connect(fake.url, environment=no_environment), 60.0)
        trusted = {"SSL_CERT_FILE": str(certificate.with_suffix(".crt"))}
        wait_ready(connect(fake.url, environment=trusted.get), 5.0)


def test_every_client_finds_the_same_certificate_authorities():
    both = {"SSL_CERT_FILE": "ours.pem", "REQUESTS_CA_BUNDLE": "other.pem"}
    assert ca_bundle(both.get) == "ours.pem"
    assert ca_bundle({"REQUESTS_CA_BUNDLE": "other.pem", "SSL_CERT_FILE": ""}.get) == "other.pem"
    assert ca_bundle(no_environment) is None
    assert connect("https://h", environment=both.get).session.verify == "ours.pem"


def test_a_server_that_says_nothing_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(EndpointError, match="no answer in time"):
            endpoint.get("/health", 0.2)


def test_a_server_that_hangs_up_is_told_from_one_that_is_not_there():
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen()

        def hang_up() -> None:
            connection, _ = rude.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(EndpointError, match="connection closed before an answer"):
            connect(f"http://127.0.0.1:{rude.getsockname()[1]}").get("/health")
        thread.join()


def test_an_unknown_host_is_said():
    with pytest.raises(EndpointError, match="an unknown host name"):
        connect("http://no-such-host.invalid:8000").get("/health", 5.0)


# --- the key ---


def test_the_key_of_the_environment_goes_to_the_server(fake: Fake):
    connect(fake.url, environment=with_key).get("/health")
    connect(fake.url, environment=no_environment).get("/health")
    assert fake.keys == [f"Bearer {KEY}", None]


def test_the_key_follows_no_redirect(fake: Fake):
    with fake_server() as other:
        other.say("/v1/models", 200, MODELS)
        fake.say("/v1/models", 307, "", {"Location": f"{other.url}/v1/models"})
        with pytest.raises(EndpointError, match="a redirect"):
            server_facts(connect(fake.url, environment=with_key))
        assert other.keys == []


def test_a_netrc_file_of_the_environment_is_not_read(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    connect(fake.url, environment=no_environment).get("/health")
    assert fake.keys == [None]


def test_a_key_that_no_header_can_hold_is_bad_input():
    with pytest.raises(InputError, match="must be printable ASCII") as caught:
        connect("http://127.0.0.1:1", environment=lambda name: "two\nlines")
    assert "two" not in str(caught.value)


# --- facts ---


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


BUSY = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0\n"


@pytest.mark.parametrize(("metrics", "because"), [(BUSY, "it never comes to rest"), (None, "it does not tell")])
def test_waiting_for_rest_ends_when_it_is_asked_to(
    fake: Fake, metrics: str | None, because: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(idle, "UNKNOWN_S", 1e6)
    if metrics is not None:
        fake.say("/metrics", 200, metrics)
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(len(asked) >= 2)
        return asked[-1]

    assert not wait_idle(connect(fake.url), 1e6, stopped), because
    assert asked == [False, False, True]


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
