"""The command `planner`: one short file per verb, which reads, calls and writes.

Where to look: `app` the verbs and what an error becomes · `options` what verbs share, and how a scenario is found ·
`output` JSON, tables, files, progress · `plan`, `simulate`, `capacity`, `sweep`, `validate`, `emulate`, `economics`,
`loadtest`, `calibrate`, `init`, `manifests`, `export`, `drift`, `report`, `catalogue`, `schema` the verbs; of
`loadtest`: `loadtest_runs` what it does, `loadtest_process` Locust as a process, `loadtest_watch` what is seen
meanwhile, `loadtest_extras` files beside it; of `economics`: `economics_scenario`, `economics_years` ·
`plan_documents` a plan from its JSON, or planned now · `monitored` what `export` and `drift` read a fleet by ·
`serving` what verbs that listen share.
Whatever is slow to import (numba, pandas, matplotlib, scipy) is imported inside a verb, so that help comes at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]

_INTERRUPTED = 130  # as `app` has it, which may not be there yet


def main() -> NoReturn:
    """Run the command line of this process. Ctrl-C while it is still being imported is told as any later one."""
    try:
        from planner.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except SystemExit as ended:
        if ended.code != _INTERRUPTED:
            raise
    # Not by sys.exit: where Ctrl-C came into an exec(), as dataclasses make, `python -m` would die of the signal.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(_INTERRUPTED)
