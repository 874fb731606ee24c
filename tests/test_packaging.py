"""The wheel holds what a plain install needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "planner"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built by the project's own backend, unpacked; nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def _below(folder: Path, *patterns: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.rglob(pattern))


def test_the_wheel_holds_every_module_table_and_the_type_marker(wheel):
    patterns = "*.py", "*.csv", "*.html", "*.css", "py.typed"
    here = [name for name in _below(wheel / "planner", *patterns) if not name.startswith("examples/")]
    assert _below(PACKAGE, *patterns) == here
    assert "catalogue/data/models.csv" in _below(wheel / "planner", *patterns)
    assert "report/templates/page.html" in _below(wheel / "planner", *patterns)


def test_the_wheel_holds_the_examples(wheel):
    assert _below(ROOT / "examples", "*.yaml") == _below(wheel / "planner" / "examples", "*.yaml")
    assert len(_below(wheel / "planner" / "examples", "*.yaml")) >= 5


def test_the_wheel_leaves_compiled_code_and_tests_out(wheel):
    assert [] == _below(wheel, "*.nbi", "*.nbc", "*.pyc", "test_*")


def test_the_unpacked_wheel_finds_its_own_examples_far_from_the_checkout(wheel, tmp_path):
    code = "from planner.cli.options import find_scenario, read_scenario as read\n"
    code += "print(find_scenario('ai-search').resolve(), read('ai-search', []).name, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    expected = (wheel / "planner" / "examples" / "ai-search.yaml").resolve()
    assert [str(expected), "AI search, answer page"] == done.stdout.splitlines()
