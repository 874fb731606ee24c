"""Write docs/cli.md: the help of every verb, as the command prints it.

python tools/cli_docs.py
"""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.app import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

Made from the commands' own help by `python tools/cli_docs.py`; a test compares. Change the help, then run it.
"""
COLUMNS = 100


def page() -> str:
    """The whole page: the group's help, then that of each verb in the order of the group."""
    sections = [HEAD, _section(cli, "planner")]
    sections += [_section(verb, f"planner {name}") for name, verb in cli.commands.items()]
    return "\n".join(sections)


def _section(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path, terminal_width=COLUMNS, max_content_width=COLUMNS)
    # Sub-commands inherit this from the group; here each stands alone.
    context.help_option_names = ["-h", "--help"]
    return f"## {path}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
