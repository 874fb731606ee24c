"""The pieces that the source documents' arithmetic is made of: pure functions of numbers in declared units.

`tokens` (words, tokens, list prices, levers), `flops` (arithmetic as a cost), `servers` (measured throughput, whole
servers), `training`, `memory`, `quality` (equal loss), `trajectory` (years), `revenue`, `energy`, `arithmetic` (single
operations on anything) and `sensitivity` (elasticities, break-even values). A signature says each number's unit and
range (`fields`), so that a case can hand over "19.22 USD/hour" and be refused "19.22 CNY/hour". Called from Python a
function takes floats in those units and trusts them; ranges are checked where a case is read.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from planner.economics.models import (
    arithmetic,
    energy,
    flops,
    memory,
    quality,
    revenue,
    servers,
    tokens,
    training,
    trajectory,
)

Model = Callable[..., Any]

_ALL: tuple[Model, ...] = (
    tokens.token_budget,
    tokens.list_price,
    tokens.served_cost,
    tokens.api_call,
    tokens.idle,
    tokens.optimised,
    flops.flop_per_token,
    flops.flop_basis,
    flops.time_on_chip,
    flops.utilisation_of_serving,
    flops.utilisation_of_training,
    servers.server_basis,
    servers.littles_law,
    servers.fleet_of_servers,
    servers.phase_fleet,
    servers.cost_factor,
    memory.state_memory,
    memory.serving_memory,
    training.training_flop,
    training.training,
    training.training_time,
    training.trainable_tokens,
    training.annual_programme,
    training.amortised,
    training.inference_crossover,
    training.grossed_up,
    quality.chinchilla_loss,
    trajectory.growth_per_year,
    trajectory.declined,
    trajectory.years_to,
    trajectory.per_iteration,
    trajectory.hardware_share,
    revenue.search_volume,
    revenue.ad_revenue_per_query,
    revenue.subscription,
    revenue.usage_tail,
    revenue.per_word,
    revenue.api_revenue,
    energy.average_power,
    energy.electricity,
    arithmetic.product,
    arithmetic.quotient,
    arithmetic.total,
    arithmetic.difference,
    arithmetic.ratio,
    arithmetic.reduction,
    arithmetic.combined_reduction,
    arithmetic.discounted,
    arithmetic.margin_of_price,
    arithmetic.rounded,
    arithmetic.in_unit,
)

# Name in a case file -> function.
MODELS: Mapping[str, Model] = MappingProxyType({model.__name__: model for model in _ALL})

__all__ = ["MODELS", "Model"]
