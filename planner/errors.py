"""Everything that can go wrong, as one tree, each leaf with the exit code the command answers with.

    PlannerError
    ├── EndpointError         3  a server that was asked did not answer, or not as it should
    └── InputError            2  a value the user gave breaks a rule
        ├── ScenarioError        the scenario file: shape, types, ranges, reserved keys
        ├── UnknownNameError     a model, GPU or price that the catalogue does not hold
        ├── UnsupportedError     understood, but not modelled (an architecture, a reserved key)
        ├── DataFileError        a trace, histogram or config.json that cannot be used
        └── MisfitError          model, GPU and engine cannot work together (memory, head counts)

That no fleet, or no load, fits is no error but an answer, and so is that a load test's run is invalid: exit code 1.

A message is one line and carries the key, the value, the rule and, where there is one, the nearest valid choice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class PlannerError(Exception):
    """Root of every error that the planner raises on purpose."""

    exit_code = 2


class EndpointError(PlannerError):
    """A server failed: where it is, what it was asked, what came, and what to do.

    `str(error)` reads ``URL: ASKED: CAME; REMEDY`` on one line. `url` holds no credentials.
    """

    exit_code = 3

    def __init__(self, url: str, asked: str, came: str, remedy: str = "") -> None:
        self.url, self.asked, self.came, self.remedy = url, asked, came, remedy
        super().__init__(url, asked, came, remedy)

    def __str__(self) -> str:
        return f"{self.url}: {self.asked}: {_short(self.came, 160)}{f'; {self.remedy}' if self.remedy else ''}"


class InputError(PlannerError):
    """A value breaks a rule.

    `str(error)` reads ``key (=value): rule; nearest: choice`` on one line.
    """

    def __init__(self, key: str, value: object, rule: str, nearest: str | None = None) -> None:
        self.key, self.value, self.rule, self.nearest = key, value, rule, nearest
        super().__init__(key, value, rule, nearest)

    def __str__(self) -> str:
        shown = "" if self.value is None or self.value is ... else f" (={_short(self.value)})"
        hint = f"; nearest: {self.nearest}" if self.nearest else ""
        return f"{self.key}{shown}: {self.rule}{hint}"


class ScenarioError(InputError):
    """The scenario file has the wrong shape, type or range."""


class UnknownNameError(InputError):
    """A name that the catalogue does not hold."""


class UnsupportedError(InputError):
    """Understood, but not modelled."""


class DataFileError(InputError):
    """A file named by the scenario cannot be used."""


class MisfitError(InputError):
    """Model, GPU and engine settings cannot work together; in a search this rejects one candidate."""


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> str | None:
    """The `count` known names closest to `name`, joined for a message, or None where nothing is close."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=count, cutoff=0.5)
    return ", ".join(folded[candidate] for candidate in close) or None


def as_written(value: object) -> str:
    """A value as a scenario file would have it on one line: `{stop: {at_s: 60}}`, `true`, `null`; text as it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_written(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    return str(value)


def _short(value: object, limit: int = 60) -> str:
    text = " ".join(as_written(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
