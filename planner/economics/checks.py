"""Ranges that the arithmetic of this room relies on. The keys are the scenario file's."""

from __future__ import annotations

from math import isfinite

from planner.errors import InputError


def positive(key: str, value: float) -> None:
    """Raise InputError unless 0 < value < ∞."""
    if not (isfinite(value) and value > 0):
        raise InputError(key, value, "must be a finite number > 0")


def not_negative(key: str, value: float) -> None:
    """Raise InputError unless 0 <= value < ∞."""
    if not (isfinite(value) and value >= 0):
        raise InputError(key, value, "must be a finite number >= 0")


def share(key: str, value: float) -> None:
    """Raise InputError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise InputError(key, value, "must be a share between 0 and 1")
