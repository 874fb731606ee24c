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
    prometheus_url: str = PROMETHEUS_URL
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
    autoscale: bool = False,
    without: Sequence[str] = (),
) -> Settings:
    """Settings as given on a command line. Raises InputErrors for what could be no image, repository, claim or URL."""
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
        prometheus_url=PROMETHEUS_URL if prometheus_url is None else _checked_url(prometheus_url),
        autoscale=autoscale,
        without=frozenset(without),
    )


def _checked_url(url: str) -> str:
    """An HTTP address without a user or password, which would stand readable in every object that has it."""
    option = "--prometheus-url"
    if "@" in url:
        raise InputError(option, None, "must hold no user and no password: they would be readable in the objects")
    if not _URL.fullmatch(url):
        raise InputError(option, url, "must be an address, http://… or https://…, without a query", PROMETHEUS_URL)
    return url.rstrip("/")
