"""The live page: a running fleet beside its plan, for those who have no Grafana.

One document that loads nothing and runs nothing; the browser asks for it again by itself. Everything on it is in the
snapshot: `page_words` the answer in sentences, `page_tables` tiles and tables, `page_chart` the past,
`page_figures` numbers and bars; `templates` the HTML and what its sheet adds to that of `planner report`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from planner.exporter import page_tables as tables
from planner.exporter.page_chart import Past, history
from planner.exporter.page_words import reading, sentence, states
from planner.exporter.snapshot import Snapshot
from planner.summary.words import capitalised, clean, gpu_name, together

REFRESH_S = 15


@dataclass(frozen=True)
class Page:
    """What the template shows, from top to bottom; empty parts are left out but for their heading."""

    title: str
    fleet: str
    states: tuple[tuple[str, str], ...]
    sentence: str
    reading: str
    taken: str
    alarming: bool
    tiles: tuple[tables.Tile, ...]
    history: tuple[Past, ...]
    causes: tuple[tables.Row, ...]
    mends: tuple[tuple[str, str], ...]
    limits: tuple[tables.Row, ...]
    quantities: tuple[tables.Row, ...]
    savings: tuple[tables.Row, ...]
    troubles: tuple[tables.Row, ...]
    counts: tuple[tuple[str, int], ...]
    down: tuple[str, ...]
    notes: tuple[str, ...]
    assumed: tuple[tuple[str, str], ...]


def live_page(snapshot: Snapshot) -> str:
    """The page of a snapshot as HTML. What the snapshot does not know is "not known", never 0."""
    document = clean(dict(snapshot.drift or {}))
    plan = snapshot.plan
    where = [plan.model_name, gpu_name(plan.hardware), plan.namespace]
    found = states(snapshot, document)
    taken = snapshot.taken_unix_s
    page = Page(
        title=clean(plan.scenario_name),
        fleet=clean(" · ".join(part for part in where if part)),
        states=found,
        sentence=clean(sentence(snapshot, document)),
        reading=reading(snapshot),
        taken="" if taken is None else f"{datetime.fromtimestamp(taken, UTC):%Y-%m-%d %H:%M:%S} UTC",
        alarming=snapshot.stale,
        tiles=tables.tiles(snapshot, document),
        history=history(snapshot),
        causes=tables.causes(document),
        mends=tables.mends(document),
        limits=tables.limits(snapshot),
        quantities=tables.quantities(document),
        savings=tables.savings(document),
        troubles=tables.troubles(snapshot),
        counts=tuple((clean(reason), count) for reason, count in sorted(snapshot.trouble_counts.items()) if count),
        down=tables.down(snapshot),
        notes=tuple(capitalised(str(note)) for note in document.get("notes") or ()),
        assumed=tables.assumed(document),
    )
    return _template().render(page=page, refresh_s=REFRESH_S)


@functools.cache
def _template() -> Template:
    loader = ChoiceLoader([PackageLoader("planner.exporter"), PackageLoader("planner.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["together"] = together
    return environment.get_template("live.html")
