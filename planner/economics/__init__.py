"""What a fleet costs, what its queries earn, and what would make the two equal.

Reading order: `demand` (queries over one day), `cost` (fleet and prices -> $ per hour, query and million tokens),
`margins` (what is left, and the values at which nothing is), `answer` (the page that joins them).
What a GPU-hour is made of: `gpu_price`, from a `mix` of commitments or from `ownership`. What a query earns: `earnings`
picks among `revenue` (ads), `subscription` and `sales` (tokens, words); `abandonment` takes off what waiting loses.
Beside the bill: `allocation` (busy and idle), `load_shape` (a fleet that follows the day), `amortisation` (training);
`paid_hours` makes it that of a fleet that an autoscaler starts and stops.
The model calls' cost said in four ways: `bases`, and in `basis_gaps` what lies between them; `gpu_time` has what FLOP
take of a GPU.
The source documents' arithmetic: `cases`, made of `models`, with units by `quantity`.
Everything is arithmetic on plain numbers: nothing here knows of GPUs, models or how latencies came about.
A value that was not given stays None all the way to the answer; it never becomes zero.
"""

from planner.economics.abandonment import Lost, Patience, lost_in_day, lost_queries, net_of, stay_shares
from planner.economics.allocation import Allocation, allocation
from planner.economics.amortisation import Training, training_usd_per_query
from planner.economics.answer import Economics, HourOfDay, unit_economics
from planner.economics.cost import (
    Cost,
    CostLine,
    Prices,
    all_in_gpu_hour_usd,
    bought_per_query,
    cache_usd_per_day,
    cost_lines,
    fleet_cost,
    usd_per_hour,
)
from planner.economics.demand import Demand, day_queries, demand_at_own_rate, queries_by_hour, utilisation_by_hour
from planner.economics.earnings import RevenueModel, revenue_of
from planner.economics.gpu_price import PricePart, parts_usd
from planner.economics.lines import MoneyLine
from planner.economics.load_shape import LoadShape, Size, following_usd, load_shape
from planner.economics.margins import BreakEven, Margin, break_even, margin
from planner.economics.mix import Commitment, assumed_mix, mixed
from planner.economics.ownership import Ownership, assumed_ownership, owned
from planner.economics.paid_hours import PaidHours, committed_replicas, paid_usd_by_hour
from planner.economics.revenue import Abandonment, Ads, Revenue, ad_revenue
from planner.economics.sales import Api, PerWord
from planner.economics.subscription import Subscribers, Subscription, cost_to_serve

__all__ = [
    "Abandonment",
    "Ads",
    "Allocation",
    "Api",
    "BreakEven",
    "Commitment",
    "Cost",
    "CostLine",
    "Demand",
    "Economics",
    "HourOfDay",
    "LoadShape",
    "Lost",
    "Margin",
    "MoneyLine",
    "Ownership",
    "PaidHours",
    "Patience",
    "PerWord",
    "PricePart",
    "Prices",
    "Revenue",
    "RevenueModel",
    "Size",
    "Subscribers",
    "Subscription",
    "Training",
    "ad_revenue",
    "all_in_gpu_hour_usd",
    "allocation",
    "assumed_mix",
    "assumed_ownership",
    "bought_per_query",
    "break_even",
    "cache_usd_per_day",
    "committed_replicas",
    "cost_lines",
    "cost_to_serve",
    "day_queries",
    "demand_at_own_rate",
    "fleet_cost",
    "following_usd",
    "load_shape",
    "lost_in_day",
    "lost_queries",
    "margin",
    "mixed",
    "net_of",
    "owned",
    "paid_usd_by_hour",
    "parts_usd",
    "queries_by_hour",
    "revenue_of",
    "stay_shares",
    "training_usd_per_query",
    "unit_economics",
    "usd_per_hour",
    "utilisation_by_hour",
]
