"""Who was somewhere from when to when, and how long that was between instants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Stays(NamedTuple):
    """One row a stay; seconds from the start of the run. Who has not left stays for ever: inf."""

    who: I64  # [S]
    from_s: F64
    to_s: F64

    def among(self, which: NDArray[np.bool_]) -> Stays:
        """The stays `which` [S] alone."""
        return Stays(self.who[which], self.from_s[which], self.to_s[which])


NO_STAYS = Stays(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def joined(noted: Sequence[Stays]) -> Stays:
    """All of them, in this order."""
    columns = zip(NO_STAYS, *noted, strict=True)
    return Stays(*(np.concatenate(column) for column in columns))


def seconds_between(stays: Stays, marks_s: F64) -> F64:
    """Seconds spent there between successive `marks_s` [M, ascending], those of all added up [M − 1].

    Exactly 0 where nobody was there: how many are there is a whole number between any two instants.
    """
    begun, left = (np.clip(at_s, marks_s[0], marks_s[-1]) for at_s in (stays.from_s, stays.to_s))
    at_s = np.concatenate((begun, left, marks_s))
    change = np.repeat([1, -1, 0], [len(begun), len(left), len(marks_s)])
    order = np.argsort(at_s, kind="stable")
    at_s, there = at_s[order], np.cumsum(change[order])[:-1]
    interval = np.searchsorted(marks_s, at_s[:-1], side="right") - 1
    spent_s: F64 = np.bincount(interval, weights=there * np.diff(at_s), minlength=len(marks_s)).astype(np.float64)
    return spent_s[: len(marks_s) - 1]
