"""Units. Names of quantities end in their unit: _s _ms _bytes _gib _usd _qps _tokens."""

from __future__ import annotations

GIB = 2**30  # bytes in one GiB
MS_PER_S = 1000.0
S_PER_HOUR = 3600.0
HOURS_PER_DAY = 24
TOKENS_PER_PRICE = 1_000_000  # list prices are per million tokens
