"""A scenario's money keys, with the catalogue and a simulated run, as the numbers that `economics` reckons with.

Where to look: `gpu_hours` what a GPU costs an hour (number, rate card, mix, owned) · `earnings` how queries earn and
how users wait · `assumed` what the scenario leaves unsaid · `document` the plan's JSON about money.
"""

from planner.pricing.assumed import assumed_answered, assumed_demand, assumed_prices, failing_leave
from planner.pricing.document import money_document
from planner.pricing.earnings import assumed_billing, leaving, patience_of, revenue_model, training_of
from planner.pricing.gpu_hours import Priced, check_rate_cards, priced

__all__ = [
    "Priced",
    "assumed_answered",
    "assumed_billing",
    "assumed_demand",
    "assumed_prices",
    "check_rate_cards",
    "failing_leave",
    "leaving",
    "money_document",
    "patience_of",
    "priced",
    "revenue_model",
    "training_of",
]
