"""What stands above one plan: many of them, and runs of real servers beside the simulation.

`sweep` over the values of one or two keys · `drafts`, `recorded_draft` scenarios to begin with · `loadtest` a run's
answer, `loadtest_stopped` that of one that was stopped too early, `loadtest_warnings` and `loadtest_overload` what must
be known beside it, `loadtest_capacity` the search for the most load, `loadtest_curves` its pictures' columns ·
`compare` two runs, with `paired` for intervals and `settings` for what was set otherwise.
"""
