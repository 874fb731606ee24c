"""Whatever plans or simulates many times.

`sweep` over the values of one or two keys · `waterfall` a plan without its options, then with one after the other
(`waterfall_options`) · `scenario_economics` what an owner asks of a plan's money: `best_slo`, `levers`
(`answer_length`, `model_sizes`), and in `reconcile` its cost on four bases; they run what the plan chose (`chosen`,
`fleet_runs`) · `uncertainty` how sure a plan is · `simulated_cases` the source documents' cases that simulate ·
`loadtest`, `compare`, `drafts` what load tests say, and what a server or its records say of a scenario.
"""
