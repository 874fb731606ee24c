"""Connections that fail: certificates, silence, hanging up, names that nobody knows."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from live_server import Fake, fake_server, no_environment

from planner.errors import EndpointError
from planner.live import ca_bundle, connect, wait_ready


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
