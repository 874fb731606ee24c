"""The group of verbs, and what becomes of errors: exit codes and one line on standard error.

0 answered · 1 no fleet fits, no load holds, a load test's run is invalid, a fleet drifts · 2 bad input · 3 the
endpoint failed · 130 interrupted · 141 the reader of our output went away.
An exception that nobody raised on purpose is a defect and leaves its traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from planner.cli.calibrate import calibrate
from planner.cli.capacity import capacity
from planner.cli.catalogue import catalogue
from planner.cli.drift import drift
from planner.cli.economics import economics
from planner.cli.emulate import emulate
from planner.cli.export import export
from planner.cli.init import init
from planner.cli.loadtest import loadtest
from planner.cli.manifests import manifests
from planner.cli.output import one_line
from planner.cli.plan import plan
from planner.cli.report import report
from planner.cli.schema import schema
from planner.cli.simulate import simulate
from planner.cli.sweep import sweep
from planner.cli.validate import validate
from planner.errors import PlannerError

BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
PATIENCE_S = 0.8  # for the main thread to clean up after Ctrl-C
SHOW_CURSOR = "\x1b[?25h"
_said = threading.Event()  # that the run was interrupted


class _Verbs(click.Group):
    """A group whose `main` always ends the process, with this program's own exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which they are needed, not of the alphabet."""
        return list(self.commands)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name or "planner", **extra)
            sys.stdout.flush()
        except PlannerError as error:
            code = _refuse(str(error), error.exit_code)
        except click.ClickException as error:
            code = _refuse(error.format_message(), BAD_INPUT)
        except (click.Abort, KeyboardInterrupt):
            code = _interrupted()
        except BrokenPipeError:
            code = _reader_gone()
        except (
            OSError
        ) as error:  # files are checked where they are opened: this is standard output, on a full disk, say
            _reader_gone()
            code = _refuse(f"cannot write the answer: {error.strerror or error}", BAD_INPUT)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. click itself would answer a closed pipe with 1, which here means that nothing fits."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _reader_gone()


def _interrupted() -> int:
    """Say so, and leave at once where threads are still simulating: the interpreter would wait for them to end."""
    _said.set()
    click.echo("interrupted", err=True)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        _leave()
    return INTERRUPTED


def _leave() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


def _watch_for_interrupt() -> None:
    """Leave a moment after Ctrl-C even where the main thread cannot: it sees a KeyboardInterrupt only between two
    steps of Python, not while compiled code runs or a pool of threads is being joined.
    """
    signals, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def watch(_wake: socket.socket = wake) -> None:  # the default keeps the socket open
        while signal.SIGINT not in signals.recv(1):
            pass
        time.sleep(PATIENCE_S)
        if sys.stderr.isatty():
            click.echo(SHOW_CURSOR, err=True, nl=False)  # a progress bar hides it
        if not _said.is_set():
            click.echo("interrupted", err=True)
        _leave()

    threading.Thread(target=watch, daemon=True).start()


def _reader_gone() -> int:
    # The interpreter flushes once more at exit; that must not fail again.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def _refuse(message: str, code: int) -> int:
    click.echo(f"planner: error: {one_line(message)}", err=True)
    return code


@click.group(
    name="planner",
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="vllm-capacity-planner", prog_name="planner", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """How many GPUs serve this many queries per second within these latencies, what does one query cost, and does its
    ad revenue pay for it?

    SCENARIO is a YAML file, or the name of a shipped example such as ai-search. Answers go to standard output,
    progress and errors to standard error. Exit codes: 0 answered, 1 no fleet fits, no load holds, a load test is
    invalid or a fleet drifts beyond its limit, 2 bad input, 3 the endpoint failed, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for verb in (
    init,
    plan,
    sweep,
    simulate,
    capacity,
    economics,
    emulate,
    loadtest,
    calibrate,
    validate,
    manifests,
    export,
    drift,
    report,
    catalogue,
    schema,
):
    cli.add_command(verb)


def main() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show "≤" gets "?", not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    _watch_for_interrupt()
    cli.main()
