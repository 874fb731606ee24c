"""What was set otherwise in two load tests: keys of their scenarios, and what their servers said of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.readers.recordings import Recording

FACTS = ("version", "models", "max_model_len", "kv_cache_tokens", "block_size", "enable_prefix_caching", "engines")


def settings_that_differ(a: Recording, b: Recording) -> list[dict[str, Any]]:
    """Keys of the scenarios and facts of the servers that are not the same in both runs."""
    one, other = (_settings(recording) for recording in (a, b))
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    return [{"key": key, "a": one.get(key), "b": other.get(key)} for key in keys]


def _settings(recording: Recording) -> dict[str, Any]:
    header = recording.header
    assert header is not None
    server = {**header.server, **(recording.end.server if recording.end else {})}
    found = dict(_leaves(header.scenario, ""))
    found |= {f"server.{key}": server[key] for key in FACTS if key in server}
    return found | {"api": header.api, "processes": header.processes}


def _leaves(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for name, item in value.items() for leaf in _leaves(item, f"{key}.{name}" if key else name)]
    return [(key, value)]
