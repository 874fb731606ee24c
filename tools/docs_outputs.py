"""Bring what pages in docs/ show of the command line up to date: `python tools/docs_outputs.py`.

In a page, a block that holds `$ planner …` alone is a command; blocks after it whose first line the command prints are
parts of its output. Such a part is as many paragraphs as the block has. Other blocks are left alone.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("docs/economics-studies.md",)
BLOCK = re.compile(r"^```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\$ planner ([^\n]+)")


def refreshed(text: str, printed: dict[str, str]) -> str:
    """The page with its parts of outputs as `printed` by each command."""
    output: str | None = None

    def block(found: re.Match[str]) -> str:
        nonlocal output
        shown = found[1]
        command = COMMAND.fullmatch(shown)
        if command:
            output = printed[command[1]]
            return found[0]
        return found[0] if output is None else f"```\n{part(output, shown)}\n```"

    return BLOCK.sub(block, text)


def part(output: str, shown: str) -> str:
    """The paragraphs of an output that a block shows; the block itself where the output has no such beginning."""
    paragraphs, first = output.strip("\n").split("\n\n"), shown.split("\n", 1)[0]
    at = next((place for place, one in enumerate(paragraphs) if one.split("\n", 1)[0] == first), None)
    if at is None:
        return shown
    return "\n\n".join(paragraphs[at : at + len(shown.split("\n\n"))])


def commands(text: str) -> list[str]:
    """The commands of a page, without `planner`."""
    return [found[1] for block in BLOCK.finditer(text) if (found := COMMAND.fullmatch(block[1]))]


def run(command: str) -> str:
    """What a command prints."""
    words = [sys.executable, "-m", "planner", *shlex.split(command)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def main() -> None:
    """All pages anew."""
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        path.write_text(refreshed(text, {command: run(command) for command in commands(text)}), encoding="utf-8")


if __name__ == "__main__":
    main()
