"""What stands above one plan: many of them, and runs of real servers beside the simulation.

`sweep` over the values of one or two keys · `waterfall` a plan without its options, then with one after the other
(`waterfall_options`) · `scenario_economics` what an owner asks of a plan's money: `best_slo`, `levers`
(`answer_length`, `model_sizes`), `years` with `years_rates` the years ahead, and in `reconcile` its cost on four
bases; they run what the plan chose (`chosen`, `fleet_runs`), with other token counts (`token_counts`), and put what
they find into it (`added`) · `uncertainty` how sure a plan is, a package · `simulated_cases` the source documents'
cases that simulate · `drafts`, `recorded_draft` scenarios to begin with · `loadtest` a run's answer,
`loadtest_stopped` that of one that was stopped too early, `loadtest_warnings` and `loadtest_overload` what must be
known beside it, `loadtest_capacity` the search for the most load, `loadtest_curves` its pictures' columns · `compare`
two runs, with `paired` for intervals and `settings` for what was set otherwise.
"""
