"""Quality parity: the loss that a model of N parameters reaches on D tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.models.fields import Factor, Made, Params, Tokens, Why

FITTED = Why("Hoffmann et al. 2022 (arXiv 2203.15556), approach 3: a fit to text of their own")

# The paper's fit is of over 400 models, 70 M to 16 B parameters on 5 to 500 B tokens.
LIMITS = (
    "the law was fitted in 2022 to dense models of up to 16 B parameters on up to 500 B tokens of one text, cut into "
    "tokens alike; beyond that, and between families, it is extrapolated. Loss is not the quality of answers, which "
    "tuning on instructions changes too"
)
# Nats a token that two losses may be apart to be called equal: a choice. The 0.038 between a trillion parameters on
# 300 B tokens and Chinchilla are called a difference where the law is used (the case chinchilla-parity).
EQUAL_LOSS = 0.01


@dataclass(frozen=True)
class Loss:
    """The loss in nats a token, and its two terms above the entropy of text."""

    params_term: Annotated[float, Made("", "params_scale ÷ params ^ params_exponent")]
    tokens_term: Annotated[float, Made("", "tokens_scale ÷ tokens ^ tokens_exponent")]
    loss: Annotated[float, Made("", "entropy + params_term + tokens_term")]


def chinchilla_loss(
    params: Params,
    tokens: Tokens,
    entropy: Annotated[Factor, FITTED] = 1.69,
    params_scale: Annotated[Factor, FITTED] = 406.4,
    tokens_scale: Annotated[Factor, FITTED] = 410.7,
    params_exponent: Annotated[Factor, FITTED] = 0.34,
    tokens_exponent: Annotated[Factor, FITTED] = 0.28,
) -> Loss:
    """L = E + A ÷ N^α + B ÷ D^β, in nats a token. Models of equal loss are taken to be of equal quality."""
    of_params, of_tokens = params_scale / params**params_exponent, tokens_scale / tokens**tokens_exponent
    return Loss(of_params, of_tokens, entropy + of_params + of_tokens)
