"""docs/economics-cases.md is short, and leaves out no error of a document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.economics.cases import names, shipped
from planner.studies.simulated_cases import answer_case

PAGE = (Path(__file__).parents[1] / "docs" / "economics-cases.md").read_text(encoding="utf-8")
MOST_LINES = 12


def section_of(name: str) -> list[str]:
    """The lines between a case's heading and the next heading."""
    found = re.search(rf"^### {re.escape(name)}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1].strip().splitlines()


def test_every_shipped_case_has_one_section_and_no_other_has() -> None:
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == list(names())


@pytest.mark.parametrize("name", names())
def test_a_case_takes_few_lines_and_begins_with_a_figure_of_its_answer(name: str) -> None:
    lines = section_of(name)
    answer = " ".join(lines[: lines.index("")] if "" in lines else lines)
    assert len(lines) + 2 <= MOST_LINES  # the heading and the empty line under it
    assert answer.endswith(".")
    assert re.search(r"\d", answer)


@pytest.mark.parametrize("name", ["cost-decline", "jasper-saas"])
def test_the_answer_of_a_case_begins_with_its_result_and_not_with_its_inputs(name: str) -> None:
    """Their results are years, and a margin; what they start from is a factor of ten a year, and 0.82 USD."""
    result = {"cost-decline": "fifteen.years", "jasper-saas": "sold.gross_margin"}[name]
    value = answer_case(shipped(name)).value(result)
    told = {"cost-decline": f"{value:.3f} years", "jasper-saas": f"{100 * value:.1f} %"}[name]
    first = " ".join(section_of(name)).split(". ")[0]
    assert told in first


@pytest.mark.parametrize("name", names())
def test_every_departure_from_a_document_is_told_with_its_reason(name: str) -> None:
    """A section names a few figures of each kind; only controls, which should depart, may be among those left out."""
    text = " ".join(" ".join(section_of(name)).split())
    rows = answer_case(shipped(name)).as_dict()["printed"]
    departures = [row["says"] for row in rows if not row["agrees"] and not row["says"].startswith("control")]
    assert [says for says in departures if says not in text] == []
