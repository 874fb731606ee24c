"""What a model's signature says of its numbers: the unit and range of an input, the unit and formula of an output.

A model is a plain function on floats. Its parameters are `Annotated[float, Given(unit, least, most)]`, its answer is a
frozen dataclass of `Annotated[float, Made(unit, formula)]`; a case reads the units off the signature and hands over
numbers in them. A formula names inputs and outputs of the same model, all in their declared units; it is shown with
the numbers in place, and a test computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated

from planner.errors import InputError


@dataclass(frozen=True)
class Given:
    """An input's unit ("" = a plain number) and its range; `above`: `least` itself is not allowed."""

    unit: str = ""
    least: float = 0.0
    most: float = inf
    above: bool = False


@dataclass(frozen=True)
class Why:
    """Why an input that is not given has its default: shown as an assumption."""

    text: str


@dataclass(frozen=True)
class Made:
    """An output's unit and how it follows from the inputs and from outputs above it ("" = told in the model's text)."""

    unit: str = ""
    formula: str = ""


Share = Annotated[float, Given("", 0, 1)]
PositiveShare = Annotated[float, Given("", 0, 1, above=True)]
GrossMargin = Annotated[float, Given("", -inf, 1)]
Factor = Annotated[float, Given("", 0, above=True)]
Number = Annotated[float, Given("", -inf)]
Usd = Annotated[float, Given("USD")]
UsdPerQuery = Annotated[float, Given("USD/query")]
UsdPer1000Tokens = Annotated[float, Given("USD/ktoken")]
UsdPerMillionTokens = Annotated[float, Given("USD/Mtoken")]
UsdPerGpuHour = Annotated[float, Given("USD/gpu/hour", 0, above=True)]
UsdPerServerHour = Annotated[float, Given("USD/server/hour", 0, above=True)]
UsdPerUserMonth = Annotated[float, Given("USD/user/month")]
WordsPer1000Tokens = Annotated[float, Given("word/ktoken", 0, above=True)]
Params = Annotated[float, Given("param", 0, above=True)]
Tokens = Annotated[float, Given("token", 0, above=True)]
FlopPerParamToken = Annotated[float, Given("FLOP/param/token", 0, above=True)]
PeakTflopPerS = Annotated[float, Given("TFLOP/s/gpu", 0, above=True)]
Gpus = Annotated[float, Given("gpu", 0, above=True)]
Days = Annotated[float, Given("day", 0, above=True)]
BytesPerParam = Annotated[float, Given("byte/param", 0, above=True)]
GbPerGpu = Annotated[float, Given("GB/gpu", 0, above=True)]
GflopPerToken = Annotated[float, Made("GFLOP/token", "params × flop_per_param_token ÷ 10^9")]
RunFlop = Annotated[float, Made("FLOP", "params × tokens × flop_per_param_token")]

FORWARD = Why("a forward pass multiplies and adds once a parameter: 2 FLOP per parameter and token")
FORWARD_AND_BACK = Why("forward and backward pass without recomputing activations: 6 FLOP per parameter and token")


def cached_within(cached_tokens: float, input_tokens: float) -> None:
    """Raise InputError unless the cached tokens can be part of the input's."""
    if cached_tokens > input_tokens:
        rule = f"must be at most input_tokens (= {input_tokens:g}), which hold the cached ones"
        raise InputError("cached_tokens", cached_tokens, rule)
