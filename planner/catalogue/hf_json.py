"""A Hugging Face config.json as typed values: opened within limits, every key checked, every complaint one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.errors import DataFileError

MAX_FILE_BYTES = 1_000_000
MAX_COUNT = 2**31 - 1  # larger than any size in a config.json; keeps later arithmetic finite


@dataclass(frozen=True)
class Config:
    """The keys of one JSON object; `where` names the file (and the object in it) in messages.

    Every method raises `DataFileError` naming the file, the key, the value and the rule.
    A key whose value is null counts as absent, as it does for transformers.
    """

    where: str
    values: Mapping[str, object]

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`; without a default the key is required."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        rule = f"must be a whole number from {least} to {MAX_COUNT}"
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
            raise self.error(key, "is missing; it " + rule if value is None else rule)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def text(self, key: str) -> str:
        """A string; the key is required."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.error(key, "is missing; it must be a string" if value is None else "must be a string")
        return value

    def items(self, key: str) -> list[object]:
        """A list, empty where the key is absent."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(key, "must be a list")
        return value

    def child(self, key: str) -> Config:
        """The object under `key`; the key is required."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "is missing; it must be an object" if value is None else "must be an object")
        return Config(f"{self.where}: {key}", value)

    def error(self, key: str, rule: str) -> DataFileError:
        """The complaint about one key, to be raised by the caller."""
        return DataFileError(f"{self.where}: {key}", self.values.get(key), rule)


def load_config(path: Path) -> Config:
    """The JSON object in the file.

    Raises `DataFileError` if the file is missing, a directory, larger than 1 MB, unreadable, not JSON or not an object.
    """
    try:
        if path.is_dir():
            raise DataFileError("model", path, "is a directory; give the path of the config.json in it")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise DataFileError("model", path, "no such file") from None
    except (OSError, ValueError) as problem:  # ValueError: a path with a null character
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise DataFileError("model", path, f"cannot be read: {reason or 'not a path'}") from None
    if len(content) > MAX_FILE_BYTES:
        raise DataFileError("model", path, f"must be at most {MAX_FILE_BYTES} bytes; a config.json has a few thousand")
    try:
        values = json.loads(content)
    except RecursionError:
        raise DataFileError("model", path, "is nested too deeply") from None
    except ValueError:  # bad JSON, bad UTF-8, or a number of thousands of digits
        raise DataFileError("model", path, "is not valid JSON") from None
    if not isinstance(values, dict):
        raise DataFileError("model", path, "must hold one JSON object, as a Hugging Face config.json does")
    return Config(str(path), values)
