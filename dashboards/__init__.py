"""Grafana dashboards and Prometheus alert rules, written by `python -m dashboards.build`.

`panels` the kinds of panel and the queries they take · `economics`, `fleet`, `against_plan` one dashboard each ·
`build` writes the JSON files and `alerts.yaml` beside it. Names of metrics come from the planner alone.
"""
