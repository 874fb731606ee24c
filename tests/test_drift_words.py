"""The table of `planner drift`: parts as small or as large as they may be, and no word broken."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from drift_specimens import demo, demo_model, window

from planner.drift import drift
from planner.summary.drift import drift_text

SHARES = (0.1, 0.004, 3.3e-4, -1.2e-5, 4.567e-8, -7.89e-12, 2.3e-15)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Every cause is told."""
    seen = window(
        demo(), prompt_tokens=298.0, output_tokens=40.0, prefix_hit_rate=0.0, latencies_ms={"itl_ms.mean": 48}
    )
    return drift(demo(), seen, demo_model()).document


def table(document: dict[str, Any]) -> list[str]:
    lines = drift_text(document).splitlines()
    return lines[lines.index("What moved it (the parts add up to the whole)") + 1 :][:9]


@pytest.mark.parametrize("share", [*SHARES, -0.999, 1234.5])
@pytest.mark.parametrize("cost_usd", [1.0, 3.7e-5, 1e-9])
@pytest.mark.parametrize("holds", [True, None])
def test_every_cause_has_a_line_of_its_own(found: dict[str, Any], share: float, cost_usd: float, holds: bool) -> None:
    document = copy.deepcopy(found)
    for part in document["parts"]:
        part |= {"share": share, "usd_per_query": share * cost_usd, "holds": holds, "factor": 1.0 + share}
    document["total"] = {"fraction": share, "usd_per_query": share * cost_usd}
    words = " ".join(table(document)).split()
    for word in ("utilisation", "queries/s", "replicas", "lengths", "response", "holds" if holds else "judged"):
        assert word in words, f"{word} is broken in {words}"
    assert all(len(line) <= 100 for line in table(document))


def test_a_negligible_part_is_no_row_of_digits(found: dict[str, Any]) -> None:
    document = copy.deepcopy(found)
    for part, share in zip(document["parts"], SHARES, strict=True):
        part |= {"share": share, "usd_per_query": share * 3.7e-5}
    cells = [re.split(r" {2,}", line)[-3:-1] for line in table(document)[1:-1]]
    assert [["$0.0000037", "+10.0 %"], ["$0.00000015", "+0.4 %"], *[["≈ $0", "≈ 0 %"]] * 5] == cells
