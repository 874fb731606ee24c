"""`planner export`."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import click

from planner.cli.monitored import Share, monitor_of, plan_to_watch, source_options
from planner.cli.options import LEAST_REQUESTS, MOST_REQUESTS, seconds
from planner.cli.output import compile_note
from planner.cli.serving import address, warn_of_open_door

if TYPE_CHECKING:
    from planner.drift import Drift
    from planner.observed import Observed

PORT = 9595


@click.command(short_help="A running fleet beside its plan: Prometheus metrics and a live page.")
@click.argument("source", metavar="PLAN")
@source_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="A further name under which it is asked for, as behind a proxy; may be repeated.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 takes any free one."
)
@click.option("--interval", type=seconds(), metavar="SECONDS", help="From one reading to the next.  [default: 15]")
@click.option(
    "--window", type=seconds(), metavar="SECONDS", help="What rates and means are taken over.  [default: 300]"
)
@click.option("--limit", type=Share(), metavar="SHARE", help="Departure that is no drift, as 0.15 or 15%.")
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
def export(
    source: str,
    prometheus: str | None,
    endpoints: tuple[str, ...],
    model_name: str | None,
    namespace: str | None,
    host: str,
    allowed: tuple[str, ...],
    port: int,
    interval: float | None,
    window: float | None,
    limit: float | None,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
) -> int:
    """Watch a running fleet: cost, revenue and margin of a query, capacity, drift from the plan by cause, as
    Prometheus metrics under /metrics and as a page under /, until Ctrl-C (exit code 130) or SIGTERM (0).

    PLAN is the JSON document that `planner plan --out` wrote, or a scenario or example, which is then planned first.
    The fleet is read where `monitor` of the scenario, --prometheus or --endpoint says: in the background, so that no
    scrape waits for it. What is not known is absent from a scrape, never zero.

    A token for the Prometheus server is taken from the environment, PROMETHEUS_TOKEN; a key for endpoints from
    PLANNER_API_KEY or OPENAI_API_KEY.

    \b
    planner export plan.json --endpoint http://127.0.0.1:8000
    planner export plan.json --prometheus http://127.0.0.1:9090 --port 9595
    """
    from planner.drift import drift, fleet_model
    from planner.emulator import listen
    from planner.exporter.hosts import allowed_hosts
    from planner.exporter.poller import Poller
    from planner.exporter.server import build_app, serve
    from planner.exporter.snapshot import plan_facts
    from planner.live.fleet import REAL, fleet_reader, percentiles_of

    listener = listen(host, port)
    with listener:
        warn_of_open_door(host)
        names = allowed_hosts(listener.getsockname()[0], host, allowed)
        plan = plan_to_watch(source, settings, requests, seed, model_name, namespace)
        monitor = monitor_of(plan.scenario, prometheus, endpoints, window, interval)
        reader = fleet_reader(
            monitor, percentiles=percentiles_of(plan.scenario.slo), engines_each=plan.engines_per_replica
        )
        with compile_note():
            model = fleet_model(plan)

        def analyse(observed: Observed) -> Drift:
            return drift(plan, observed, model, limit=limit)

        poller = Poller(reader, analyse, plan_facts(plan, monitor), monitor, log=_log)
        count = len(monitor.endpoints)
        asked = "Prometheus" if not count else "1 endpoint" if count == 1 else f"{count} endpoints"
        ready = (
            f"planner export: http://{address(listener.getsockname())}/metrics  {plan.scenario.name}, "
            f"{plan.replicas} x {plan.hardware} planned, {asked} read every {monitor.interval_s:g} s"
        )
        poller.start()
        try:
            ended = serve(build_app(poller.snapshot, REAL.unix_s, names), listener, lambda: click.echo(ready))
        finally:
            poller.stop()
    if ended == signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def _log(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more; the exporter goes on
        click.echo(f"planner: {line}", err=True)
