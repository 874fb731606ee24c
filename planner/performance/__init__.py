"""Performance: model × GPU × engine settings -> `StepCost`, the numbers the simulator runs on.

Reading guide: `step` gathers the terms of one engine (`ledger` holds them meanwhile, `layers` those of the transformer
layers) into a `breakdown`, whose sum is the step cost. Equations: `gemm`, `experts`, `attention`, `collectives`,
`terms`. Which kernel runs: `paths` (dense), `expert_kernels`. `uncertainty` draws other possible worlds; `roofline` is
the naive model that all this is held against. `constants` reads the CSV files in `data/`, where every number has unit,
source, fit error and date; tools/fit_kernels.py and tools/fit_overheads.py write them.
"""

from planner.performance.breakdown import BALANCED_RANKS, Breakdown, Term
from planner.performance.constants import log_spreads
from planner.performance.step import breakdown, step_cost
from planner.performance.uncertainty import RUN_TO_RUN, draw_factors, layered_normals

__all__ = [
    "BALANCED_RANKS",
    "RUN_TO_RUN",
    "Breakdown",
    "Term",
    "breakdown",
    "draw_factors",
    "layered_normals",
    "log_spreads",
    "step_cost",
]
