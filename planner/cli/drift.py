"""`planner drift`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.monitored import Share, monitor_of, plan_to_watch, source_options
from planner.cli.options import LEAST_REQUESTS, MOST_REQUESTS, OutputFile, seconds
from planner.cli.output import compile_note, json_text, progress_bar, warn, write_file
from planner.errors import DataFileError, EndpointError
from planner.scenario.monitor import Monitor

if TYPE_CHECKING:
    from planner.observed import Observed
    from planner.planned import Planned

BEYOND = 1
MOST_BYTES = 2**20  # a window has some 3 kB


@click.command(short_help="Which assumption of a plan no longer holds, and what it costs.")
@click.argument("source", metavar="PLAN")
@source_options
@click.option("--window", type=seconds(), metavar="SECONDS", help="What rates and means are taken over.")
@click.option("--limit", type=Share(), metavar="SHARE", help="Departure that is no drift, as 0.15 or 15%.")
@click.option(
    "--observed",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Judge the window in FILE, as --save-observed wrote it, and ask nobody.",
)
@click.option(
    "--save-observed", "save", type=OutputFile((".json",)), metavar="FILE", help="Keep the window that was read."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of a scenario: change a key; may be repeated."
)
@click.option(
    "--requests",
    type=click.IntRange(LEAST_REQUESTS, MOST_REQUESTS),
    metavar="N",
    help="Of a scenario: queries to count in a run of the plan.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of a scenario: random seed.  [default: 0]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def drift(
    source: str,
    prometheus: str | None,
    endpoints: tuple[str, ...],
    model_name: str | None,
    namespace: str | None,
    window: float | None,
    limit: float | None,
    recorded: Path | None,
    save: Path | None,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
    as_json: bool,
) -> int:
    """Hold a running fleet against its plan: what a query costs beside what was planned, how much of the difference is
    due to traffic, token lengths, cache hits, step speed, utilisation and price, and what to change.

    PLAN is the JSON document that `planner plan --out` wrote, or a scenario or example, which is then planned first.
    The fleet is read where `monitor` of the scenario, --prometheus or --endpoint says. The limit is the plan's own
    confidence, at least 10 %.

    Exit code 1: cost per query or a part of it is beyond the limit, a service level is missed, part of the fleet did
    not answer, or it serves another model than the plan's. 3: nobody answered.

    \b
    planner drift plan.json --endpoint http://127.0.0.1:8000 --window 60
    planner drift plan.json --observed window.json --limit 15%
    """
    sources = [name for name, given in (("--prometheus", prometheus), ("--endpoint", endpoints)) if given]
    if len(sources) > 1 or (recorded is not None and sources):
        raise click.UsageError(f"give only one of {', '.join([*sources, *(['--observed'] if recorded else [])])}.")
    if recorded is not None and (window is not None or save is not None):
        raise click.UsageError("--window and --save-observed are of a fleet that is read, not of --observed.")
    plan = plan_to_watch(source, settings, requests, seed, model_name, namespace)
    observed = _recorded(recorded) if recorded is not None else _read(plan, prometheus, endpoints, window)
    if save is not None:
        write_file(save, json_text(observed.as_dict()))
    if observed.blind or not observed.replicas:
        first = observed.troubles[0] if observed.troubles else None
        came = "nobody answered" if first is None else first.text
        asked = "what the fleet does"
        raise EndpointError("fleet" if first is None else first.source, asked, came, "see planner drift --help")
    from planner.drift import drift as compare
    from planner.drift import fleet_model

    with compile_note():
        result = compare(plan, observed, fleet_model(plan), limit=limit)
    for trouble in result.document["troubles"]:
        warn(f"{trouble['source']}: {trouble['text']}")
    click.echo(json_text(result.as_dict()) if as_json else str(result))
    return 0 if result.within else BEYOND


def _recorded(path: Path) -> Observed:
    """The window in a file."""
    from planner.observed import read_observed

    where = f"observed {path}"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataFileError(where, None, f"is larger than {MOST_BYTES // 2**10} KiB: no window is")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataFileError(where, None, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):  # not UTF-8, not JSON
        raise DataFileError(where, None, "is not JSON; write it with planner drift --save-observed FILE") from None
    return read_observed(document, where)


def _read(plan: Planned, prometheus: str | None, endpoints: tuple[str, ...], window: float | None) -> Observed:
    """Ask the fleet."""
    from planner.live.fleet import percentiles_of, read_fleet

    own = plan.scenario.monitor
    polled_s = Monitor().interval_s if own is None else own.interval_s
    # The interval is the poller's, which does not run here: a short window need not hold two of them.
    interval_s = None if window is None or window >= 2 * polled_s else max(window / 2, 1.0)
    monitor = monitor_of(plan.scenario, prometheus, endpoints, window, interval_s)
    with progress_bar() as show:
        told = None if show is None else lambda spent, whole: show("watching the fleet [s]", round(spent), round(whole))
        return read_fleet(
            monitor,
            percentiles=percentiles_of(plan.scenario.slo),
            engines_each=plan.engines_per_replica,
            progress=told,
        )
