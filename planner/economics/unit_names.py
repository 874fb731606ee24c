"""The units that a quantity may name, and what is said of those that it may not."""

from __future__ import annotations

from planner.units import DAYS_PER_YEAR

CURRENCIES = ("USD", "CNY")
# Of other currencies the commonest, to say that they are none of the two rather than a misspelt unit.
OTHER_CURRENCIES = {"AUD", "BRL", "CAD", "CHF", "DKK", "EUR", "GBP", "HKD", "IDR", "ILS", "INR", "JPY", "KRW", "MXN"}
OTHER_CURRENCIES |= {"NOK", "NZD", "PLN", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "VND", "ZAR"}
# Prices that are quoted for a thousand: to be offered first where a number came without its unit.
BY_THE_THOUSAND = {"USD/ad": "USD/1000 ads", "USD/query": "USD/1000 queries"}

# Name, what it is in other units ("" = a dimension of its own), other spellings. A plural s is understood.
UNITS = (
    ("USD", "", "dollar"),
    ("CNY", "", "RMB yuan"),
    ("cent", "0.01 * USD", ""),
    ("word", "", ""),
    ("kword", "1000 * word", ""),
    ("token", "", ""),
    ("ktoken", "1000 * token", ""),
    ("Mtoken", "1e6 * token", ""),
    ("query", "", "queries"),
    ("request", "", ""),
    ("ad", "", ""),
    ("user", "", ""),
    ("gpu", "", "GPU chip"),
    ("server", "", "node"),
    ("param", "", "parameter"),
    ("byte", "", "B"),
    ("kB", "1e3 * byte", ""),
    ("MB", "1e6 * byte", ""),
    ("GB", "1e9 * byte", ""),
    ("TB", "1e12 * byte", ""),
    ("PB", "1e15 * byte", ""),
    ("KiB", "1024 * byte", ""),
    ("MiB", "1048576 * byte", ""),
    ("GiB", "1073741824 * byte", ""),
    ("TiB", "1099511627776 * byte", ""),
    ("FLOP", "", ""),
    ("GFLOP", "1e9 * FLOP", ""),
    ("TFLOP", "1e12 * FLOP", ""),
    ("PFLOP", "1e15 * FLOP", ""),
    ("s", "", "second sec"),
    ("ms", "0.001 * s", ""),
    ("minute", "60 * s", "min"),
    ("hour", "3600 * s", "h"),
    ("day", "86400 * s", "d"),
    ("year", f"{DAYS_PER_YEAR * 86400} * s", "yr"),
    ("month", "", ""),
    ("W", "", "watt"),
    ("kW", "1e3 * W", ""),
    ("MW", "1e6 * W", ""),
    ("Wh", "3600 * W * s", ""),
    ("kWh", "3.6e6 * W * s", ""),
    ("MWh", "3.6e9 * W * s", ""),
)
NAMES = {spelling: name for name, _, others in UNITS for spelling in (name, *others.split())}
KILO = {(1e3, "token"): "ktoken", (1e6, "token"): "Mtoken", (1e3, "word"): "kword"}  # kept as written
