"""Scenario + seed → arrays: what arrives, when, how long, and what it shares.

Where to look: `build` joins the rest into a `Load` · `arrivals` when queries come · `lengths` token counts and what
fits the context · `prefixes` which prompts begin alike · `sessions` queries that follow one another, each with all that
was said before · `rates` a rate that follows the day · `traces` recorded loads · `tables` files with rows.
"""

from planner.workload.arrivals import open_arrivals, unit_gaps
from planner.workload.build import build_load
from planner.workload.lengths import draw_tokens
from planner.workload.rates import Rates, rates_of, varied_arrivals
from planner.workload.sessions import session_span_s, session_warmup, turns_due
from planner.workload.traces import Recording, read_recording

__all__ = [
    "Rates",
    "Recording",
    "build_load",
    "draw_tokens",
    "open_arrivals",
    "rates_of",
    "read_recording",
    "session_span_s",
    "session_warmup",
    "turns_due",
    "unit_gaps",
    "varied_arrivals",
]
