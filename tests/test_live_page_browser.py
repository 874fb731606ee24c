"""The live page in a real browser: no console message, nothing asked of a network, no overflow, colours of the scheme.

Needs Chromium; without one the tests are skipped, unless TEST_CHROMIUM is set. Screenshots stay in pytest's folder, or
in the one that TEST_SCREENSHOTS names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.exporter.page import live_page
from tests.live_snapshots import SNAPSHOTS
from tests.test_report_page_browser import DESKTOP, PHONE, WIDER

VIEWS = [(*DESKTOP, False), (*DESKTOP, True), (*PHONE, False), (*PHONE, True)]
NAMES = ["desktop light", "desktop dark", "phone light", "phone dark"]

# Relative luminance and contrast as WCAG 2.2 defines them, of every text against the page.
CONTRAST = """
(() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(one => one / 255);
    const [r, g, b] = parts.map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("body *")].filter(one => [...one.childNodes].some(
    node => node.nodeType == 3 && node.data.trim())).map(one => {
      const ink = light(getComputedStyle(one).color);
      return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), one.textContent.slice(0, 30)];
    }).filter(([ratio]) => ratio < 4.5);
})()
"""
SCROLLED = '[...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth).length'
SMALLEST = """
Math.min(...[...document.querySelectorAll("body *")].filter(one => [...one.childNodes].some(
  node => node.nodeType == 3 && node.data.trim())).map(one => parseFloat(getComputedStyle(one).fontSize)))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("live")
    for name, snapshot in SNAPSHOTS.items():
        (folder / f"live-{name.replace(' ', '-')}.html").write_text(live_page(snapshot()), encoding="utf-8")
    return {name: folder / f"live-{name.replace(' ', '-')}.html" for name in SNAPSHOTS}


@pytest.mark.parametrize("name", list(SNAPSHOTS))
@pytest.mark.parametrize(("width", "height", "dark"), VIEWS, ids=NAMES)
def test_the_page_opens_without_a_console_message_asks_nothing_and_does_not_scroll_sideways(
    tab, pages, pictures, name, width, height, dark
):
    tab.open(pages[name], width, height, dark=dark)
    picture = tab.screenshot(pictures / f"{pages[name].stem}-{width}-{'dark' if dark else 'light'}.png")
    assert [] == tab.troubles
    assert [pages[name].resolve().as_uri()] == tab.requested
    assert len(picture) > 30_000
    assert width == tab.value("document.documentElement.scrollWidth")
    assert [] == tab.value(WIDER)
    assert 0 == tab.value(SCROLLED)
    expected = "rgb(23, 24, 26)" if dark else "rgb(253, 252, 249)"
    assert expected == tab.value("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("name", ["losing", "blind"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_can_be_read(tab, pages, name, dark):
    tab.open(pages[name], *PHONE, dark=dark)
    assert [] == tab.value(CONTRAST)
    assert tab.value(SMALLEST) >= 12  # CSS pixels


def test_bars_and_lines_are_seen(tab, pages):
    tab.open(pages["whole"], *PHONE, dark=False)
    widths = tab.value(
        '[...document.querySelectorAll("#causes .bar span")].map(one => one.getBoundingClientRect().width)'
    )
    assert 6 == len(widths)
    assert widths[1] == max(widths) > 100  # token lengths
    line = tab.value(
        '(box => [box.width, box.height])(document.querySelector(".past path.actual").getBoundingClientRect())'
    )
    assert line[0] > 250
    assert line[1] > 5
