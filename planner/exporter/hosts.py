"""By which names the exporter's port may be asked: a check of the Host header.

A web page elsewhere can point a name of its own at 127.0.0.1 and have the visitor's browser read what listens there
(DNS rebinding); the browser then sends that name as Host. Prometheus scrapes a pod by its address, and who listens
beyond this machine is open to all anyway: there any name is answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def allowed_hosts(bound: str, host: str, more: Sequence[str] = ()) -> frozenset[str] | None:
    """Names that are answered, without ports: loopback's, `host` as it was given and `more`; None = any.

    `bound` is the address that the port is bound to. Without `more`, a port that is reached from elsewhere answers any
    name; with it, those alone.
    """
    if not more and not ipaddress.ip_address(bound).is_loopback:
        return None
    return LOOPBACK | {_name(one) for one in (bound, host, *more)}


def is_allowed(header: str | None, names: frozenset[str] | None) -> bool:
    """Whether a request with this Host header is answered. No browser leaves it out: without one there is no danger."""
    return names is None or header is None or _name(header) in names


def _name(host: str) -> str:
    """NAME of NAME, NAME:PORT, [V6] and [V6]:PORT, in small letters."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0].rstrip(".")
