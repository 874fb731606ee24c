"""Write docs/economics-cases.md: the shipped cases in short, how a case file is written, its models.

python tools/economics_cases.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel

from planner.economics.cases import Case, names, shipped, signature
from planner.economics.cases.schema import GRADES, Printed, Sensitivity, Source, Step, Variant
from planner.economics.cases.signature import Input, Output
from planner.economics.quantity import known_units
from planner.scenario.yaml_text import parse
from planner.studies.simulated_cases import ALL_MODELS, answer_case
from planner.summary.quantities import amount

Document = Mapping[str, Any]
WIDTH = 124
MOST = 3  # printed figures and assumptions that a section names, of each kind; the command has all
FAR = 0.01  # a figure that is further off says why
PAGE = Path(__file__).parents[1] / "docs" / "economics-cases.md"
OWN = """\
version: 1
name: my-search
title: Our answer page on one rented server
source: {document: "our invoice of October", grade: own}
days_per_month: 30                    # needed: the rent is per month
exchange_rates: {CNY: 7.1}            # needed: the rent is in CNY
steps:
  - id: server
    model: server_basis
    inputs:
      usd_per_server_hour: 110000 CNY/server/month
      batch: 64 requests/server
      seconds: 9 s
      input_tokens: 1800 tokens/request
      output_tokens: 300 tokens/request
      gpus: 8 gpus/server
    because: A load test's throughput at 64 requests at once.
  - id: fleet
    model: fleet_of_servers
    inputs:
      queries_per_s: 40 queries/s
      requests_per_s: $server.requests_per_s
      usd_per_server_hour: 110000 CNY/server/month
      utilisation: 0.6
      cache_hit_rate: 0.3
  - id: ads
    model: ad_revenue_per_query
    inputs: {usd_per_ad: 12 USD/1000 ads, ads_per_query: 1.5 ads/query, fill: 0.8}
  - id: share
    model: ratio
    inputs: {of: $fleet.usd_per_query, to: $ads.usd_per_query}
answer: "{fleet.servers} at {fleet.usd_per_query}: {share.ratio%} of what the ads earn."
variants:
  - {id: no_cache, changes: {fleet.cache_hit_rate: 0}, of: fleet.usd_per_query, because: without the cache}
sensitivity:
  of: share.ratio
  equals: 1
  inputs: [ads.usd_per_ad, ads.fill]
assumed:
  fleet.utilisation: room for the busiest hour
"""
HEAD = """# Economics cases

Made by `python tools/economics_cases.py`; a test compares. A case is a document's arithmetic as a file: steps with
typed quantities, the printed figures they are held against, what is assumed. Each system of the source documents
ships as one.

```
planner economics --list
planner economics two-stage-search-summarizer
planner economics two-stage-search-summarizer --set budget.fan_out=5
planner economics two-stage-search-summarizer --json
planner economics my-search.yaml                        # a case file of one's own
```

Each prints every step with its intermediate values, the case with other inputs, and what moves the answer. Here a case
is its answer, its printed figures beside ours, and where ours departs and why.

"Reproduced" is said only of a printed figure that ours meets within its tolerance and that should. A control (another
reading of the document) and an error of the document are held against ours too, and said not to reproduce, with
printed ÷ ours.
"""
UNITS = """## Quantities

A number with a unit is text: `19.22 USD/server/hour`, `0.02 USD/1000 tokens`, `60 USD/1000 ads`. A number without a
unit is a plain number. Units are joined by `*` and `/`, with whole exponents (`^2`); after a `/` a number may stand.

Known units: {units}.

USD and CNY are different things and meet only through `exchange_rates`; so do months and hours, through
`days_per_month`, and words and tokens, through an input `words_per_1000_tokens`. A query is a user's, a request is one
model call. A cent is a US cent. GB are 10⁹ bytes, GiB 2³⁰. A year has 365 days and 12 months.
"""


def page() -> str:
    """The whole page."""
    cases: list[Document] = [answer_case(shipped(name)).as_dict() for name in names()]
    told = [HEAD, _overview(cases), *(_case(case) for case in cases)]
    return "\n".join([*told, _own(), _keys(), UNITS.format(units=known_units()), _models()])


# --- the shipped cases ---


def _overview(cases: list[Document]) -> str:
    """A line for each case: what it works out, and how many printed figures that should reproduce do."""
    lines = ["## The shipped cases", "", "| case | what it works out | document | reproduced | errors, controls |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for case in cases:
        held, apart = _printed(case)
        due = sum(row["agrees"] for row in case["printed"])
        cells = [f"[{case['case']}](#{case['case']})", case["title"], _document(case)]
        cells.append(f"{len(held)} of {due}" if due else "–")
        lines.append(f"| {' | '.join(cells)} | {len(apart) or '–'} |")
    said = "–: the document prints no figure of it. Its errors and the controls are figures that ours should not meet."
    return "\n".join([*lines, "", *wrap(said, WIDTH), ""])


def _document(case: Document) -> str:
    """The document's name, without its author and date."""
    return str(re.split(r"[:,;]| \(| with ", case["source"]["document"])[0])


