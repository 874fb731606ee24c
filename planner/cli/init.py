"""`planner init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.options import OutputFile, seconds
from planner.cli.output import warn, write_file

if TYPE_CHECKING:
    from planner.readers.vllm_args import ServeArguments
    from planner.scenario.writing import Draft


@click.command(short_help="A scenario to begin with: from a server, its command line, or records.")
@click.option("--from", "url", metavar="URL", help="Read a running server: /v1/models, /version, /metrics.")
@click.option("--vllm-args", "arguments", metavar="TEXT", help="Read a vllm serve command line, given as one text.")
@click.option(
    "--records",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read a load test's records (ours, vllm bench's, GuideLLM's): lengths and arrivals are fitted.",
)
@click.option("--out", type=OutputFile((".yaml", ".yml")), metavar="FILE", help="Write there, not to standard output.")
@click.option("--force", is_flag=True, help="Overwrite the file of --out.")
@click.option(
    "--wait", type=seconds(zero=True), default=0.0, metavar="SECONDS", help="With --from: wait so long for it."
)
def init(
    url: str | None, arguments: str | None, records: Path | None, out: Path | None, force: bool, wait: float
) -> None:
    """A scenario with everything that can be read; what cannot is marked `fill in`.

    Without an option: a whole scenario of common values. A key for the server comes from the environment,
    PLANNER_API_KEY or OPENAI_API_KEY.

    \b
    planner init > scenario.yaml
    planner init --from http://127.0.0.1:8000 --out scenario.yaml
    planner init --vllm-args "vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2"
    """
    given = [name for name, value in (("--from", url), ("--vllm-args", arguments), ("--records", records)) if value]
    if len(given) > 1:
        raise click.UsageError(f"give only one of {' and '.join(given)}.")
    if out is not None and out.exists() and not force:
        raise click.UsageError(f"--out {out}: exists already; --force overwrites it.")
    from planner.readers.vllm_args import parse_serve_command
    from planner.scenario.writing import scenario_text
    from planner.studies.drafts import left_open

    command = None if arguments is None else parse_serve_command(arguments)
    draft = _draft(url, command, records, wait)
    text = scenario_text(draft)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_file(out, text)
    if command is not None:
        _tell_left_out(command)
    place = f" to {out}" if out is not None else ""
    click.echo(f"scenario written{place}; to fill in: {', '.join(left_open(draft)) or 'nothing'}", err=True)


def _tell_left_out(command: ServeArguments) -> None:
    """What of the command line is not in the scenario, so that nobody has to read the comments to know."""
    for note in command.notes:
        warn(note)
    if command.not_modelled:
        names = " ".join(command.not_modelled)
        warn(f"not carried over, though they change speed or memory: {names}")
    if command.others:
        names = " ".join(command.others)
        click.echo(f"not carried over (without effect on a plan, or not known here): {names}", err=True)


def _draft(url: str | None, command: ServeArguments | None, records: Path | None, wait_s: float) -> Draft:
    from planner.studies.drafts import blank_draft, draft_from_arguments, draft_from_server

    if url is not None:
        from planner.live import connect, server_facts, wait_ready

        endpoint = connect(url, option="--from")
        wait_ready(endpoint, wait_s)
        facts, read = server_facts(endpoint)
        return draft_from_server(facts, read, endpoint.url)
    if command is not None:
        return draft_from_arguments(command)
    if records is not None:
        from planner.readers.recording_files import read_recordings
        from planner.studies.recorded_draft import draft_from_records

        return draft_from_records(read_recordings(records)[0])
    return blank_draft()
