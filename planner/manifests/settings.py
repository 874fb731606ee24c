"""What the plan does not say and the person who deploys chooses. Every default is stated in docs/deploy.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from planner.errors import InputError

# Registry and path, then a tag, a digest or both: what a container runtime takes.
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"([a-zA-Z0-9][a-zA-Z0-9.-]*(:\d+)?/)?{_PART}(/{_PART})*(:\w[\w.-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?"
)
_CHECKPOINT = re.compile(r"/?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[\w.~/-]*)?")
_CLAIM = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
PROMETHEUS_URL = "http://prometheus-operated.monitoring:9090"


def planner_image() -> str:
    """The name under which deploy/Containerfile is built: of this very version."""
    try:
        return f"vllm-capacity-planner:{version('vllm-capacity-planner')}"
    except PackageNotFoundError:  # a source tree that was never installed
        return "vllm-capacity-planner:latest"


@dataclass(frozen=True)
class Settings:
    """Names and images. None = derived from the plan."""

    name: str | None = None
    namespace: str | None = None
    image: str | None = None
    planner_image: str = ""
    checkpoint: str | None = None  # repository or path, in the plan's own format
    vllm_args: tuple[str, ...] = ()  # more arguments of vLLM's, those of the plan excepted
    model_cache: str | None = None  # an existing claim for downloaded weights
    prometheus_url: str | None = None  # None = the scenario's own, else PROMETHEUS_URL
    labels: tuple[tuple[str, str], ...] = ()  # more labels of what Prometheus' operator selects by label
    cpu: int | None = None  # a replica's request; None = by vLLM's rule
    autoscale: bool = False
    without: frozenset[str] = frozenset()  # autoscaling, exporter, monitoring


def checked_settings(
    *,
    name: str | None = None,
    namespace: str | None = None,
    image: str | None = None,
    planner_image: str | None = None,
    checkpoint: str | None = None,
    vllm_args: Sequence[str] = (),
    model_cache: str | None = None,
    prometheus_url: str | None = None,
    labels: Sequence[str] = (),
    cpu: int | None = None,
    autoscale: bool = False,
    without: Sequence[str] = (),
) -> Settings:
    """Settings as given on a command line. Raises InputErrors for what could be no image, repository, claim, label or
    URL.
    """
    for option, value, form, rule in (
        ("--image", image, _IMAGE, "must be an image, as registry/name:tag or registry/name@sha256:…"),
        ("--planner-image", planner_image, _IMAGE, "must be an image, as registry/name:tag or registry/name@sha256:…"),
        ("--checkpoint", checkpoint, _CHECKPOINT, "must be a repository, as org/name, or an absolute path"),
        (
            "--model-cache",
            model_cache,
            _CLAIM,
            "must be the name of a volume claim: lower-case letters, digits, - and .",
        ),
    ):
        if value is not None and not form.fullmatch(value):
            raise InputError(option, value, rule)
    return Settings(
        name=name,
        namespace=namespace,
        image=image,
        planner_image=planner_image or "",
        checkpoint=checkpoint,
        vllm_args=tuple(vllm_args),
        model_cache=model_cache,
        prometheus_url=None if prometheus_url is None else checked_url("--prometheus-url", prometheus_url),
        labels=_checked_labels(labels),
        cpu=cpu,
        autoscale=autoscale,
        without=frozenset(without),
    )


def _checked_labels(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """KEY=VALUE as Kubernetes takes labels, none of them one of the planner's own, which tie the objects together."""
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        prefix, slash, word = key.rpartition("/")
        if not equals or not _WORD.fullmatch(word) or (slash and not (_PREFIX.fullmatch(prefix) and len(prefix) < 254)):
            rule = (
                "must be KEY=VALUE, KEY of letters, digits, -, _ and . (at most 63), a DNS name and / before it or not"
            )
            raise InputError("--label", text, rule, "release=kube-prometheus-stack")
        if value and not _WORD.fullmatch(value):
            rule = (
                "has a value that is none of a label: letters, digits, -, _ and ., at most 63, ends letters or digits"
            )
            raise InputError("--label", text, rule, "release=kube-prometheus-stack")
        if prefix == "app.kubernetes.io":
            raise InputError("--label", text, "is one of the planner's own: choose another key")
        if found.setdefault(key, value) != value:
            raise InputError("--label", text, f"{key} is given twice, first as {found[key]}")
    return tuple(found.items())


def checked_url(option: str, url: str) -> str:
    """An HTTP address without a user or password, which would stand readable in every object that has it."""
    if "@" in url:
        raise InputError(option, None, "must hold no user and no password: they would be readable in the objects")
    if not _URL.fullmatch(url):
        raise InputError(option, url, "must be an address, http://… or https://…, without a query", PROMETHEUS_URL)
    return url.rstrip("/")