def _case(case: Document) -> str:
    """A short section: the answer's first sentence, printed against ours, where it departs and why, what is assumed."""
    held, apart = _printed(case)
    assumed = [row for row in case["provenance"] if row["kind"] == "assumed"]
    steps = {step["id"] for step in case["steps"]}
    assumed.sort(key=lambda row: row["what"].split(".")[0] not in steps)  # what a simulation assumes comes last
    first = re.split(r"(?<=\.) ", case["answer"])[0]
    lines = [f"### {case['case']}", "", *wrap(first, WIDTH), ""]
    lines += _items("Reproduced", [_figure(row) for row in held])
    lines += _items("Departs", [_figure(row) for row in apart])
    lines += _items("Assumed", [f"{row['what']} {row['value'] or ''}".rstrip() for row in assumed])
    return "\n".join([*lines, ""]) if lines[-1] else "\n".join(lines)


def _printed(case: Document) -> tuple[list[Document], list[Document]]:
    """Printed figures that are reproduced, and the others, errors of the document before controls."""
    held = [row for row in case["printed"] if row["verdict"] == "reproduced"]
    apart = [row for row in case["printed"] if row["verdict"] != "reproduced"]
    return held, sorted(apart, key=lambda row: row["says"].startswith("control"))


def _figure(row: Document) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    told = [] if row["within"] or not row["ratio"] else [f"{amount(row['ratio'])}x"]
    if row["says"] and abs(row["ours"] - row["value"]) > FAR * abs(row["value"]):
        told.append(row["says"])  # also of a figure that a wide tolerance, which it states, lets reproduce
    off = f" ({': '.join(told)})" if told else ""
    return f"`{row['output']}` {amount(row['value'], 6)}{unit}, ours {amount(row['ours'], 5)}{off}"


def _items(what: str, items: list[str]) -> list[str]:
    """One bullet with the first few, wrapped."""
    if not items:
        return []
    more = f"; {len(items) - MOST} more" if len(items) > MOST else ""
    return wrap(f"- {what}: {'; '.join(items[:MOST])}{more}.", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


# --- how a case file is written ---


def _own() -> str:
    answer = answer_case(Case.from_dict(parse(OWN, "case")))
    return f"""## A case of one's own

`my-search.yaml`:

```yaml
{OWN}```

```
$ planner economics my-search.yaml
{answer}
```
"""


def _keys() -> str:
    tables: list[tuple[str, type[BaseModel]]] = [
        ("The file", Case),
        ("`source`", Source),
        ("`steps[]`", Step),
        ("`printed[]`", Printed),
        ("`variants[]`", Variant),
        ("`sensitivity`", Sensitivity),
    ]
    grades = "; ".join(f"`{grade}` = {means}" for grade, means in GRADES.items())
    return "\n".join(
        ["## Keys of a case file", "", *(_table(title, model) for title, model in tables), f"Grades: {grades}.\n"]
    )


def _table(title: str, model: type[BaseModel]) -> str:
    rows = [f"{title}:", "", "| key | needed | what |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        says = " ".join((field.description or _of_its_own(name)).split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_needed(name, field.is_required())} | {says} |")
    return "\n".join([*rows, ""])


def _needed(name: str, required: bool) -> str:
    """`name` and `title` of a file are its own name where it gives none."""
    return "" if not required or name in ("name", "title") else "yes"


def _of_its_own(name: str) -> str:
    """Keys whose value is described by a table of its own, or by nothing but its name."""
    own = {
        "version": "1",
        "source": "where its figures come from",
        "printed": "figures of the document to be held against",
    }
    own |= {"variants": "the case with other inputs", "sensitivity": "how an output moves with single inputs"}
    return own[name]


def _models() -> str:
    lines = [
        "## Models",
        "",
        "What a step may name. An input in parentheses has a default; a range stands after its unit.",
        "",
        "| model | what | in | out |",
        "| --- | --- | --- | --- |",
    ]
    for name, model in ALL_MODELS.items():
        signed = signature(model)
        given = ", ".join(_input(item) for item in signed.inputs.values())
        made = ", ".join(_output(item) for item in signed.outputs.values())
        lines.append(f"| `{name}` | {signed.summary} | {given} | {made} |")
    return "\n".join([*lines, ""])


def _input(item: Input) -> str:
    unit = item.given.unit
    kinds = {"number": unit or "number", "quantity": "any unit", "text": "text", "choice": " or ".join(item.choices)}
    low = "" if item.given.least in (0, -inf) else f"from {item.given.least:g}"
    high = "" if item.given.most == inf else f"up to {item.given.most:g}"
    limits = " ".join(part for part in (low, high) if part)
    told = f"{'several, ' if item.many else ''}{kinds[item.kind]}{f' {limits}' if limits else ''}"
    text = f"`{item.name}` [{told}]"
    return text if item.required else f"({text})"


def _output(item: Output) -> str:
    if item.made is None:
        return f"`{item.name}` [as its inputs]"
    return f"`{item.name}`{f' [{item.made.unit}]' if item.made.unit else ''}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
