"""A flat price a month: what a query of it earns, and what the subscribers who ask most cost."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt
from statistics import NormalDist

from planner.economics.checks import positive
from planner.economics.demand import Demand
from planner.economics.lines import money_line
from planner.economics.revenue import Revenue, earned
from planner.errors import InputError
from planner.provenance import Provenance
from planner.units import DAYS_PER_MONTH

LEAST_CV = 0.001  # below, everybody asks the same: leave the tail out
HEAVY = (50.0, 90.0, 99.0, 99.9)  # percentiles of subscribers, by how much they ask


@dataclass(frozen=True)
class Subscription:
    """`usd_per_month` for whatever a subscriber asks, `queries_per_month` on average.

    `tail_cv`: coefficient of variation of a subscriber's queries, log-normal over the subscribers (None: nothing is
    said of heavy users). `days`: of the month that is meant (None: 365/12). Raises InputError on values out of range.
    """

    usd_per_month: float
    queries_per_month: float
    tail_cv: float | None = None
    days: float | None = None

    def __post_init__(self) -> None:
        positive("revenue.subscription.usd_per_month", self.usd_per_month)
        positive("revenue.subscription.queries_per_month", self.queries_per_month)
        if self.tail_cv is not None and not LEAST_CV <= self.tail_cv < inf:
            rule = f"must be a finite number >= {LEAST_CV}"
            raise InputError("revenue.subscription.tail.lognormal.cv", self.tail_cv, rule)
        if self.days is not None and not 1 <= self.days <= 31:
            raise InputError("revenue.subscription.days", self.days, "must be between 1 and 31")

    @property
    def month_days(self) -> float:
        """Days of a month."""
        return DAYS_PER_MONTH if self.days is None else self.days


@dataclass(frozen=True)
class Heavy:
    """A subscriber who asks more than `percentile` per cent of them do: queries, what they cost, what is left."""

    percentile: float
    queries_per_month: float
    cost_usd_per_month: float
    margin_usd_per_month: float


@dataclass(frozen=True)
class Subscribers:
    """`subscribers` who together ask the day's queries, and what serving one of them costs a month.

    From `break_even_queries_per_month` on a subscriber costs more than they pay. With a tail: `losing_share` of the
    subscribers do, and ask `losing_queries_share` of all queries; without one these are None and `heavy` is empty.
    Every query is taken to cost the same: cost.usd_per_query, training not in it.
    """

    subscribers: float
    usd_per_month: float
    queries_per_month: float
    cost_usd_per_month: float
    margin_usd_per_month: float
    break_even_queries_per_month: float
    losing_share: float | None
    losing_queries_share: float | None
    heavy: tuple[Heavy, ...]


def subscription_revenue(plan: Subscription, demand: Demand) -> Revenue:
    """usd_per_month ÷ queries_per_month, per query. The subscribers are as many as the day's queries need."""
    count = subscribers(plan, demand)
    per_day = plan.usd_per_month / plan.month_days
    line = money_line(f"subscribers, a day of a month of {plan.month_days:.4g}", count, "subscriber", per_day)
    return earned(plan.usd_per_month / plan.queries_per_month, "subscription", (line,))


def subscribers(plan: Subscription, demand: Demand) -> float:
    """Queries of a month ÷ queries_per_month."""
    return demand.day_queries * plan.month_days / plan.queries_per_month


def cost_to_serve(plan: Subscription, demand: Demand, usd_per_query: float) -> Subscribers:
    """What one subscriber costs, the average one and the heavy ones, at `usd_per_query` a query.

    Queries of a subscriber are log-normal (`law_of_use`): percentile p = exp(μ + σ·Φ⁻¹(p)); those beyond the
    break-even lose (`who_ask_more`). Raises InputError where a query costs nothing.
    """
    positive("usd_per_query", usd_per_query)
    mean, paid = plan.queries_per_month, plan.usd_per_month
    break_even = paid / usd_per_query
    losing = losing_queries = None
    heavy: tuple[Heavy, ...] = ()
    if plan.tail_cv is not None:
        law = law_of_use(mean, plan.tail_cv)
        losing, losing_queries = who_ask_more(break_even, law)
        heavy = tuple(_heavy(p, exp(law.inv_cdf(p / 100)), paid, usd_per_query) for p in HEAVY)
    return Subscribers(
        subscribers=subscribers(plan, demand),
        usd_per_month=paid,
        queries_per_month=mean,
        cost_usd_per_month=mean * usd_per_query,
        margin_usd_per_month=paid - mean * usd_per_query,
        break_even_queries_per_month=break_even,
        losing_share=losing,
        losing_queries_share=losing_queries,
        heavy=heavy,
    )


def law_of_use(mean: float, cv: float) -> NormalDist:
    """The normal law of the logarithm of use: log-normal use of this mean and coefficient of variation.

    σ² = ln(1 + cv²), μ = ln mean − σ²/2.
    """
    sigma = sqrt(log1p(cv**2))
    return NormalDist(log(mean) - sigma**2 / 2, sigma)


def who_ask_more(limit: float, law: NormalDist) -> tuple[float, float]:
    """The share of users who use more than `limit`, Φ((μ − ln limit)/σ), and their share of all use.

    The latter is Φ((μ + σ² − ln limit)/σ). `law` is `law_of_use`, in the unit of the limit.
    """
    mu, sigma = law.mean, law.stdev
    at = log(limit) if limit > 0 else -inf  # a limit too small for a float is one that everybody passes
    return NormalDist().cdf((mu - at) / sigma), NormalDist().cdf((mu + sigma**2 - at) / sigma)


def assumed_subscription(plan: Subscription) -> tuple[Provenance, ...]:
    """What was not given."""
    rows = []
    if plan.days is None:
        why = "not given: the mean month, 365/12"
        rows.append(Provenance("revenue.subscription.days", "assumed", why, f"{DAYS_PER_MONTH:.4g}", errs=""))
    if plan.tail_cv is not None:
        why = "a heavy user's query costs what any other does"
        rows.append(Provenance("revenue.subscription.tail: cost of a query", "assumed", why, errs="unknown"))
    return tuple(rows)


def _heavy(percentile: float, queries: float, paid: float, usd_per_query: float) -> Heavy:
    cost = queries * usd_per_query
    return Heavy(percentile, queries, cost, paid - cost)
