"""The HTML page of a plan is self-contained and safe, whatever the names in it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from planner.report.page import report_page
from tests.page_reader import SECTIONS, Reader
from tests.report_documents import full


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return full()


@pytest.fixture(scope="module")
def page(document) -> Reader:
    return Reader(report_page(document))


def test_the_page_loads_nothing_and_runs_nothing(page, document):
    text = report_page(document)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in page.elements
    }
    for _, found in page.elements:
        assert not [name for name in found if name.startswith("on") or name in ("src", "srcset", "action", "ping")]
        assert (found.get("href") or "#").startswith("#")
    assert [] == re.findall(r"@import|https?:|//[a-z]|url\((?!#)|javascript:|expression\(", text)
    assert len(text.encode()) < 1_500_000


def test_a_policy_forbids_whatever_is_not_inline_style(page):
    policies = [
        found["content"] for tag, found in page.elements if found.get("http-equiv") == "Content-Security-Policy"
    ]
    assert ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"] == policies


def test_ids_are_unique_and_every_reference_within_the_page_leads_somewhere(page, document):
    ids = page.ids()
    assert sorted(set(ids)) == sorted(ids)
    text = report_page(document)
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(ids)
    assert set(SECTIONS) <= wanted


EVIL = "</style></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&`"


def _poisoned() -> dict[str, Any]:
    document = full()
    document["scenario"]["name"] = EVIL
    document["model"]["name"] = EVIL
    document["fleet"]["hardware"] = EVIL
    document["fleet"]["engine"][EVIL] = EVIL
    document["alternatives"][0]["hardware"] = EVIL
    document["alternatives"][2]["reason"] = EVIL
    document["provenance"][0] = dict.fromkeys(("what", "kind", "source", "value", "date", "errs"), EVIL)
    document["waterfall"][1]["step"] = EVIL
    document["uncertainty"]["tornado"][0]["name"] = EVIL
    document["uncertainty"]["inputs"][0]["law"] = EVIL
    document["cost_lines"][0]["what"] = EVIL
    document["cost"]["price"]["parts"][0][EVIL] = EVIL
    document["revenue"]["abandonment"]["source"] = EVIL
    document["at_peak"]["notes"] = [EVIL]
    document["economics_notes"] = [EVIL]
    document["warnings"] = [EVIL]
    document["waterfall"][0]["warnings"] = [f"{EVIL} of a row"]
    document["spare_proof"]["after"]["limits"][0]["key"] = document["at_peak"]["slo"][0]["key"] = EVIL
    document["spare_proof"]["after"]["limits"][1]["verdict"] = "holds"
    return document


def test_names_that_look_like_html_stay_text():
    text = report_page(_poisoned())
    found = Reader(text)
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
    assert "<script" not in text
    assert "<img" not in text
    assert 1 == sum(tag == "style" for tag, _ in found.elements)
    assert EVIL.replace("`", "") in found.text.replace("`", "")


ODD_NAMES = [
    ("", "A plan without a name", "an empty name"),
    (None, "A plan without a name", "no name"),
    ("a\x00b\x1b[31m", "a b [31m", "control characters"),
    ("\ud800 lone", "lone", "half of a surrogate pair"),
    ("\u202egnp.exe", "gnp.exe", "a mark that turns the writing around"),
    ("検索 🔍 $x^2$", "検索 🔍 $x^2$", "letters that the charts' font lacks, and dollars"),
]


@pytest.mark.parametrize(("name", "shown", "because"), ODD_NAMES, ids=[row[2] for row in ODD_NAMES])
def test_odd_names_are_shown_as_far_as_they_can_be(name, shown, because):
    document = full()
    document["scenario"]["name"] = name
    document["waterfall"][1]["step"] = name or "x"
    text = report_page(document)
    assert f"<title>{shown}</title>" in text
    text.encode()
