"""One fleet through whole days, hour by hour, beside the fleet that a perfect scaler would run.

Where to look: `answer` the one door, and the document · `perfect` the fewest replicas at each moment's rate · `bills`
what hours of replicas cost, and one fleet beside another. The run itself is `deployment.days`.
"""

from planner.days.answer import Days, simulate_days

__all__ = ["Days", "simulate_days"]
