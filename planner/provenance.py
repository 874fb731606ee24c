"""Where a number comes from. Every answer carries these rows, the weakest link first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["measured", "calibrated", "kernel table", "datasheet", "fitted", "inherited", "assumed"]

# Strongest first; `weakest_first` sorts by this order, reversed.
KINDS: tuple[Kind, ...] = ("measured", "calibrated", "kernel table", "datasheet", "fitted", "inherited", "assumed")


@dataclass(frozen=True)
class Provenance:
    """One quantity's origin.

    `what` names the quantity, `value` shows it with its unit, `source` says where it was read, and `errs`
    in which direction the answer is likely to be wrong because of it ("optimistic", "pessimistic", "unknown", "").
    """

    what: str
    kind: Kind
    source: str
    value: str = ""
    date: str = ""
    vllm_version: str = ""
    errs: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A plain dict with the field names as keys, for JSON."""
        return asdict(self)


def weakest_first(rows: list[Provenance]) -> list[Provenance]:
    """The rows without repeats, the least certain kinds first; of one kind, what weighs most before others."""
    return sorted(dict.fromkeys(rows), key=_strength)


def with_origins(rows: Iterable[Mapping[str, Any]], more: Iterable[Provenance]) -> list[dict[str, Any]]:
    """A document's `provenance` with more rows, the weakest first again."""
    return [row.as_dict() for row in weakest_first([*(Provenance(**row) for row in rows), *more])]


def _strength(row: Provenance) -> tuple[int, bool, str]:
    weighty = row.what.startswith(("kernel", "engine mode", "experts", "traffic.day"))
    return -KINDS.index(row.kind), not weighty, row.what
