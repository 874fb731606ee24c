"""What the verbs that listen on a port share."""

from __future__ import annotations

import ipaddress
from typing import Any

from planner.cli.output import warn


def address(name: Any) -> str:
    """host:port of a socket's name, as it stands in a URL."""
    host, port, *_ = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def warn_of_open_door(host: str) -> None:
    """Say so where others than this machine can reach the port: there is no key."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        warn(f"listening on {host}: whoever reaches it may use it, there is no key")
