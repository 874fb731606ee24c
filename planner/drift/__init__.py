"""A running fleet against its plan: what a query costs beside what was planned, cause by cause.

Where to look: `compare` the answer as one document · `actual` the fleet's window in the plan's terms · `work` how much
work a query is beside the plan's, asked of `model`, the planned fleet simulated under other conditions · `queries`
other token counts and prefixes as values of the scenario, `prefix` and `step_time` what a hit rate and a mean ITL say ·
`attribution` and `logmean` from factors to dollars · `capacity` what the fleet carries, replicas wanted, savings ·
`money`, `quantities` the rest of the document · `model_name` whether it is the plan's model that answers · `mends` what
to write into the scenario.
"""

from planner.drift.compare import Drift, drift, own_limit
from planner.drift.model import FleetModel, fleet_model

__all__ = ["Drift", "FleetModel", "drift", "fleet_model", "own_limit"]
