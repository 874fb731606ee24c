"""A Prometheus server's configuration, and questions to it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Sample = tuple[dict[str, str], float]


def write_config(path: Path, jobs: Mapping[str, Sequence[str]], interval_s: float, rules: Sequence[Path] = ()) -> None:
    """A configuration that scrapes HOST:PORT targets by job."""
    interval = f"{round(interval_s * 1000)}ms"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [
            # The exporter speaks of a fleet, not of itself: its own labels stand.
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": list(targets)}]}
            for job, targets in jobs.items()
        ],
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def ask(url: str, expression: str, timeout_s: float = 10.0) -> list[Sample]:
    """The samples of an instant query: (labels, value) each. Raises ValueError with Prometheus's own words."""
    form = urllib.parse.urlencode({"query": expression}).encode()
    request = urllib.request.Request(f"{url}/api/v1/query", data=form)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{expression}: {error.read().decode()[:400]}") from None
    if answer["data"]["resultType"] == "scalar":
        return [({}, float(answer["data"]["result"][1]))]
    return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]


def value(url: str, expression: str) -> float | None:
    """The one value of an expression; None where it has no sample. Raises ValueError where it has several."""
    samples = ask(url, expression)
    if len(samples) > 1:
        raise ValueError(f"{expression}: {len(samples)} samples, expected one")
    return samples[0][1] if samples else None
