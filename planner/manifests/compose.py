"""The same fleet on one box: a Compose project with the replicas, the router, the exporter and Prometheus."""

from __future__ import annotations

import math
from typing import Any

from planner.errors import MisfitError, UnsupportedError
from planner.manifests import exporter, haproxy, monitoring, router
from planner.manifests.devices import device_of, image_of
from planner.manifests.exporter import FILE, FOLDER, SCRATCH, export_arguments, plan_files
from planner.manifests.facts import Facts, one_size
from planner.manifests.kubernetes import name_of, rule_groups
from planner.manifests.naming import Object
from planner.manifests.replicas import CACHE, CACHES, SERVER, STOP_S, drain_s, shared_memory_gib, startup_budget_s
from planner.manifests.serve_arguments import PORT, serve_arguments, served_name
from planner.manifests.settings import Settings, planner_image
from planner.manifests.text import one_document
from planner.manifests.watching import watched_document

PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"  # the long-term release
PROMETHEUS_PORT = 9090
PROMETHEUS_URL = f"http://prometheus:{PROMETHEUS_PORT}"  # the project's own
LOOPBACK = "127.0.0.1"
ROUTERS = 1  # one box has no use for a second
# Compose copies a config's content into the container, and refuses where the root file system is read-only: only
# services without one have that too.
_HARDENED: dict[str, Any] = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
_ASK_HEALTH = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}{path}', timeout=5)"


def compose(facts: Facts, settings: Settings) -> Object:
    """A Compose project (`docker compose up`). Raises MisfitError where the plan's GPUs are more than one box has.

    Every published port is on the loopback address. Each replica gets GPUs of its own, by their numbers.
    """
    if facts.gpus > facts.gpus_per_node:
        rule = f"one box has fleet.gpus_per_node (={facts.gpus_per_node}); render for Kubernetes, without --compose"
        raise MisfitError("fleet.gpus", facts.gpus, rule)
    if settings.autoscale:
        raise MisfitError("--autoscale", None, "Compose has no autoscaler; render for Kubernetes, without --compose")
    if settings.model_cache is not None:
        rule = "names a claim of a cluster's; with --compose the weights are kept in a volume of the project"
        raise MisfitError("--model-cache", settings.model_cache, rule)
    for option, given in (("--label", settings.labels), ("--cpu", settings.cpu)):
        if given:
            raise MisfitError(option, None, "is of Kubernetes' objects; Compose has nothing that takes it")
    if device_of(facts.hardware).vendor != "nvidia":
        rule = "Compose hands out single GPUs by NVIDIA's runtime alone; render for Kubernetes, without --compose"
        raise UnsupportedError("fleet.hardware", facts.hardware, rule)
    facts = one_size(facts)  # Compose has no autoscaler
    name = name_of(facts, settings)
    replicas = [f"vllm-{index}" for index in range(facts.replicas)]
    services = {host: _replica(facts, settings, index) for index, host in enumerate(replicas)}
    configs: dict[str, str] = {}
    jobs = {"vllm": [f"{host}:{PORT}" for host in replicas]}
    if router.needed(facts):
        lines = [f"server {host} {host}:{PORT} resolvers cluster init-addr libc,none" for host in replicas]
        configs["haproxy.cfg"] = haproxy.haproxy_config(facts, lines, ROUTERS)
        services["router"] = _router(facts, replicas)
        jobs["router"] = [f"router:{haproxy.METRICS_PORT}"]
    else:
        services[replicas[0]]["ports"] = [f"{LOOPBACK}:{PORT}:{PORT}"]
    watched = "monitoring" not in settings.without
    series = {"model_name": served_name(facts)}  # its Prometheus reads this fleet alone, and knows no namespaces
    if "exporter" not in settings.without and watched:
        read = plan_files(facts, watched_document(facts, PROMETHEUS_URL, series))
        configs |= read
        services[exporter.COMPONENT] = _exporter(settings, list(read))
        jobs[exporter.COMPONENT] = [f"{exporter.COMPONENT}:{exporter.PORT}"]
    if watched:
        configs["rules.yml"] = one_document({"groups": list(rule_groups(facts, settings, series))})
        configs["prometheus.yml"] = one_document(monitoring.prometheus_config(jobs, ["/etc/prometheus/rules.yml"]))
        services["prometheus"] = _prometheus()
    kept = [f"cache-{index}" for index in range(facts.replicas)] + ["prometheus"] * watched
    return {
        "name": name,
        "services": services,
        # A dollar is Compose's own sign for variables.
        "configs": {key: {"content": text.replace("$", "$$")} for key, text in configs.items()},
        "volumes": {volume: {} for volume in kept},
    }


