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

from planner.cli.app import main

__all__ = ["main"]
