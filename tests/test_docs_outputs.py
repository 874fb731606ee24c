"""What pages in docs/ show of the command line is what it prints."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from planner.cli.app import cli
from tools.docs_outputs import PAGES, ROOT, commands, part, refreshed

SHOWN = [(page, command) for page in PAGES for command in commands((ROOT / page).read_text())]


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_page_shows_what_the_command_prints(page: str, command: str):
    """`python tools/docs_outputs.py` mends it."""
    result = CliRunner().invoke(cli, shlex.split(command))
    assert result.exit_code == 0, result.output
    text = (ROOT / page).read_text()
    printed = dict.fromkeys(commands(text), "") | {command: result.stdout}
    assert text == refreshed(text, printed)


def test_a_part_is_as_many_paragraphs_as_it_shows_and_what_is_no_part_stays():
    output = "A\n  1\n\nB\n  2\n\nC\n  3\n"
    assert "B\n  2\n\nC\n  3" == part(output, "B\n  old\n\nC\n  old")
    assert "{json}" == part(output, "{json}")
