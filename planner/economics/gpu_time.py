"""What arithmetic takes of a GPU: seconds at a share of its peak."""

from __future__ import annotations

FLOP_PER_PARAMETER = 2.0  # of a token served: a multiply and an add for each parameter that it passes
FLOP_PER_PARAMETER_TRAINED = 6.0  # of a token trained on: forward and backward pass (Kaplan et al. 2020)


def model_flop(parameters: float, tokens: float, per_parameter: float = FLOP_PER_PARAMETER) -> float:
    """FLOP of so many tokens through so many parameters."""
    return parameters * tokens * per_parameter


def gpu_seconds(flop: float, peak_flops: float, mfu: float) -> float:
    """FLOP ÷ (peak FLOP/s · MFU): seconds of one GPU. MFU: useful FLOP per second ÷ peak (PaLM, arXiv 2204.02311)."""
    return flop / (peak_flops * mfu)
