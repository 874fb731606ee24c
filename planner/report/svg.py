"""A chart as inline SVG that takes the page's colours: drawn by matplotlib in stand-in colours, which become CSS
variables; text stays text, in the page's own font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator

# Stand-ins, unlike each other and never pure black, which matplotlib leaves out of what it writes. The sheet
# templates/style.css gives each its true colour, light and dark: Okabe and Ito's, told apart with any colour vision.
INK, SOFT, RULE, PAPER = "#101112", "#5f6062", "#d0d1d2", "#fdfefd"
BLUE, AMBER, SKY, PINK = "#0072b2", "#e69f00", "#56b4e9", "#cc79a7"
GOOD, BAD = "#009e73", "#d55e00"
SERIES = (BLUE, AMBER, PINK, SKY)
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    RULE: "--rule",
    PAPER: "--paper",
    BLUE: "--blue",
    AMBER: "--amber",
    SKY: "--sky",
    PINK: "--pink",
    GOOD: "--good",
    BAD: "--bad",
}
WIDTH_IN = 4.8  # 346 units: a phone's width, so that text is drawn at about its own size there
NARROW_IN = 4.2  # three of a row
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" is a dollar
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9.5,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_URL = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family:[^;]*;?\s*|font: ([\d.]+px)[^;]*(;?)")


def draw(name: str, height_in: float, paint: Callable[[Figure], None], width_in: float = WIDTH_IN) -> str:
    """The SVG element that `paint` draws on an empty figure of this size.

    `name` must be the chart's own on its page: every id within begins with it. The same chart gives the same text.
    """
    buffer = io.StringIO()
    style: Any = {**_STYLE, "svg.hashsalt": name}  # its type differs between matplotlib's versions
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing.*")
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


def _inline(document: str, name: str) -> str:
    """The SVG file as an element of an HTML page: no prologue, no metadata, no sheet, no namespaces, own ids."""
    root = ElementTree.fromstring(document)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in ("metadata", "style") or child.tag == "metadata":
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {key: _attribute(key, value, name) for key, value in element.attrib.items()}
        if _HREF in element.attrib:
            element.set("href", f"#{name}-{element.attrib.pop(_HREF).removeprefix('#')}")
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.get('id')}")
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("aria-hidden", "true")  # the figure around it has the words, the table below it the numbers
    root.set("focusable", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key not in ("style", "fill", "stroke", "clip-path"):
        return value
    value = _URL.sub(lambda found: f"url(#{name}-{found[1]})", value)
    value = _FONT.sub(lambda found: f"font-size: {found[1]}{found[2]}" if found[1] else "", value)
    for colour, variable in VARIABLES.items():
        value = value.replace(colour, f"var({variable})")
    return value


# --- axes ---


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round places on a logarithmic axis from `low` to `high` > `low` > 0: two to `most` of them."""
    ticks: list[float] = []
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            factor * 10.0**power
            for power in range(_power(low) - 1, _power(high) + 1)
            for factor in factors
            if low <= factor * 10.0**power <= high
        ]
        if len(ticks) <= most:
            break
    if len(ticks) > most:  # many powers of ten: every other one, or fewer
        ticks = ticks[:: -(-len(ticks) // most)]
    if len(ticks) < 2:
        ticks = [tick for tick in MaxNLocator(most - 1).tick_values(low, high) if low <= tick <= high]
    return ticks


def set_ticks(axis: Any, places: list[float], words: Callable[[float], str]) -> None:
    """Exactly these ticks on one axis (`axes.xaxis` or `axes.yaxis`), with these words; none between."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter([words(place) for place in places]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round places on a linear axis from `low` to `high`."""
    return [float(tick) for tick in MaxNLocator(most).tick_values(low, high) if low <= tick <= high]


def _power(value: float) -> int:
    return int(f"{value:.0e}".split("e")[1])
