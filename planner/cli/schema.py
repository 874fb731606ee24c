"""`planner schema`."""

from __future__ import annotations

import click

from planner.cli.output import json_text


@click.command()
def schema() -> None:
    """The JSON Schema of a scenario file, for editors."""
    from planner.scenario import json_schema

    click.echo(json_text(json_schema()))
