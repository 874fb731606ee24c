"""`planner report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.options import OutputFile
from planner.cli.output import write_file
from planner.cli.plan_documents import plan_document

STDOUT = "-"


class _PageFile(OutputFile):
    """A file to write, or "-": standard output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value) == STDOUT else super().convert(value, param, ctx)


@click.command(short_help="A plan as one HTML page that needs nothing else.")
@click.argument("source", metavar="PLAN")
@click.option(
    "--out",
    type=_PageFile(),
    metavar="FILE",
    help="Write the page to FILE, - is standard output (default: PLAN's name with .html, in the current folder).",
)
@click.option("--waterfall", is_flag=True, help="Of a scenario: also plan what each option takes off the fleet.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of a scenario: change a key; may be repeated."
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a scenario: queries to count in a run, after its warm-up.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of a scenario: random seed.  [default: 0]")
def report(
    source: str,
    out: Path | str | None,
    waterfall: bool,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
) -> None:
    """A plan as one HTML page: it loads nothing, opens from disk, prints, in light and dark.

    PLAN is the JSON document that `planner plan --out` wrote, or a scenario or example, which is then planned first.
    The page has the answer, latencies against their limits, the sizes tried, cost and revenue over the day,
    break-even, options, uncertainty, candidates and where each number comes from. A plan that no fleet fits has a page
    too: exit code 0.

    \b
    planner report ai-search
    planner plan scenario.yaml --out plan.json && planner report plan.json --out plan.html
    """
    path = Path(source)
    target = _PageFile().convert(f"{path.stem}.html", None, None) if out is None else out
    if target != STDOUT and path.exists() and Path(target).exists() and path.samefile(target):
        raise click.UsageError(f"{source}: the page would overwrite it; give another --out FILE.")
    document, where = plan_document(source, settings, requests, seed, waterfall=waterfall)
    from planner.report.page import report_page

    page = report_page(document, where)
    if target == STDOUT:
        click.echo(page)
        return
    write_file(Path(target), page)
    end = "" if document["feasible"] else ": no fleet fits, the page says why"
    click.echo(f"wrote {target} ({len(page.encode()) / 1000:,.0f} kB){end}")
