"""A server's address and the key for it: what is accepted, and what is kept from others."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_server import KEY, MODELS, Fake, fake_server, no_environment, with_key

from planner.errors import EndpointError, InputError
from planner.live import checked_url, connect, server_facts

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


MISTYPED = [
    ("127.0.0.1:8000", "127.0.0.1:8000", "http://127.0.0.1:8000", "no scheme"),
    ("localhost", "localhost", "http://localhost", "a name that everybody knows"),
    ("gpu.example/v1", "gpu.example/v1", "http://gpu.example", "a path is left out"),
    ("https:host", "https:host", "https://host", "no slashes"),
    ("http:/host:80", "http:/host:80", "http://host:80", "one slash"),
    ("::1", "::1", "http://[::1]", "IPv6 stands in brackets"),
    ("[::1]:8000", "[::1]:8000", "http://[::1]:8000", "in brackets, no scheme"),
    ("host:80/v1?key=hunter2", None, "http://host:80", "a key behind the question mark"),
    ("host:80#hunter2", None, "http://host:80", "a key behind the hash"),
    ("sk-hunter2", None, "http://127.0.0.1:8000", "a key in the address's place"),
    ("hf_hunter2?", None, "http://127.0.0.1:8000", "a key and a question mark"),
    ("eyHunter2.eyHunter2.x", None, "http://127.0.0.1:8000", "a token of three parts"),
    ("http:hunter2Key", None, "http://127.0.0.1:8000", "a key behind a scheme"),
]


@pytest.mark.parametrize(("given", "shown", "nearest", "because"), MISTYPED, ids=[row[3] for row in MISTYPED])
def test_a_mistyped_address_is_shown_corrected_but_nothing_that_may_be_a_key(
    given: str, shown: str | None, nearest: str, because: str
):
    with pytest.raises(InputError) as caught:
        checked_url(given)
    assert (shown, nearest) == (caught.value.value, caught.value.nearest), because
    assert shown is not None or "unter2" not in str(caught.value)


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
