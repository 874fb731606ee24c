"""Units. Names of quantities end in their unit: _s _ms _bytes _gib _usd _qps _tokens."""

from __future__ import annotations

GIB = 2**30  # bytes in one GiB
MS_PER_S = 1000.0
S_PER_HOUR = 3600.0
HOURS_PER_DAY = 24
MOST_DAYS = 7  # that one run goes through, and after which a file's rates begin anew at the latest
TOKENS_PER_PRICE = 1_000_000  # list prices are per million tokens
DAYS_PER_YEAR = 365
MONTHS_PER_YEAR = 12
HOURS_PER_YEAR = HOURS_PER_DAY * DAYS_PER_YEAR
DAYS_PER_MONTH = DAYS_PER_YEAR / MONTHS_PER_YEAR  # the mean month, where no other is given
HOURS_PER_MONTH = HOURS_PER_YEAR / MONTHS_PER_YEAR
W_PER_KW = 1000.0
