"""The command line's options, each with an environment variable, and what they say together."""

from __future__ import annotations

import os
import re
import secrets
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from locust.argument_parser import LocustArgumentParser

from loadtests.prompts import Api
from loadtests.wire import Address, parse_address
from planner.cli.options import MOST_REQUESTS, MOST_SECONDS, read_scenario
from planner.errors import InputError, ScenarioError
from planner.live.endpoint import KEY_VARIABLES
from planner.scenario import Scenario

DEFAULT_DURATION_S = 60.0
DEFAULT_TIMEOUT_S = 600.0
WEB_HOST = "127.0.0.1"  # of the page, unless --web-host or LOCUST_WEB_HOST says otherwise
LOOP_LAG_SHARE = 2.0  # of the send lag's limit


@dataclass(frozen=True)
class Options:
    """What was asked for. The key is not among it: it is read where it is sent, and never handed on."""

    scenario: Scenario
    address: Address
    api: Api
    served_model: str | None
    records: Path
    seed: int
    prompt_seed: int
    requests: int | None
    duration_s: float | None
    warmup_s: float | None
    send_lag_limit_ms: float
    loop_lag_limit_ms: float
    cpu_limit: float
    timeout_s: float
    stall_timeout_s: float


def add_options(parser: LocustArgumentParser) -> None:
    """Declare the options to Locust. Paths are not offered on the web page: whoever sees it may not choose files."""
    group = parser.add_argument_group("Planner's load", "A scenario's own arrivals and lengths, sent on their time")

    def add(flag: str, kind: Callable[[str], object], text: str, *, web: bool = True, **more: object) -> None:
        variable = "PLANNER_" + flag.removeprefix("--").upper().replace("-", "_")
        action: Any = group.add_argument(flag, type=kind, env_var=variable, help=text, **more)
        action.include_in_web_ui = web  # Locust asks for all four
        action.is_secret = action.is_required = action.is_multiple = False

    add("--scenario", str, "Scenario file, or the name of a shipped example.", web=False)
    add("--set", str, "Change a key of the scenario, KEY=VALUE; may be repeated.", web=False, action="append")
    add("--records", str, "New file for the records (JSON lines).", web=False)
    add("--seed", _whole(0, 2**62), "Random seed; the same one gives the same arrivals and lengths.", default=0)
    add(
        "--prompt-seed",
        _whole(0, 2**62),
        "Seed of the prompts' words; without it new ones each time, unknown to any prefix cache.",
    )
    add("--requests", _whole(1, MOST_REQUESTS), "Queries to count, after the warm-up.")
    add("--duration-s", _number(MOST_SECONDS), f"Seconds to count instead; without either {DEFAULT_DURATION_S:g}.")
    add(
        "--warmup-s",
        _number(MOST_SECONDS, True),
        "Seconds before counting; without it a tenth of what is counted, and with sessions at least one.",
    )
    add("--api", str, "API to call.", default="completions", choices=["completions", "chat"])
    add("--served-model", str, "The model's name at the server; without it the first that the server lists.")
    add("--send-lag-limit-ms", _number(1e6), "p99 of the send lag beyond which the run is invalid.", default=10.0)
    add(
        "--loop-lag-limit-ms",
        _number(1e9),
        "p99 of the event loop's lateness in reading, likewise; without it twice the limit of the send lag.",
    )
    add("--cpu-limit", _number(1.0), "Share of a core beyond which the client is too busy.", default=0.9)
    add(
        "--request-timeout-s",
        _number(1e9),
        f"Most seconds for a query, else traffic.timeout_s, else {DEFAULT_TIMEOUT_S:g}.",
    )
    add("--stall-timeout-s", _number(1e9), "Most seconds between two tokens.", default=60.0)
    # The web page has no password, and Locust would have it listen on all addresses.
    parser.set_defaults(web_host=WEB_HOST)


def read_options(parsed: Namespace, host: str | None) -> Options:
    """The options as one checked whole. Raises InputErrors."""
    if not parsed.scenario:
        raise InputError("--scenario", None, "is required: a scenario file, or the name of a shipped example")
    try:
        scenario = read_scenario(parsed.scenario, parsed.set or ())
    except click.UsageError as error:
        raise ScenarioError("--set", None, error.message) from None
    if not host:
        raise InputError("--host", None, "is required: the server's address", "http://127.0.0.1:8000")
    # The web page hands on text where an option had no value.
    numbers = {name: _again(name, getattr(parsed, name)) for name in _NUMBERS}
    requests, duration_s, prompt_seed = numbers["requests"], numbers["duration_s"], numbers["prompt_seed"]
    if requests is not None and duration_s is not None:
        raise InputError("--requests", requests, "give only one of --requests and --duration-s")
    if requests is None and duration_s is None:
        duration_s = DEFAULT_DURATION_S
    return Options(
        scenario=scenario,
        address=parse_address(host),
        api=_api(parsed.api),
        served_model=parsed.served_model or None,
        records=Path(parsed.records) if parsed.records else _default_records(scenario.name),
        seed=parsed.seed,
        prompt_seed=int(prompt_seed) if prompt_seed is not None else secrets.randbits(62),
        requests=None if requests is None else int(requests),
        duration_s=duration_s,
        warmup_s=numbers["warmup_s"],
        send_lag_limit_ms=parsed.send_lag_limit_ms,
        loop_lag_limit_ms=numbers["loop_lag_limit_ms"] or LOOP_LAG_SHARE * parsed.send_lag_limit_ms,
        cpu_limit=parsed.cpu_limit,
        timeout_s=numbers["request_timeout_s"] or scenario.traffic.timeout_s or DEFAULT_TIMEOUT_S,
        stall_timeout_s=parsed.stall_timeout_s,
    )


def api_key() -> str:
    """The key to send, empty without one. Raises InputError for one that no header can hold."""
    key = next((value for value in map(os.environ.get, KEY_VARIABLES) if value), "")
    if key and not (key.isprintable() and key.isascii()):
        raise InputError(" or ".join(KEY_VARIABLES), None, "must be printable ASCII on one line")
    return key


def _api(text: str) -> Api:
    if text not in ("completions", "chat"):
        raise InputError("--api", text, "must be completions or chat")
    return "chat" if text == "chat" else "completions"


def _again(name: str, value: float | str | None) -> float | None:
    if not isinstance(value, str):
        return value
    try:
        return _NUMBERS[name](value)
    except ArgumentTypeError as error:
        raise InputError(f"--{name.replace('_', '-')}", None, str(error)) from None


def _default_records(name: str) -> Path:
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "scenario"
    return Path(f"records-{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")


def _whole(least: int, most: int) -> Callable[[str], int | None]:
    def convert(text: str) -> int | None:
        if text == "":
            return None  # a field left empty on the web page
        if not re.fullmatch(r"\d{1,19}", text) or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    return convert


def _number(most: float, zero: bool = False) -> Callable[[str], float | None]:
    def convert(text: str) -> float | None:
        if text == "":
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not (0 <= value <= most) or (value == 0 and not zero):
            raise ArgumentTypeError(f"{text[:40]!r} is not a number {'from' if zero else 'above'} 0 to {most:g}")
        return value

    return convert


_NUMBERS = {
    "prompt_seed": _whole(0, 2**62),
    "requests": _whole(1, MOST_REQUESTS),
    "duration_s": _number(MOST_SECONDS),
    "warmup_s": _number(MOST_SECONDS, True),
    "request_timeout_s": _number(1e9),
    "loop_lag_limit_ms": _number(1e9),
}
