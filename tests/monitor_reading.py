"""What an exporter says over HTTP, and waiting until it says something."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable


def until(told: Callable[[], object], seconds: float) -> object:
    """What `told` says once it says anything but None, False or nothing."""
    deadline = time.monotonic() + seconds
    while not (answer := told()):
        assert time.monotonic() < deadline, f"nothing within {seconds:g} s"
        time.sleep(0.5)
    return answer


def scraped(exporter: str) -> str:
    with urllib.request.urlopen(f"{exporter}/metrics", timeout=5) as response:
        return response.read().decode()


def figures(exporter: str) -> dict[str, float]:
    """A scrape's samples by name and labels beside the fleet's: `llm_replicas{state="running"}`."""
    lines = (line.rpartition(" ") for line in without_fleet(scraped(exporter)).splitlines() if line[0] != "#")
    return {name.replace("{}", ""): float(number) for name, _, number in lines}


def without_fleet(text: str) -> str:
    """A scrape with the labels of the fleet taken off."""
    lines = []
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, after = rest.partition("}")
        kept = [one for one in labels.split(",") if not one.startswith(("model_name=", "namespace="))]
        lines.append(f"{name}{{{','.join(kept)}}}{after}" if brace else line)
    return "\n".join(lines)
