"""Which values of a scenario are paths."""

from __future__ import annotations


def names_a_file(key: str, value: str) -> bool:
    """Whether `value` is a path under a key of that last name: a file, a calibration, or a config.json in place of a
    model's name.
    """
    return key in ("file", "calibration") or (key == "model" and value.lower().endswith(".json"))
