"""Plans for tests of the manifests: the documents that deploy/examples keeps, with values changed at dotted keys."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from planner.manifests.facts import Facts, read_facts
from planner.manifests.kubernetes import kubernetes
from planner.manifests.settings import Settings

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "deploy" / "examples"
IMAGE = "vllm-capacity-planner:test"


@cache
def _kept(name: str) -> str:
    return (EXAMPLES / f"{name}.plan.json").read_text(encoding="utf-8")


def document(name: str = "ai-search", **changes: Any) -> dict[str, Any]:
    """A plan's document. `fleet__replicas=3` puts 3 at fleet.replicas; `...` takes a key out."""
    made = json.loads(_kept(name))
    for key, value in changes.items():
        *above, last = key.split("__")
        place = made
        for part in above:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return made


def facts(name: str = "ai-search", **changes: Any) -> Facts:
    """The facts of such a document."""
    return read_facts(document(name, **changes))


def objects(name: str = "ai-search", settings: Settings | None = None, **changes: Any) -> dict[str, dict[str, Any]]:
    """{"Kind/name": object} of everything rendered, the load test included; the plan's name cut off."""
    made = kubernetes(facts(name, **changes), settings or Settings(name="fleet", planner_image=IMAGE))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in (*made.standing, *made.load_test)}


def container(made: dict[str, Any]) -> dict[str, Any]:
    """The only container of a Deployment or Job."""
    (only,) = made["spec"]["template"]["spec"]["containers"]
    return only


def notes(made: dict[str, Any]) -> dict[str, str]:
    """Our own annotations, without the prefix."""
    prefix = "vllm-capacity-planner/"
    found = made["metadata"].get("annotations", {})
    return {key.removeprefix(prefix): text for key, text in found.items() if key.startswith(prefix)}
