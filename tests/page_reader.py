"""A plan's page as a test reads it: elements, sections, values."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link", "wbr", "col", "source"}
SECTIONS = ["limits", "spare", "latency", "capacity", "cost", "day", "break-even", "waterfall", "uncertainty"]
SECTIONS += ["candidates", "fleet", "provenance", "definitions"]
CHARTS = ["latency-ttft", "latency-tpot", "latency-itl", "latency-e2e", "capacity", "day-queries", "day-cost"]
CHARTS += ["break-even-qps", "break-even-rpm", "break-even-price", "waterfall-usd", "waterfall-gpus", "tornado"]


class Reader(HTMLParser):
    """Elements with their attributes, the text of each section, the values of `data`; whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.values: dict[str, list[float]] = {}
        self.section = ""
        self.text = ""
        self.feed(page)
        self.close()
        assert [] == self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "section":
            self.section = found["id"] or ""
            self.sections[self.section] = ""
        if tag == "data":
            self.values.setdefault(self.section, []).append(float(found["value"] or "nan"))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.section:
            self.sections[self.section] += data.replace("\N{NO-BREAK SPACE}", " ")

    def ids(self) -> list[str]:
        return [found["id"] for _, found in self.elements if found.get("id")]
