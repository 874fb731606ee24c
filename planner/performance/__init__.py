"""Performance: model × GPU × engine settings -> `StepCost`, the numbers the simulator runs on.

Reading guide: `step` adds the terms up and tabulates them; `terms` and `attention` hold one short function for each
term with its equation; `paths` decides which kernel a weight format runs on; `constants` reads the CSV files in
`data/`, where every number has unit, source, fit error and date.
"""

from planner.performance.step import step_cost

__all__ = ["step_cost"]