def _replica(facts: Facts, settings: Settings, index: int) -> Object:
    """One replica on the GPUs `index` · n to `index` · n + n − 1."""
    first, count = index * facts.gpus_per_replica, facts.gpus_per_replica
    gpus = {
        "driver": "nvidia",
        "device_ids": [str(gpu) for gpu in range(first, first + count)],
        "capabilities": ["gpu"],
    }
    shared = shared_memory_gib(facts)
    # vLLM's image has no prepared folder of this user's, and a new volume belongs to root: a box of one's own runs it
    # as the image does, without capabilities and on a root file system that cannot be written.
    return {
        **_HARDENED,
        "read_only": True,
        "image": settings.image or image_of(device_of(facts.hardware), facts.engine),
        "entrypoint": ["vllm", "serve"],
        "command": _escaped(serve_arguments(facts, settings.checkpoint, settings.vllm_args, "0.0.0.0")),
        # Without a value: as in the environment of whoever starts the project, and unset where it is not.
        "environment": {**CACHES, **SERVER, "HF_TOKEN": None, "VLLM_API_KEY": None},
        "volumes": [f"cache-{index}:{CACHE}"],
        "tmpfs": ["/tmp:exec"],
        **({"shm_size": f"{shared}gb"} if shared is not None else {}),
        "deploy": {"resources": {"reservations": {"devices": [gpus]}}},
        "healthcheck": _healthcheck(_python("python3", PORT, "/health"), startup_budget_s(facts)),
        "stop_grace_period": f"{drain_s(facts) + STOP_S}s",
        "restart": "unless-stopped",
        "expose": [str(PORT)],
    }


def _router(facts: Facts, replicas: list[str]) -> Object:
    return {
        **_HARDENED,
        "image": router.IMAGE,
        "configs": [{"source": "haproxy.cfg", "target": f"{router.CONFIG}/haproxy.cfg"}],
        "ports": [f"{LOOPBACK}:{PORT}:{PORT}"],
        "depends_on": {host: {"condition": "service_started"} for host in replicas},
        "healthcheck": _healthcheck(
            ["CMD", "wget", "-q", "-O", "-", f"http://127.0.0.1:{haproxy.METRICS_PORT}/healthz"], 10
        ),
        "stop_grace_period": f"{drain_s(facts) + STOP_S}s",
        "restart": "unless-stopped",
    }


def _exporter(settings: Settings, files: list[str]) -> Object:
    return {
        **_HARDENED,
        "image": settings.planner_image or planner_image(),
        # Its port is published on this box's loopback, where a web page elsewhere could have a browser read it.
        "command": export_arguments(f"{FOLDER}/{FILE}", [exporter.COMPONENT]),
        "environment": SCRATCH,
        "tmpfs": ["/tmp"],
        "configs": [{"source": name, "target": f"{FOLDER}/{name}"} for name in files],
        "ports": [f"{LOOPBACK}:{exporter.PORT}:{exporter.PORT}"],
        "healthcheck": _healthcheck(_python("python", exporter.PORT, exporter.ALIVE), 60),
        "restart": "unless-stopped",
    }


def _prometheus() -> Object:
    folder = "/etc/prometheus"
    return {
        **_HARDENED,
        "image": PROMETHEUS_IMAGE,
        "command": [f"--config.file={folder}/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        "configs": [{"source": file, "target": f"{folder}/{file}"} for file in ("prometheus.yml", "rules.yml")],
        "volumes": ["prometheus:/prometheus"],
        "ports": [f"{LOOPBACK}:{PROMETHEUS_PORT}:{PROMETHEUS_PORT}"],
        "healthcheck": _healthcheck(
            ["CMD", "wget", "-q", "-O", "-", f"http://127.0.0.1:{PROMETHEUS_PORT}/-/healthy"], 30
        ),
        "restart": "unless-stopped",
    }


def _python(python: str, port: int, path: str) -> list[str]:
    return ["CMD", python, "-c", _ASK_HEALTH.format(port=port, path=path)]


def _healthcheck(test: list[str], start_s: float) -> Object:
    start = f"{math.ceil(start_s)}s"
    return {"test": test, "interval": "10s", "timeout": "10s", "retries": 3, "start_period": start}


def _escaped(words: list[str]) -> list[str]:
    return [word.replace("$", "$$") for word in words]
