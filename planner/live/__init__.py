"""Clients of a running server: its health, what it says of itself, its metrics.

`endpoint` asks over HTTP, keeps the key to one server and says in one line what went wrong · `metrics` reads /metrics
and tells two readings apart · `server` waits until a server is ready and reads its facts · `idle` until it has nothing
left to do · `fleet` reads all replicas of a running fleet, or the Prometheus server that scrapes them.
"""

from planner.live.endpoint import Endpoint, ca_bundle, checked_url, connect
from planner.live.metrics import Scrape, changes, scrape
from planner.live.server import ServerFacts, check_model, release, server_facts, wait_ready

__all__ = [
    "Endpoint",
    "Scrape",
    "ServerFacts",
    "ca_bundle",
    "changes",
    "check_model",
    "checked_url",
    "connect",
    "release",
    "scrape",
    "server_facts",
    "wait_ready",
]
