"""Where answers go: JSON, tables and files; and what stands on standard error meanwhile."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

Progress = Callable[[str, int, int], None]
PATIENCE_S = 0.7  # work that is done sooner shows no bar
LINE_EVERY_S = 10.0  # between lines of progress where there is no terminal


def json_text(document: Mapping[str, Any]) -> str:
    """One JSON document; what is not a finite number is null, never NaN."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_file(path: Path, data: str | bytes) -> None:
    """Write a whole file at once; a failure is one line, exit 2."""
    try:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise click.ClickException(f"cannot write {click.format_filename(path)}: {error.strerror}") from None


def show_and_write(show: Callable[[], None], files: Iterable[tuple[Path, Callable[[], str | bytes]]]) -> None:
    """Write the answer's files, each as its function makes it, and show the answer, whatever becomes of them.

    Then the first failure is raised, and others are told as warnings: hours of work are not lost for a full disk.
    """
    failures: list[Exception] = []
    for path, content in files:
        try:
            write_file(path, content())
        except Exception as failure:  # whatever it is, the answer comes first
            failures.append(failure)
    told = [one.format_message() if isinstance(one, click.ClickException) else str(one) for one in failures]
    try:
        show()
    except OSError:  # nobody reads the answer any more: then that is how this ends
        for text in told:
            warn(text)
        raise
    for text in told[1:]:
        warn(text)
    if failures:
        raise failures[0]


def one_line(text: str) -> str:
    """Text as one line without control characters: a server, or a file, chose part of it."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def warn(text: str) -> None:
    """One line on standard error."""
    click.echo(f"planner: warning: {one_line(text)}", err=True)


def warn_of(document: Mapping[str, Any]) -> None:
    """An answer's own `warnings`, also where its text goes elsewhere."""
    for text in document.get("warnings") or []:
        warn(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with rules and folded cells on a terminal, aligned columns elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
    else:
        click.echo(aligned(columns, rows))


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text with columns of equal width, two spaces apart."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (columns, *rows)
    )
    return "\n".join(lines)


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A function (what, done, total) that draws a bar on a terminal once the work takes a while; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begun = time.monotonic()
    with contextmanager(_stopped)(Progress(*columns, console=Console(stderr=True), transient=True)) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)
            if time.monotonic() - begun > PATIENCE_S:
                bar.start()

        yield show


def progress_lines() -> Progress:
    """A function (what, done, total) that says on standard error, every ten seconds, how far the work is."""
    told = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_EVERY_S:
            told = time.monotonic()
            click.echo(f"{what}: {done} of {total}", err=True)

    return show


def _stopped(bar: Any) -> Iterator[Any]:
    """Take the bar off the terminal whatever happens; it is started late, or never."""
    try:
        yield bar
    finally:
        bar.stop()


_SAID: set[str] = set()  # notes that a process gives once


@contextmanager
def compile_note() -> Iterator[None]:
    """Say so, once in a process, when numba really compiles: the first run after an installation takes a while."""
    from numba.core import event

    class _Note(event.Listener):
        def on_start(self, event: Any) -> None:
            if "compiling" not in _SAID:
                _SAID.add("compiling")
                click.echo("compiling the simulator (once, some twenty seconds)", err=True)

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", _Note()):
        yield
