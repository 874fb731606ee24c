"""One server, asked over HTTP: its address checked, its answers bounded, its key kept to itself.

The key comes from the environment and goes to this one server only: redirects are not followed, and neither proxies
nor a netrc file of the environment have a say.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from planner.errors import EndpointError, InputError

KEY_VARIABLES = ("PLANNER_API_KEY", "OPENAI_API_KEY")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CONNECT_S, READ_S = 3.0, 10.0
MOST_BYTES = 32_000_000
EXAMPLE = "http://127.0.0.1:8000"
LATE = "no answer in time"
_PIECE = 1 << 18


@dataclass(frozen=True)
class Answer:
    """What came back: a status and the body as text."""

    status: int
    text: str


@dataclass(frozen=True)
class Endpoint:
    """A server at `url`, which holds neither credentials nor a path beyond the API's root."""

    url: str
    session: requests.Session = field(repr=False)
    option: str = "--host"  # where the user gave the address

    def get(self, path: str, timeout_s: float = READ_S, most_bytes: int = MOST_BYTES) -> Answer:
        """GET `path`. Raises EndpointError where no answer came, or not whole after `timeout_s`; a status is an
        answer.
        """
        return self._ask("GET", path, None, timeout_s, most_bytes)

    def post(self, path: str, form: Mapping[str, str], timeout_s: float = READ_S) -> Answer:
        """POST a form to `path`; as `get` otherwise."""
        return self._ask("POST", path, form, timeout_s, MOST_BYTES)

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None, timeout_s: float, most: int) -> Answer:
        asked, until = f"{method} {path.partition('?')[0]}", time.monotonic() + timeout_s
        try:
            with self.session.request(
                method,
                self.url + path,
                data=form,
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.is_redirect:
                    rule = f"give {self.option} the address that the server itself has"
                    raise EndpointError(self.url, asked, f"a redirect (HTTP {response.status_code})", rule)
                body = bytearray()
                # Piece by piece: the socket's own timeout begins anew with every byte of a server that trickles.
                while piece := response.raw.read1(_PIECE, decode_content=True):
                    body += piece
                    if len(body) > most:
                        raise EndpointError(self.url, asked, f"more than {most} bytes", "is it an API server?")
                    if time.monotonic() > until:
                        raise EndpointError(self.url, asked, LATE, "is the server overloaded, or still starting?")
                return Answer(response.status_code, body.decode("utf-8", "replace"))
        except requests.RequestException as error:
            raise EndpointError(self.url, asked, *_explained(error)) from None
        except Exception as error:  # urllib3's own errors while the body is read
            if not type(error).__module__.startswith("urllib3"):
                raise
            if "Timeout" in type(error).__name__:
                raise EndpointError(self.url, asked, LATE, "is the server overloaded, or still starting?") from None
            raise EndpointError(self.url, asked, "half an answer", "did the server stop?") from None


def connect(
    url: str,
    *,
    option: str = "--host",
    environment: Callable[[str], str | None] = os.environ.get,
    keys: Sequence[str] = KEY_VARIABLES,
    example: str = EXAMPLE,
) -> Endpoint:
    """The endpoint at `url`, as a user writes it; its key is the first of `keys` that the environment has.

    Raises InputError for what is no address of a server, naming `option` and, where no address is near, `example`.
    """
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(max_retries=0))
    session.mount("https://", HTTPAdapter(max_retries=0))
    key = next(filter(None, map(environment, keys)), None)
    if key:
        if not key.isprintable() or not key.isascii():
            raise InputError(" or ".join(keys), None, "must be printable ASCII on one line")
        session.headers["Authorization"] = f"Bearer {key}"
    bundle = ca_bundle(environment)
    if bundle:
        session.verify = bundle
    return Endpoint(checked_url(url, option, keys, example), session, option)


