"""One number, or one name, in words."""

from __future__ import annotations

import math
import re
from typing import Any

ABSENT = "–"
_LIMIT = r"(p\d+(?:\.\d+)?|mean)_(ttft|tpot|itl|e2e)_ms"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|min|h|days|GB)\b|%)")
_PLAIN_BELOW = 1e15  # beyond, digits no longer help
_PLAIN_ABOVE = 1e-9


def clean(value: Any) -> Any:
    """The document without what cannot be printed: nulls, infinite and undefined floats, control characters."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := clean(item)) is not None}
    if isinstance(value, list | tuple):
        return [kept for item in value if (kept := clean(item)) is not None]
    if isinstance(value, str):
        return " ".join("".join(char if char.isprintable() else " " for char in value).split())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def together(text: str) -> str:
    """A text in which no line ends between a number and its unit: a no-break space stands there."""
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def number(value: float | None, digits: int = 3) -> str:
    """At least `digits` significant digits, thousands separated; whole numbers whole."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size and not _PLAIN_ABOVE <= size < _PLAIN_BELOW:
        return _signed(f"{value:.{digits - 1}e}")
    if float(value).is_integer():
        return _signed(f"{value:,.0f}")
    return _signed(f"{value:,.{_decimals(value, digits)}f}")


def milliseconds(value: float | None) -> str:
    """A latency with its unit: three significant digits, from 100 ms on without decimals."""
    if value is None:
        return ABSENT
    return f"{number(round(value) if abs(value) >= 99.95 else value)} ms"


def percent(share: float | None) -> str:
    """A share as per cent: one decimal, more where that would read 0 or 100."""
    if share is None:
        return ABSENT
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if abs(value) < 0.1:
        return f"{number(value, 2)} %"
    if abs(value) >= 200:
        return f"{number(round(value))} %"
    if 99.995 <= value < 100:
        return "> 99.99 %"
    decimals = 2 if 99.9 <= abs(value) < 100 else 1
    return _signed(f"{value:.{decimals}f} %")


def usd(value: float | None, digits: int = 3) -> str:
    """Dollars: cents from one dollar on, `digits` significant digits below it, no cents from 10,000 on."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size == 0:
        text = "0"
    elif not _PLAIN_ABOVE <= size < _PLAIN_BELOW:
        text = f"{size:.{digits - 1}e}"
    elif size >= 10_000:
        text = f"{size:,.0f}"
    elif size >= 1:
        text = f"{size:,.2f}"
    else:
        text = f"{size:.{_decimals(size, digits)}f}"
    return f"{'−' if value < 0 else ''}${text}"


def price(value: float | None) -> str:
    """A unit price, which multiplies something: further digits where two decimals would not be exact."""
    if value is None or abs(value) >= 10_000:
        return usd(value)
    whole, point, decimals = (f"${value:,.4f}" if value >= 1 else usd(value, 4)).partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}" if point and "e" not in decimals else whole + point + decimals


def limit_name(key: str) -> str:
    """A limit's key as people say it: `p99_ttft_ms` is "p99 TTFT"; what is no limit keeps its own words."""
    found = re.fullmatch(_LIMIT, key)
    return f"{found[1]} {found[2].upper()}" if found else key.replace("_", " ")


def is_limit(key: str) -> bool:
    """Whether a key names a limit."""
    return re.fullmatch(_LIMIT, key) is not None


def with_limit_names(text: str) -> str:
    """A text with the limits named in it as people say them, and the unit that their keys carry."""
    named = re.sub(rf"\b{_LIMIT}\b", lambda found: limit_name(found[0]), text).replace(" inf > ", " unbounded > ")
    return re.sub(r"(TTFT|TPOT|ITL|E2E) ([\d,.]*\d|unbounded) > ([\d,.]*\d)", r"\1 \2 > \3 ms", named)


def gpu_name(name: str) -> str:
    """A catalogue name as printed on the box: `h100-sxm-80gb` is "H100 SXM 80 GB"."""
    special = {"pcie": "PCIe", "ada": "Ada"}
    parts = []
    for part in name.split("-"):
        memory = re.fullmatch(r"(\d+)gb", part)
        generation = re.fullmatch(r"v\d", part)
        parts.append(f"{memory[1]} GB" if memory else part if generation else special.get(part, part.upper()))
    return " ".join(parts)


def plural(count: float | None, noun: str) -> str:
    """ "1 replica", "7 replicas", "2 queries"."""
    if count == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number(count)} {many}"


def capitalised(text: str) -> str:
    """With a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def _decimals(value: float, digits: int) -> int:
    """Decimals that show `digits` significant digits, after rounding to them."""
    exponent = int(f"{abs(value):.{digits - 1}e}".split("e")[1])
    return max(0, digits - 1 - exponent)


def _signed(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
