"""The page in a real browser: no console error, nothing asked of a network, no overflow, no overlapping labels.

Needs Chromium (Debian's package, Google's, or playwright's). Without one the tests are skipped, unless TEST_CHROMIUM is
set. Screenshots stay in pytest's folder, or in the one that TEST_SCREENSHOTS names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.report.page import report_page
from tests.page_reader import SECTIONS
from tests.report_documents import full, infeasible, losing, unproved

DESKTOP, PHONE = (1280, 900), (390, 844)
VIEWS = [(*DESKTOP, False), (*DESKTOP, True), (*PHONE, False), (*PHONE, True)]
NAMES = ["desktop light", "desktop dark", "phone light", "phone dark"]
PAGES = {"full": full, "losing": losing, "unproved": unproved, "infeasible": infeasible}

# What is wider than the window, leaving out what scrolls within its own box and the insides of charts.
WIDER = """
[...document.querySelectorAll("body *")].filter(one => {
  const box = one.getBoundingClientRect();
  const inner = one.closest(".scroll") || one.closest(".unseen");
  return box.width > 0 && !inner && !one.ownerSVGElement && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(one => one.tagName + " " + one.textContent.slice(0, 40))
"""
# Pairs of words within one chart whose boxes overlap by more than a hair, and words that leave their chart.
CLASHES = """
[...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width).flatMap(svg => {
  const words = [...svg.querySelectorAll("text")].map(one => [one.textContent, one.getBoundingClientRect()]);
  const frame = svg.getBoundingClientRect(), found = [];
  words.forEach(([said, a], at) => {
    if (a.left < frame.left - 3 || a.right > frame.right + 3 || a.top < frame.top - 3 || a.bottom > frame.bottom + 3)
      found.push(svg.parentElement.parentElement.id + ": '" + said + "' leaves the chart");
    words.slice(at + 1).forEach(([other, b]) => {
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 3) found.push(svg.parentElement.parentElement.id + ": '" + said + "' over '" + other + "'");
    });
  });
  return found;
})
"""
SMALLEST = """
Math.min(...[...document.querySelectorAll("svg text")].map(one =>
  parseFloat(getComputedStyle(one).fontSize) * one.ownerSVGElement.getScreenCTM().a))
"""
COLOURS = """
["body", "svg text", "svg path[style*='--blue']", ".note"].map(place => {
  const style = getComputedStyle(document.querySelector(place));
  return place == "body" ? style.backgroundColor : place.includes("path") ? style.stroke + style.fill : style.color;
})
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, document in PAGES.items():
        (folder / f"{name}.html").write_text(report_page(document()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize(("width", "height", "dark"), VIEWS, ids=NAMES)
def test_the_page_opens_from_disk_without_a_console_message_and_asks_nothing_of_a_network(
    tab, pages, pictures, name, width, height, dark
):
    tab.open(pages[name], width, height, dark=dark)
    picture = tab.screenshot(pictures / f"{name}-{width}-{'dark' if dark else 'light'}.png")
    assert [] == tab.troubles
    assert [pages[name].resolve().as_uri()] == tab.requested
    assert len(picture) > 50_000  # a blank page of this size compresses to a tenth of that
    expected = "rgb(23, 24, 26)" if dark else "rgb(253, 252, 249)"
    assert expected == tab.value("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_window_even_with_the_numbers_opened(tab, pages, name, width, height):
    tab.open(pages[name], width, height, dark=False)
    tab.value('document.querySelectorAll("details").forEach(one => one.open = true)')
    assert width == tab.value("document.documentElement.scrollWidth")
    assert [] == tab.value(WIDER)


@pytest.mark.parametrize("name", ["full", "losing"])
@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_words_in_a_chart_neither_overlap_nor_leave_it_and_can_be_read(tab, pages, name, width, height):
    tab.open(pages[name], width, height, dark=False)
    assert tab.value('document.querySelectorAll("svg text").length') > 100
    assert [] == tab.value(CLASHES)
    assert tab.value(SMALLEST) >= 9  # CSS pixels


def test_charts_take_the_colours_of_the_scheme(tab, pages):
    tab.open(pages["full"], *DESKTOP, dark=False)
    light = tab.value(COLOURS)
    tab.open(pages["full"], *DESKTOP, dark=True)
    assert all(one != other for one, other in zip(light, tab.value(COLOURS), strict=True))


def test_the_policy_stops_a_script_that_got_into_the_page(tab, tmp_path):
    page = tmp_path / "injected.html"
    page.write_text(report_page(full()).replace("</body>", "<script>document.title = 'ran'</script></body>"))
    tab.open(page, *DESKTOP, dark=False)
    assert "AI search, answer page" == tab.value("document.title")
    assert any("Content Security Policy" in trouble for trouble in tab.troubles)


def test_the_page_prints_on_a_few_sheets_of_a4(tab, pages):
    tab.open(pages["full"], *DESKTOP, dark=True)
    paper = tab.pdf()
    assert paper.startswith(b"%PDF")
    assert 5 <= paper.count(b"/Type /Page\n") <= 15
    assert b"/MediaBox [0 0 594.95996 841.91998]" in paper or b"/MediaBox [0 0 595" in paper


def test_links_in_the_page_lead_to_its_sections(tab, pages):
    tab.open(pages["full"], *DESKTOP, dark=False)
    lost = '[...document.querySelectorAll("nav a")].filter(one => !document.querySelector(one.hash)).length'
    assert len(SECTIONS) == tab.value('document.querySelectorAll("nav a").length')
    assert 0 == tab.value(lost)