def ca_bundle(environment: Callable[[str], str | None] = os.environ.get) -> str | None:
    """The file of certificate authorities that the user trusts; None = those that the HTTP library brings along.

    Every client of one server must take it from here, or one of them would refuse what another trusts.
    """
    return next(filter(None, map(environment, CERTIFICATE_VARIABLES)), None)


def checked_url(url: str, option: str = "--host", keys: Sequence[str] = KEY_VARIABLES, example: str = EXAMPLE) -> str:
    """scheme://host[:port][/root] without a trailing slash or `/v1`.

    Credentials in it are refused, never shown: they would end up in records and process lists.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        host, port, userinfo = parts.hostname, parts.port, parts.username or parts.password
    except ValueError:
        raise InputError(option, None, "is no address", example) from None
    if parts.scheme not in ("http", "https") or not host:
        raise _no_address(text, option, example)
    if userinfo is not None or "@" in parts.netloc:
        rule = f"must hold no user and password; put a key into the environment ({' or '.join(keys)})"
        raise InputError(option, None, rule, f"{parts.scheme}://{host}{f':{port}' if port else ''}")
    if parts.query or parts.fragment:
        raise InputError(option, None, "must hold no ? and no #", f"{parts.scheme}://{parts.netloc}{parts.path}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def _no_address(text: str, option: str, example: str) -> InputError:
    """What to say of a text without http:// or https:// or without a host; what may be a password is not shown."""
    rule = "must be http://HOST:PORT or https://HOST[:PORT]"
    scheme = "https" if text.startswith("https:") else "http"
    behind = re.sub(r"^(https?:/*|(\w+:)?/+)", "", text)
    place = re.split(r"[/?#]", behind, maxsplit=1)[0]
    usable = _is_place(place, after_scheme=behind != text)
    nearest = f"{scheme}://{place}" if usable else example
    if "@" in text:
        return InputError(option, None, f"{rule}, without user and password", example)
    if "?" in text or "#" in text:
        return InputError(option, None, f"{rule}, without ? and #", nearest)
    if _is_ipv6(place):
        return InputError(option, text, rule, f"{scheme}://[{place}]")
    # What looks like no place may be a key that was put here by mistake.
    return InputError(option, text if usable or not place else None, rule, nearest)


def _is_ipv6(place: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(place))
    except ValueError:
        return False


def _is_place(place: str, after_scheme: bool) -> bool:
    """Whether it looks like HOST[:PORT], not like a key: small letters, and a scheme, a dot or a port beside them."""
    found = re.fullmatch(r"(?P<host>[a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?", place)
    if found is None or not 0 < int(found["port"] or 1) < 65_536:
        return False
    known = after_scheme or found["port"] is not None or place == "localhost"
    return known or "." in place or place.startswith("[")


def _explained(error: requests.RequestException) -> tuple[str, str]:
    """What came instead of an answer, and what to do about it."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        reason = re.search(r"certificate verify failed: ([^(\n]*\w)", text)
        return (
            f"a TLS error{f' ({reason[1]})' if reason else ''}",
            f"check the address, or name the certificate authority in {CERTIFICATE_VARIABLES[0]}",
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time", "check host and port"
    if isinstance(error, requests.exceptions.Timeout):
        return LATE, "is the server overloaded, or still starting?"
    if isinstance(error, requests.exceptions.ConnectionError):
        if "NameResolution" in text or "getaddrinfo" in text or "Name or service" in text:
            return "an unknown host name", "check the spelling"
        if "Connection refused" in text:
            return "connection refused", "is the server running, and on this port?"
        if "reset" in text or "aborted" in text or "Remote end closed" in text:
            return "connection closed before an answer", "does the server speak HTTP on this port (not HTTPS)?"
        return "no connection", "check host and port"
    if isinstance(error, OSError) and "TLS CA certificate bundle" in text:
        return "a certificate file that does not exist", f"check {' and '.join(CERTIFICATE_VARIABLES)}"
    return f"no valid HTTP ({type(error).__name__})", "is it an HTTP server?"
