"""What the pods have in common: security, probes, mounts, environment."""

from __future__ import annotations

from typing import Any

from planner.manifests.naming import Object, labels

USER, GROUP = 2000, 0  # the user that vLLM's image prepares for running without root, in group 0
API_KEY, HF_TOKEN, PROMETHEUS_TOKEN = "api-key", "hf-token", "prometheus-token"  # keys of the secret

_CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_security(user: int = USER, group: int = GROUP) -> Object:
    """`securityContext` of a pod: no root, the runtime's own seccomp profile; passes the *restricted* pod standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(name: str, image: str, **more: Any) -> Object:
    """A container that may write nowhere but to its mounts."""
    return {"name": name, "image": image, "securityContext": _CONTAINER_SECURITY, **more}


def pod(name: str, component: str, spec: Object, notes: dict[str, str] | None = None) -> Object:
    """A pod template without a service account's token."""
    made: Object = {"labels": labels(name, component)}
    if notes:
        made["annotations"] = notes
    return {"metadata": made, "spec": {"automountServiceAccountToken": False, "enableServiceLinks": False, **spec}}


def probe(path: str, port: str, every_s: int, failures: int, timeout_s: int = 5) -> Object:
    """An HTTP probe that gives up after `failures` × `every_s`."""
    get = {"path": path, "port": port}
    return {"httpGet": get, "periodSeconds": every_s, "timeoutSeconds": timeout_s, "failureThreshold": failures}


def environment(values: dict[str, str]) -> list[Object]:
    """Plain variables."""
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_variable(variable: str, name: str, key: str) -> Object:
    """A variable from the secret `name`-secrets, unset where that does not exist: its value is never written here."""
    source = {"name": f"{name}-secrets", "key": key, "optional": True}
    return {"name": variable, "valueFrom": {"secretKeyRef": source}}


def scratch(size: str | None = None, *, memory: bool = False) -> Object:
    """An empty folder that lives as long as its pod."""
    made: Object = {"medium": "Memory"} if memory else {}
    return {"emptyDir": made | ({"sizeLimit": size} if size else {})}


def mounted(volumes: dict[str, tuple[str, Object]]) -> tuple[list[Object], list[Object]]:
    """(volumeMounts, volumes) of {volume's name: (path, source)}."""
    mounts = [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()]
    return mounts, [{"name": name, **source} for name, (_, source) in volumes.items()]
