"""The example deployments are what is rendered today, and the container file builds what the project needs."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from deploy.render import FOLDER, KUBERNETES, ONE_BOX, plan_file, rendered
from planner import Scenario, plan
from planner.manifests.facts import read_facts

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of the container file, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", CONTAINERFILE.read_text(encoding="utf-8"))
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in pairs]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_examples_are_what_is_rendered_from_their_plans_today():
    """`python -m deploy.render` writes them; nothing else lies beside them."""
    kept = {path.relative_to(FOLDER).as_posix(): path.read_text("utf-8") for path in FOLDER.rglob("*.yaml")}
    made = rendered()
    assert made.keys() == kept.keys()
    assert [] == [path for path in made if made[path] != kept[path]]


@pytest.mark.parametrize("name", [KUBERNETES, ONE_BOX])
def test_the_kept_plans_are_still_what_planning_answers(name):
    """Model, hardware, size and engine; `python -m deploy.render --plan` makes the plans anew."""
    kept = json.loads(plan_file(name).read_text(encoding="utf-8"))
    fresh = plan(Scenario.load(ROOT / "examples" / f"{name}.yaml"), worlds=0).as_dict()
    assert (kept["model"], kept["fleet"]) == (fresh["model"], fresh["fleet"])
    assert kept["at_peak"]["e2e_ms"]["p99"] == pytest.approx(fresh["at_peak"]["e2e_ms"]["p99"], rel=1e-6)


def test_the_kept_plans_hold_no_timing():
    for name in (KUBERNETES, ONE_BOX):
        text = plan_file(name).read_text(encoding="utf-8")
        assert "wall_s" not in text
        assert json.loads(text) == read_facts(json.loads(text)).document


def test_every_source_that_is_copied_exists():
    sources = [source for line in of("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert len(sources) >= 5
    assert [] == [source for source in sources if not (ROOT / source).exists()]


def test_the_build_has_everything_that_the_wheel_is_made_of_and_the_ignore_file_lets_it_in():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    copied = {source for line in of("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert needed | {"pyproject.toml"} <= copied
    ignored = CONTAINERFILE.with_name("Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert copied - {"loadtests/locustfile.py"} <= let_in


def test_the_image_is_built_in_two_stages_and_runs_without_root():
    assert 2 == len(of("FROM"))
    (base,) = [line for line in of("ARG") if line.startswith("PYTHON_IMAGE=")]
    assert fnmatch(base, "PYTHON_IMAGE=python:3.*.*-slim-*"), "pinned to a patch release"
    (user,) = of("USER")
    assert int(user.partition(":")[0]) > 0
    last = max(index for index, (word, _) in enumerate(instructions()) if word == "FROM")
    final = instructions()[last:]
    assert "USER" in [word for word, _ in final]
    assert not [rest for word, rest in final if word == "RUN"], "nothing is installed in the last stage"
    assert all("--no-cache-dir" in line for line in of("RUN") if "pip install" in line)


def test_the_image_starts_the_console_script_and_has_a_health_check():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    (entry,) = of("ENTRYPOINT")
    assert json.loads(entry)[0] in scripts
    (health,) = of("HEALTHCHECK")
    assert "9595/metrics" in health
