"""`planner emulate`."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path

import click

from planner.cli.options import OutputFile, read_scenario
from planner.cli.serving import address as address_of
from planner.cli.serving import warn_of_open_door

MOST_REPLICAS = 256

FAULTS = """\b
Faults, for testing clients: KIND:SHARE of all requests with --fault, or KIND for
one request in its header x-planner-fault or its JSON field planner_fault; behind
either may stand ;after=TOKENS (default 1) and, with 429, ;retry-after=SECONDS.
  429, 500      refused before any work
  drop          connection closed between two events of the answer
  reset         connection reset (RST) within the answer
  half-event    half an event, then the connection is closed
  stall         nothing more is sent, the connection stays open
  invalid-json  one event of broken JSON
  wrong-usage   one token too many in usage
--fault slow-start:SECONDS lets /health answer 503 for so long."""


@click.command(short_help="A server that behaves as vLLM on that hardware would, on the wall clock.", epilog=FAULTS)
@click.argument("source", metavar="SCENARIO")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the scenario.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes any free one."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_REPLICAS),
    help="Engines behind the port (default: fleet.replicas, or 1).",
)
@click.option("--served-model-name", metavar="NAME", help="What the model is called (default: as vLLM would).")
@click.option("--fault", "faults", multiple=True, metavar="KIND:SHARE", help="Misbehave; see below. May be repeated.")
@click.option("--record", type=OutputFile(), help="Write when each request came and each of its tokens was due.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of faults and random routing.")
def emulate(
    source: str,
    settings: tuple[str, ...],
    host: str,
    port: int,
    replicas: int | None,
    served_model_name: str | None,
    faults: tuple[str, ...],
    record: Path | None,
    seed: int,
) -> int:
    """An OpenAI-compatible server that behaves as vLLM would with this model, hardware and engine.

    It schedules as vLLM does and takes the time that the simulator says, step by step; the tokens are made up. It
    serves /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /health, /version and /metrics until
    Ctrl-C (exit code 130) or SIGTERM (0).

    \b
    planner emulate chat-closed-loop --port 8000
    planner emulate ai-search --set hardware=h100-sxm-80gb --replicas 4
    """
    from planner.deployment import deploy, only_candidate
    from planner.deployment.failure_changes import control_of
    from planner.emulator import Settings, listen, model_names, parse_shares, serve
    from planner.emulator.fleet import beginning_tokens, refuse_unserved

    scenario = read_scenario(source, settings)
    shares, slow_start_s = parse_shares(faults)
    deployment = deploy(only_candidate(scenario, "emulate"))
    refuse_unserved(scenario)
    room = control_of(scenario, deployment.candidate.options.data_parallel_size).room
    names = model_names(served_model_name, deployment, scenario.model)
    count = replicas or scenario.fleet.replicas or 1
    listener = listen(host, port)
    warn_of_open_door(host)
    address = address_of(listener.getsockname())
    model, gpu = deployment.candidate.model.name, deployment.candidate.gpu.name
    ready = (
        f"planner emulate: http://{address}  {model} on {gpu}, {count} replica{'s' if count > 1 else ''}, "
        f"KV {deployment.kv.logged_tokens:,} tokens"
    )
    with listener, record.open("ab", buffering=0) if record else nullcontext() as file:
        ended = serve(
            deployment,
            Settings(names, count, shares, slow_start_s, seed, room, beginning_tokens(scenario)),
            listener,
            lambda: click.echo(ready),
            file,
        )
    if ended == signal.SIGINT:
        raise KeyboardInterrupt
    return 0
