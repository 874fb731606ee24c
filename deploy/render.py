"""Render the example deployments of this folder from their plans: `python -m deploy.render`.

The plans are kept, so that what is rendered does not depend on the machine; `--plan` makes them anew. A test renders
again and compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from planner import Scenario, plan
from planner.manifests.compose import compose
from planner.manifests.exporter import plan_text
from planner.manifests.facts import read_facts
from planner.manifests.kubernetes import kubernetes
from planner.manifests.settings import Settings
from planner.manifests.text import COMPOSE_FILE, folder_files, one_document

FOLDER = Path(__file__).parent / "examples"
SCENARIOS = FOLDER.parents[1] / "examples"
IMAGE = "vllm-capacity-planner:0.1.0"  # kept, so that a new version does not change the examples
KUBERNETES, ONE_BOX = "ai-search", "demo"


def rendered() -> dict[str, str]:
    """{path below examples/: text} of both deployments, from the kept plans."""
    settings = Settings(planner_image=IMAGE)
    many, one = (read_facts(json.loads(plan_file(name).read_text(encoding="utf-8"))) for name in (KUBERNETES, ONE_BOX))
    files = {f"{KUBERNETES}/{path}": text for path, text in folder_files(kubernetes(many, settings)).items()}
    return files | {f"{ONE_BOX}/{COMPOSE_FILE}": one_document(compose(one, settings))}


def plan_file(name: str) -> Path:
    """Where the plan of an example is kept."""
    return FOLDER / f"{name}.plan.json"


def main() -> None:
    """Write what `rendered` says; with --plan plan the two scenarios first."""
    if "--plan" in sys.argv[1:]:
        for name in (KUBERNETES, ONE_BOX):
            document = json.loads(json.dumps(plan(Scenario.load(SCENARIOS / f"{name}.yaml")).as_dict(), default=float))
            plan_file(name).write_text(plan_text(read_facts(document).document), encoding="utf-8")
    for path, text in rendered().items():
        target = FOLDER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
