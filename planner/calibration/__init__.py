"""Calibration: what load tests say about the step cost of one deployment. The method: docs/calibration.md.

Reading guide: `replayed` makes a recorded run ready (its deployment, its sends as a Load) and simulates it · `steps`
reads off the records what every engine step had to do · `rows` turns that into equations in the parts of the step
cost · `fit` solves them robustly · `frontend` refines what stands before the engine by simulation · `identify` refuses
what the records cannot tell · `answer` is the verb, `compared` holds a run against the simulator (`tested`: only with
the scenario that it was sent by).
"""

from planner.calibration.answer import Calibrated, calibrate
from planner.calibration.compared import ReplayComparison, compare_recordings
from planner.calibration.replayed import RecordedRun, recorded_runs, replay_run

__all__ = [
    "Calibrated",
    "RecordedRun",
    "ReplayComparison",
    "calibrate",
    "compare_recordings",
    "recorded_runs",
    "replay_run",
]
