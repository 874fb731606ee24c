"""`planner export`: a running fleet beside its plan, as Prometheus metrics and a live page.

`snapshot` what is known at one moment · `poller` reads and compares on threads of its own · `collector` a snapshot as
metrics · `page` the snapshot as HTML · `server` the port that both stand behind.
"""
