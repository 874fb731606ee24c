"""Scenario + seed → arrays: what arrives, when, how long, and what it shares.

Where to look: `build` joins the rest into a `Load` · `arrivals` when queries come · `lengths` token counts and what
fits the context · `prefixes` which prompts begin alike · `sessions` queries that follow one another, each with all that
said before · `rates` a rate that follows the day, and what of it reaches the model · `rate_day` a file's peak and its
mean day · `traces` recorded loads · `tables` files with rows.
"""

from planner.workload.arrivals import open_arrivals, unit_gaps
from planner.workload.build import build_load
from planner.workload.lengths import draw_tokens
from planner.workload.rate_day import days_of_rates, peak_and_day, whole_and_mean_day
from planner.workload.rates import Rates, Reaching, closing_row, rates_of, reaching, varied_arrivals
from planner.workload.sessions import session_span_s, session_warmup, turns_due
from planner.workload.traces import Recording, read_recording

__all__ = [
    "Rates",
    "Reaching",
    "Recording",
    "build_load",
    "closing_row",
    "days_of_rates",
    "draw_tokens",
    "open_arrivals",
    "peak_and_day",
    "rates_of",
    "reaching",
    "read_recording",
    "session_span_s",
    "session_warmup",
    "turns_due",
    "unit_gaps",
    "varied_arrivals",
    "whole_and_mean_day",
]
