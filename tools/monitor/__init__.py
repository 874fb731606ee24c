"""One machine's whole monitoring: emulated fleet, load, exporter, a real Prometheus that scrapes both, the live page.

`stack` the processes, each a context that stops what it started · `prometheus` its configuration and a client for
questions in PromQL · `__main__` is `make monitor`.
"""
