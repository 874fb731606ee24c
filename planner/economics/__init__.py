"""What a fleet costs, what its queries earn, and what would make the two equal.

Reading order: `demand` (queries over one day), `cost` (fleet and prices -> $ per hour, query and million tokens),
`revenue` (ads -> $ per query), `margins` (what is left, and the values at which nothing is), `answer` (the
page that joins them). Everything is arithmetic on plain numbers: nothing here knows of GPUs, models or latencies.
A value that was not given stays None all the way to the answer; it never becomes zero.
"""

from planner.economics.answer import Economics, HourOfDay, unit_economics
from planner.economics.cost import Cost, CostLine, Prices, cost_lines, fleet_cost, usd_per_hour
from planner.economics.demand import Demand, day_queries, demand_at_own_rate, queries_by_hour, utilisation_by_hour
from planner.economics.margins import BreakEven, Margin, break_even, margin
from planner.economics.revenue import Ads, Revenue, ad_revenue

__all__ = [
    "Ads",
    "BreakEven",
    "Cost",
    "CostLine",
    "Demand",
    "Economics",
    "HourOfDay",
    "Margin",
    "Prices",
    "Revenue",
    "ad_revenue",
    "break_even",
    "cost_lines",
    "day_queries",
    "demand_at_own_rate",
    "fleet_cost",
    "margin",
    "queries_by_hour",
    "unit_economics",
    "usd_per_hour",
    "utilisation_by_hour",
]
