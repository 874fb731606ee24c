"""A plan's chosen candidate as a scenario without lists, so that it alone can be planned or simulated again."""

from __future__ import annotations

from planner.planned import Document, pinned, with_read_values

__all__ = ["Document", "pinned", "with_read_values"]
