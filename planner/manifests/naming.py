"""Names that Kubernetes takes, the labels that tie objects together, and the plan's numbers as annotations."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from planner.errors import InputError
from planner.manifests.facts import Facts

PREFIX = "vllm-capacity-planner"  # of annotations: a name of our own, in no domain
LONGEST = 40  # of a base name: the longest suffix and a pod's hash must fit into a label's 63 characters
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

Object = dict[str, Any]


def base_name(text: str) -> str:
    """An RFC 1035 label of any text.

    A text that is cut, or of which nothing is left, gets a hash of the whole, so that two such names stay apart.
    """
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    nothing_left = not label
    label = label if label[:1].isalpha() else f"plan-{label}".strip("-")
    if len(label) <= LONGEST and not nothing_left:
        return label
    return f"{label[: LONGEST - 7].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def checked_label(option: str, text: str, longest: int = 63) -> str:
    """`text` where it is an RFC 1035 label of at most `longest` characters; raises InputError."""
    if not _LABEL.fullmatch(text) or len(text) > longest:
        rule = f"must be lower-case letters, digits and dashes, beginning with a letter, at most {longest} characters"
        raise InputError(option, text, rule, base_name(text)[:longest])
    return text


def labels(name: str, component: str) -> dict[str, str]:
    """`app.kubernetes.io/*` of one object."""
    return {**selector(name, component), "app.kubernetes.io/managed-by": PREFIX, "app.kubernetes.io/part-of": name}


def selector(name: str, component: str) -> dict[str, str]:
    """What selects the pods of one component; never changes, as Kubernetes lets no selector change."""
    return {
        "app.kubernetes.io/name": "vllm" if component == "replicas" else component,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
    }


def metadata(name: str, component: str, *, suffix: str = "", notes: dict[str, str] | None = None) -> Object:
    """`metadata` of the object `name`-`suffix`; `notes` are annotations, without our prefix."""
    made: Object = {"name": f"{name}-{suffix}" if suffix else name, "labels": labels(name, component)}
    if notes:
        made["annotations"] = {f"{PREFIX}/{key}": " ".join(text.split()) for key, text in notes.items()}
    return made


def plan_notes(facts: Facts) -> dict[str, str]:
    """What the plan promises of this fleet, and how sure it is."""
    notes = {
        "plan": f"{facts.scenario_name} (schema_version 1)",
        "fleet": _fleet(facts),
        "slo": ", ".join(f"{key} <= {limit:g}" for key, limit in facts.limits),
        "requests-per-replica-at-peak": f"{facts.requests_per_replica:.1f}",
        "confidence": _confidence(facts),
    }
    if facts.peak_qps is not None:
        notes["peak-qps"] = f"{facts.peak_qps:g}"
    if facts.usd_per_query is not None:
        notes["usd-per-query"] = f"{facts.usd_per_query:.6g}"
    if facts.usd_per_hour is not None:
        notes["usd-per-hour"] = f"{facts.usd_per_hour:.6g}"
    if facts.response_cache_hit_rate:
        notes["response-cache"] = (
            f"the plan counts on a cache of answers in front of this service that answers "
            f"{facts.response_cache_hit_rate:.0%} of the queries; it is not part of these objects"
        )
    return notes


def _fleet(facts: Facts) -> str:
    gpus = "1 GPU" if facts.gpus_per_replica == 1 else f"{facts.gpus_per_replica} GPUs"
    spare = f"{facts.spare_replicas} of them spare" if facts.spare_replicas else "none of them spare"
    return f"{facts.replicas} replicas of {gpus} ({facts.hardware}) each, {spare}"


def _confidence(facts: Facts) -> str:
    basis = (
        "calibrated on records of a server" if facts.calibrated else "uncalibrated: load-test, then planner calibrate"
    )
    weakest = f"; weakest figure {facts.weakest}" if facts.weakest else ""
    held = f"; the limits hold in {facts.holds_share:.0%} of possible worlds" if facts.holds_share is not None else ""
    return basis + weakest + held


def checksum(text: str) -> str:
    """Of a configuration: as an annotation of a pod it makes a changed one roll the pods."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
