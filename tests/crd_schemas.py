"""Schemas of custom resources for tests: of the fields that are rendered, and of all fields where the real ones lie.

The small ones have the names and types of kedacore/keda `keda.sh_scaledobjects.yaml` and of prometheus-operator's
`monitoring.coreos.com_podmonitors.yaml` and `…_prometheusrules.yaml` (Apache-2.0), and refuse every other name. With
`TEST_CRDS=FOLDER`, a folder with such files, the definitions themselves judge too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TEXT, WHOLE, NUMBERS = {"type": "string"}, {"type": "integer"}, {"type": "object"}
DURATION = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _object(required: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _resource(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _object(("name", "labels"), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


_POLICY = _object(
    ("type", "value", "periodSeconds"), type={"enum": ["Pods", "Percent"]}, value=WHOLE, periodSeconds=WHOLE
)
_SCALING = _object((), stabilizationWindowSeconds=WHOLE, policies=_list(_POLICY))
_BEHAVIOR = _object((), scaleUp=_SCALING, scaleDown=_SCALING)
_TRIGGER = _object(
    ("type", "metadata"),
    type=TEXT,
    name=TEXT,
    metadata=TEXTS,
    metricType={"enum": ["AverageValue", "Value", "Utilization"]},
)
_RULE = _object(
    ("expr",),
    alert=TEXT,
    record=TEXT,
    expr={"type": ["string", "integer"]},
    labels=TEXTS,
    annotations=TEXTS,
    **{"for": DURATION},
)

SMALL = {
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        _object(
            ("scaleTargetRef", "triggers"),
            scaleTargetRef=_object(("name",), apiVersion=TEXT, kind=TEXT, name=TEXT),
            minReplicaCount=WHOLE,
            maxReplicaCount=WHOLE,
            pollingInterval=WHOLE,
            cooldownPeriod=WHOLE,
            fallback=_object(("failureThreshold", "replicas"), failureThreshold=WHOLE, replicas=WHOLE),
            advanced=_object((), horizontalPodAutoscalerConfig=_object((), behavior=_BEHAVIOR)),
            triggers=_list(_TRIGGER),
        ),
    ),
    "PodMonitor": _resource(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _object(
            ("podMetricsEndpoints", "selector"),
            selector=_object((), matchLabels=TEXTS),
            podTargetLabels=_list(TEXT),
            podMetricsEndpoints=_list(
                _object((), port=TEXT, path=TEXT, interval=DURATION, honorLabels={"type": "boolean"})
            ),
        ),
    ),
    "PrometheusRule": _resource(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _object((), groups=_list(_object(("name",), name=TEXT, interval=DURATION, rules=_list(_RULE)))),
    ),
}


def whole_schemas(folder: Path) -> dict[str, dict[str, Any]]:
    """{kind: schema} of every custom resource definition in a folder, unknown names refused."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            spec = definition["spec"]
            served = [version for version in spec["versions"] if version["served"] and version["storage"]]
            found[spec["names"]["kind"]] = _strict(served[0]["schema"]["openAPIV3Schema"], top=True)
    return found


def _strict(schema: Any, top: bool = False) -> Any:
    """A cluster drops unknown names silently; here they are errors. `metadata` is the cluster's own."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "format"}
    if "(?i)" in str(made.get("pattern")):  # Go has the flag anywhere, Python at the beginning
        made["pattern"] = "(?i)" + made["pattern"].replace("(?i)", "")
    for key in ("items", "additionalProperties", "anyOf", "allOf", "oneOf"):
        if key in made:
            made[key] = _strict(made[key])
    if "properties" in made:
        made["properties"] = {
            name: value if top and name == "metadata" else _strict(value) for name, value in made["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return made
