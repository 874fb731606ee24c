"""A fleet under load, step by step.

Read `reference` first: it is the specification of vLLM's scheduler in plain Python. `stepper` runs it against a step
cost, boundary by boundary; `replay` drives that over a whole load, the emulator by the wall clock. `kernel` (with its
files `kernel_*`) is the compiled twin for one replica; `fleet` (with its files `fleet_*`) puts many behind a router and
carries stages, sessions, closed loops and client limits; `outcome` turns a run into statistics. `load` says what
arrives. Nothing in this room knows what a GPU is.
"""
