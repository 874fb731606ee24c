"""The page from top to bottom: its sections in order, and their parts put into the template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from planner.report.page import answer, break_even, money, options, service, spare, uncertainty
from planner.report.page.document import checked
from planner.report.page.parts import Chart, Fact, Table
from planner.report.page.words import definitions
from planner.summary.plan import NO_PROOF

Document = dict[str, Any]
UNNAMED = "A plan without a name"
_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|GB|GiB|USD|GPUs?)\b|%)|(?<=[×≤]) |(?<=\bTP) (?=\d)")


@dataclass(frozen=True)
class Section:
    """One section: its anchor, its title, and what stands in it, in the order of the fields."""

    name: str
    title: str
    intro: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole page, ready for the template."""

    title: str
    sentence: str
    warnings: tuple[str, ...]
    feasible: bool
    tiles: tuple[Fact, ...]
    breaks: tuple[str, ...]
    sections: tuple[Section, ...]


def report_page(plan_document: Mapping[str, Any], where: str = "plan document") -> str:
    """The page of the document of a plan (`Plan.as_dict()`, or what `planner plan --out` wrote), as HTML.

    An infeasible plan has a page too: what rejected which candidate. Raises DataFileError on what is no plan's
    document, which its message calls `where`. The same document gives the same page.
    """
    document = checked(plan_document, where)
    feasible = bool(document["feasible"])
    page = Page(
        title=document["scenario"].get("name") or UNNAMED,
        sentence=answer.sentence(document),
        warnings=tuple(f"{line.removesuffix('.')}." for line in document.get("warnings") or []),
        feasible=feasible,
        tiles=answer.tiles(document) if feasible else (),
        breaks=answer.breaks(document) if feasible else answer.infeasible(document),
        sections=tuple(_feasible(document) if feasible else _infeasible(document)),
    )
    environment = Environment(
        loader=PackageLoader("planner.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["prose"] = _prose
    return environment.get_template("page.html").render(page=page)


def _prose(line: str) -> Markup:
    """A sentence with what stands between backticks as code, and numbers that stay with their units."""
    parts = [escape(part) for part in _UNIT.sub("\N{NO-BREAK SPACE}", line).split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _feasible(document: Document) -> list[Section]:
    return [
        _limits(document),
        *([_spare(document)] if document["fleet"]["spare_replicas"] else []),
        _latency(document),
        _capacity(document),
        _cost(document),
        _day(document),
        _break_even(document),
        _waterfall(document),
        _uncertainty(document),
        _candidates(document),
        _fleet(document),
        _provenance(document),
        Section("definitions", "Definitions", words=definitions(document)),
    ]


def _infeasible(document: Document) -> list[Section]:
    limits = service.bare_limits(document)
    return [
        Section("limits", "Limits", tables=_given(limits), notes=() if limits else ("No limits are given (slo).",)),
        _candidates(document),
        *([_provenance(document)] if document.get("provenance") else []),
        Section("definitions", "Definitions", words=definitions(document)),
    ]


def _limits(document: Document) -> Section:
    serving = service.serving_of(document)
    tables = []
    for key, count in (("at_peak", serving), ("one_fewer", serving - 1)):
        table = service.limits_table(document, key)
        if table is not None:
            replicas = "replica" if count == 1 else "replicas"
            tables.append(_captioned(table, f"{count} {replicas} serving{', as planned' if key == 'at_peak' else ''}"))
    rule = "The upper end of the figure's 95 % interval is judged where there is one, else the figure itself."
    missing = () if tables else ("No limits are given (slo): nothing is judged.",)
    notes = () if document.get("one_fewer") else (answer.smaller(document),)
    saturated = ("More arrives than is served: these figures are of a finite run.",)
    swamped = saturated if document["at_peak"].get("saturated") else ()
    return Section("limits", "Limits at the peak", (rule, *swamped), tables=tuple(tables), notes=(*missing, *notes))


def _spare(document: Document) -> Section:
    said, title = spare.words(document), "The proof of the spare"
    if not said:
        return Section("spare", title, notes=(NO_PROOF,))
    return Section("spare", title, said, facts=spare.facts(document), tables=_given(spare.limits_table(document)))


def _latency(document: Document) -> Section:
    charts = service.latency_charts(document)
    intro = (
        "Each picture: how the latencies of the run spread, above; its percentiles below, with the 80 % band in which "
        "the measured figure should lie four times in five. A judged percentile and its limit are in the colour of "
        "the dashed line."
    )
    none = ("The document holds no histograms of latencies.",)
    return Section(
        "latency", "Latency against the limits", (intro,) if charts else (), charts=charts, notes=() if charts else none
    )


def _capacity(document: Document) -> Section:
    chart = service.capacity(document)
    intro = (
        "Each size of fleet that was simulated at the peak. A dot is the figure, the bar above it reaches to the upper "
        "end that the limit judges; hollow dots are shorter runs."
    )
    if chart is None:
        return Section("capacity", "How the size was found", notes=(answer.smaller(document),))
    said = tuple(line for line in (intro, service.knee_words(document)) if line)
    return Section("capacity", "How the size was found", said, charts=(chart,), notes=service.run_facts(document))


def _cost(document: Document) -> Section:
    tables = (
        money.bill(document),
        money.price_parts(document),
        money.earnings(document),
        money.margin(document),
        money.abandonment(document),
    )
    notes = money.money_notes(document)
    if not any(tables) and not notes:
        notes = ("No GPU price and no revenue are given.",)
    return Section("cost", "Cost and revenue", tables=_given(*tables), notes=notes)


def _day(document: Document) -> Section:
    charts, shape = money.day_charts(document), money.load_shape(document)
    if not charts:
        return Section("day", "The day", notes=("The document holds no day.",))
    alike = len({hour.get("queries") for hour in document["day"]}) == 1
    intro = "The fleet is on, and paid for, all day: a query costs most when the fewest ask."
    scaled = money.autoscaled(document)
    if scaled is not None:
        intro = "Replicas are started and stopped by the autoscaler, and paid for from their start to their end."
    elif alike:
        intro = "No day is given (traffic.day), or a flat one: every hour is alike."
    notes = money.load_shape_notes(document) if shape else ()
    notes += money.autoscaled_notes(document)
    return Section("day", "The day", (intro,), charts=charts, tables=_given(scaled, shape), notes=notes)


def _break_even(document: Document) -> Section:
    charts = break_even.break_even_charts(document)
    if not charts:
        return Section(
            "break-even", "Break-even", notes=("Needs a GPU price and a revenue: one of them is not given.",)
        )
    intro = (
        "The margin of a query as one value moves, the fleet and all else unchanged. Dashed: more traffic than the "
        "fleet was sized for, where it may not hold its limits."
    )
    return Section("break-even", "Break-even", (intro,), charts=charts)


def _waterfall(document: Document) -> Section:
    table = options.waterfall_table(document)
    if table is None:
        how = "The document holds none: `planner plan SCENARIO --waterfall --out FILE` adds it."
        return Section("waterfall", "What each option is worth", notes=(how,))
    intro = (
        "The options of the scenario put back one after the other, each a plan of its own. Green is what an option "
        "takes off, orange what it adds. Alone: what it removes by itself. Interaction: what it removes in this order "
        "less what it removes alone."
    )
    charts, notes = options.waterfall_charts(document), options.waterfall_warnings(document)
    return Section("waterfall", "What each option is worth", (intro,), charts=charts, tables=(table,), notes=notes)


def _uncertainty(document: Document) -> Section:
    if not document.get("uncertainty"):
        how = "The document holds no draws: give the scenario `uncertainty`, then `planner plan SCENARIO --out FILE`."
        return Section("uncertainty", "What moves the answer", notes=(how,))
    chart = uncertainty.tornado(document)
    tables = _given(uncertainty.inputs_table(document), uncertainty.checked_table(document))
    return Section(
        "uncertainty",
        "What moves the answer",
        facts=uncertainty.facts(document),
        charts=() if chart is None else (chart,),
        tables=tables,
        notes=uncertainty.notes(document),
    )


def _candidates(document: Document) -> Section:
    tables = _given(options.candidates_table(document), options.rejected_table(document))
    return Section("candidates", "Candidates", (options.candidates_note(document),), tables=tables)


def _fleet(document: Document) -> Section:
    tables = _given(service.memory_table(document), service.engine_table(document))
    return Section("fleet", "The fleet at the peak", facts=service.work(document), tables=tables)


def _provenance(document: Document) -> Section:
    table = options.provenance_table(document)
    if table is None:
        return Section("provenance", "Where the numbers come from", notes=("The document holds no sources.",))
    intro = (
        "The weakest first. Optimistic: the truth is likely worse than the answer because of this number; pessimistic: "
        "it is likely better."
    )
    return Section("provenance", "Where the numbers come from", (intro,), tables=(table,))


def _given(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _captioned(table: Table, caption: str) -> Table:
    return replace(table, caption=caption)
