"""YAML as far as a scenario needs it: plain mappings, sequences and scalars of bounded size.

Refused: tags, anchors, aliases (a YAML bomb is made of them), repeated keys, keys that are not text, deep nesting,
several documents. Scalars follow YAML 1.2's core schema, so that `no`, `1:30`, `010` and `2024-01-01` do not turn
into something else, and `1e3` is a number.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node, ScalarNode, SequenceNode

from planner.errors import ScenarioError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
RECORDS = tuple(f'{{"record":{space}"'.encode() for space in ("", " "))  # how a line of a load test's records begins
MAX_VALUES = 20_000  # keys, values and containers; reading more would take seconds

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = {"", "~", "null", "Null", "NULL"}


class _RefusedError(Exception):
    """What of YAML is not read, with its line (from 1)."""

    def __init__(self, rule: str, mark: Any) -> None:
        super().__init__(f"line {mark.line + 1}: {rule}")


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses what could grow or run. Nodes become values in `_value`, not by constructors."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # every plain scalar stays text until `_scalar`
    depth = values = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _RefusedError("anchors and aliases (&, *) are not read", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(f"tags ({event.tag}) are not read", event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise _RefusedError(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        if self.values >= MAX_VALUES:
            raise _RefusedError(f"more than {MAX_VALUES} values", event.start_mark)
        self.depth += 1
        self.values += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _scalar(node: ScalarNode) -> Any:
    text = node.value
    if node.style is not None:  # quoted or block: text
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) and len(text) <= 20:
        return int(text)
    if _FLOAT.match(text):
        return float(
            text.replace(".inf", "inf")
            .replace(".Inf", "inf")
            .replace(".INF", "inf")
            .replace(".nan", "nan")
            .replace(".NaN", "nan")
            .replace(".NAN", "nan")
        )
    return text


def _value(node: Node) -> Any:
    if isinstance(node, ScalarNode):
        return _scalar(node)
    if isinstance(node, SequenceNode):
        return [_value(item) for item in node.value]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            raise _RefusedError("a key must be text", key_node.start_mark)
        if key_node.value in mapping:
            raise _RefusedError(f"the key {key_node.value} is given twice", key_node.start_mark)
        mapping[key_node.value] = _value(value_node)
    return mapping


def parse(text: str, key: str, shown: object = None) -> Any:
    """The value that a YAML text holds, None for an empty one.

    Errors are ScenarioErrors on `key` with `shown` as its value.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _value(node)
        finally:
            loader.dispose()
    except _RefusedError as error:
        raise ScenarioError(key, shown, str(error)) from None
    except yaml.reader.ReaderError as error:
        raise ScenarioError(key, shown, f"character {error.position} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        what = error.problem or error.context
        raise ScenarioError(key, shown, f"{line}not valid YAML: {what}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ScenarioError(key, shown, f"not valid YAML: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; a ScenarioError on anything else."""
    key = "scenario file"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioError(key, path, "no such file") from None
    except IsADirectoryError:
        raise ScenarioError(key, path, "is a folder, not a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(key, path, f"cannot be read: {reason}") from None
    if data.lstrip().startswith(RECORDS):
        raise ScenarioError(key, path, "is a load test's records file; a scenario is YAML, as `planner init` writes it")
    if len(data) > MAX_BYTES:
        raise ScenarioError(key, path, f"larger than {MAX_BYTES // 1_000_000} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(key, path, f"not UTF-8 text (byte {error.start})") from None
    value = parse(text, key, path)
    if not isinstance(value, dict):
        raise ScenarioError(key, path, "must hold a mapping of keys" if value is not None else "is empty")
    return value
