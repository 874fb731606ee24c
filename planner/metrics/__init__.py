"""Names of the metrics that `planner export` serves, and the alert rules over them.

`names` every `llm_*` metric with its help, labels and unit · `promql` queries by parts · `rules` the form of a rule ·
`burn_rates` the rules on service levels · `alerts` all groups of rules that a plan is watched by.
"""
