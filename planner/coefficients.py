"""What one engine step costs, as numbers: the only thing the simulator knows of hardware and model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StepCost:
    """Seconds that one engine step takes, and the seconds around a request.

    For a step of T scheduled tokens over n requests, of which B decode over K cached tokens:

        step = tokens_s[T] + requests_s[n]
             + [B > 0]·decode_attention_s + decode_token_s·K + window_token_s·Σ min(context, window)
             + Σ over prefills of prefill_token2_s·((p+c)² − p²) + prefill_window_s·(A(p+c) − A(p))
             + [any prefill]·prefill_step_s

    with p tokens computed before a chunk of c, and A(x) = ∫₀ˣ min(t, window) dt. `window` = 0 means that no layer
    is windowed. `tokens_s` has shape [max_num_batched_tokens + 1] and `requests_s` [max_num_seqs + 1]; both start
    with a 0 that is never read.

    `frontend_s + frontend_token_s · prompt` passes in the API server before the engine sees a request.

    `ranks_tokens_s`, empty or as long as `tokens_s`, is the part of `tokens_s` that hangs on the tokens of all
    data-parallel ranks together (routed experts, their exchange); `tokens_s` has it for ranks of T tokens each.
    """

    tokens_s: NDArray[np.float64]
    requests_s: NDArray[np.float64]
    decode_attention_s: float = 0.0
    decode_token_s: float = 0.0
    window: int = 0
    window_token_s: float = 0.0
    prefill_token2_s: float = 0.0
    prefill_window_s: float = 0.0
    prefill_step_s: float = 0.0
    frontend_s: float = 0.0
    frontend_token_s: float = 0.0
    ranks_tokens_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def step_s(self, decodes: Iterable[int], prefills: Iterable[tuple[int, int]]) -> float:
        """Seconds of one step.

        `decodes` gives the cached tokens of each decoding request, `prefills` the (computed before, chunk) of
        each prefilling one. Sums run in the order given, which is the scheduler's.
        """
        tokens = requests = context = windowed = decoding = 0
        for cached in decodes:
            tokens, requests, decoding = tokens + 1, requests + 1, decoding + 1
            context += cached
            windowed += min(cached, self.window)
        attention, any_prefill = 0.0, False
        for before, chunk in prefills:
            tokens, requests, any_prefill = tokens + chunk, requests + 1, True
            after = before + chunk
            attention += self.prefill_token2_s * (after * after - before * before)
            attention += self.prefill_window_s * (self.attended(after) - self.attended(before))
        seconds = float(self.tokens_s[tokens]) + float(self.requests_s[requests])
        if decoding:
            seconds += self.decode_attention_s + self.decode_token_s * context + self.window_token_s * windowed
        if any_prefill:
            seconds += attention + self.prefill_step_s
        return seconds

    def slower(self, factor: float) -> StepCost:
        """The same with every duration times `factor`."""
        durations = {name: value * factor for name, value in vars(self).items() if name != "window"}
        return replace(self, **durations)

    def attended(self, length: int) -> float:
        """∫₀^length min(t, window) dt: pairs of tokens that a windowed layer attends to."""
        if length <= self.window:
            return 0.5 * length * length
        return 0.5 * self.window * self.window + self.window * (length - self.window)
