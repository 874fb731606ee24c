"""The two clocks that readings are dated by, and waiting; tests bring their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Clock(NamedTuple):
    """`steady_s` never jumps: rates are taken by it. `unix_s` is the day's time: a window's end is told by it."""

    steady_s: Callable[[], float] = time.monotonic
    unix_s: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


REAL = Clock()
