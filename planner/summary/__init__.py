"""Documents as text: the same dicts that `--json` prints, put in words for a terminal.

Where to look: `plan`, `simulation`, `capacity` say what stands in which order, one file an answer; they join the
blocks of `service` (limits, latencies, the running engine), `money` (bill, margin, break-even, the day), `candidates`
(ranked, rejected) and `origins` (where numbers come from, definitions); `layout` wraps and aligns, `words` writes
single numbers. Nothing is computed here that the document does not hold, but ratios of two figures shown side by
side. A field that is absent or null is left out or said in words; it never becomes a number.
"""

from planner.summary.capacity import capacity_text
from planner.summary.plan import plan_text
from planner.summary.simulation import simulation_text

__all__ = ["capacity_text", "plan_text", "simulation_text"]
