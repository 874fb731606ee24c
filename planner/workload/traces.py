"""Recorded loads: Azure, BurstGPT and Mooncake files, read line by line into arrays.

azure     CSV  TIMESTAMP (date and time), ContextTokens, GeneratedTokens
burstgpt  CSV  Timestamp (seconds), Request tokens, Response tokens; other columns are not used
mooncake  JSONL {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..]}, one id per 512 tokens
"""

from __future__ import annotations

import json
import math
import re
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from planner.errors import DataFileError
from planner.simulation.load import F64, I32, I64, Prefixes
from planner.workload.tables import MOST_TOKENS, bounded_lines, csv_chunks, open_text, unusable, whole_numbers

HASH_BLOCK_TOKENS = 512  # Mooncake's traces hash a prompt in blocks of this size


@dataclass(frozen=True)
class Recording:
    """A trace: requests in the order of arrival, the first at time 0; `line` says where in the file each stands."""

    arrival_s: F64
    prompt_tokens: I32
    output_tokens: I32
    line: I64
    prefixes: Prefixes | None = None
    raised: int = 0  # requests with 0 prompt or output tokens, taken as 1


def read_recording(path: Path, form: Literal["azure", "burstgpt", "mooncake"], key: str) -> Recording:
    """Read a trace. `key` names the scenario's key in an error.

    Raises DataFileError, with the line, for a file that is missing, empty, cut off, unsorted in time, without its
    columns, or with token counts that are not whole numbers ≥ 0.
    """
    if form == "mooncake":
        return _mooncake(path, key)
    return _csv(path, key, form)


def _recording(path: Path, key: str, seconds: F64, prompts: I64, outputs: I64, line: I64) -> Recording:
    late = np.flatnonzero(np.diff(seconds) < 0)
    if len(late):
        raise unusable(key, path, f"line {line[late[0] + 1]}: earlier than the line before; times must ascend")
    return Recording(
        seconds - seconds[0],
        np.maximum(prompts, 1).astype(np.int32),
        np.maximum(outputs, 1).astype(np.int32),
        line,
        raised=int(np.count_nonzero((prompts == 0) | (outputs == 0))),
    )


# --- CSV ---

_COLUMNS = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
}


def _csv(path: Path, key: str, form: Literal["azure", "burstgpt"]) -> Recording:
    time, prompt, output = _COLUMNS[form]
    parts: list[tuple[F64, I64, I64, I64]] = []
    origin: np.datetime64 | None = None
    for lines, (stamps, prompts, outputs) in csv_chunks(path, key, (time, prompt, output)):
        if form == "azure":
            dates = _dates(stamps, lines, path, key)
            origin = dates[0] if origin is None else origin
            seconds = (dates - origin).astype(
                np.int64
            ) / 1e9  # from the first: a float of today's seconds is too coarse
        else:
            seconds = _seconds(stamps, lines, path, key)
        parts.append(
            (
                seconds,
                whole_numbers(prompts, lines, prompt, path, key),
                whole_numbers(outputs, lines, output, path, key),
                np.array(lines, np.int64),
            )
        )
    seconds, prompt_tokens, output_tokens, line = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _recording(path, key, seconds, prompt_tokens, output_tokens, line)


_DATE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?")


def _dates(stamps: list[str], lines: list[int], path: Path, key: str) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """`2023-11-16 18:15:46.6805900`, with or without the zone of UTC, to the nanosecond."""
    plain = [stamp.removesuffix("+00:00").removesuffix("Z") for stamp in stamps]
    if all(map(_DATE.fullmatch, plain)):
        try:
            return np.array(plain, "datetime64[ns]")
        except ValueError:
            pass  # a month 13, say: found below
    for stamp, text, line in zip(stamps, plain, lines, strict=True):
        if not _is_date(text):
            shown = " ".join(stamp.split())[:40]
            rule = f"line {line}: TIMESTAMP is '{shown}', not a time such as 2023-11-16 18:15:46.68 (UTC)"
            raise unusable(key, path, rule)
    raise AssertionError("one of the stamps is no date")


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and not np.isnat(np.datetime64(text, "ns"))
    except ValueError:
        return False


def _seconds(stamps: list[str], lines: list[int], path: Path, key: str) -> F64:
    try:
        seconds = np.array([float(stamp) for stamp in stamps])
        if np.isfinite(seconds).all():
            return seconds
    except ValueError:
        pass
    for stamp, line in zip(stamps, lines, strict=True):
        try:
            finite = math.isfinite(float(stamp))
        except ValueError:
            finite = False
        if not finite:
            raise unusable(key, path, f"line {line}: Timestamp is '{stamp[:40]}', not a number of seconds")
    raise AssertionError("one of the stamps is not finite")


# --- Mooncake ---


def _mooncake(path: Path, key: str) -> Recording:
    """One JSON object a line; blocks of equal id after equal blocks hold equal tokens.

    The last block of a prompt may be partial. A segment is known by its predecessor, its id and its size, so that an
    id met after another predecessor counts as different content.
    """
    times, prompts, outputs, numbers = array("d"), array("q"), array("q"), array("q")
    chain, starts, sizes = array("i"), array("q", [0]), array("i")
    known: dict[tuple[int, int, int], int] = {}
    with open_text(path, key) as file:
        for number, text in enumerate(bounded_lines(file, path, key), 1):
            if text.isspace():
                continue
            time_ms, prompt, output, ids = _mooncake_row(text, number, path, key)
            times.append(time_ms / 1000)
            prompts.append(prompt)
            outputs.append(output)
            numbers.append(number)
            segment, left = -1, prompt
            for block in ids:
                size = min(left, HASH_BLOCK_TOKENS)
                left -= size
                name = (segment, block, size)
                following = known.get(name)
                if following is None:
                    following = known[name] = len(sizes)
                    sizes.append(size)
                segment = following
                chain.append(segment)
            starts.append(len(chain))
    if not times:
        raise unusable(key, path, "is empty")
    recording = _recording(path, key, np.array(times), np.array(prompts), np.array(outputs), np.array(numbers))
    prefixes = Prefixes(np.array(starts, np.int64), np.array(chain, np.int32), np.array(sizes, np.int32))
    return replace(recording, prefixes=prefixes)


def _mooncake_row(text: str, number: int, path: Path, key: str) -> tuple[float, int, int, list[int]]:
    def refuse(rule: str) -> DataFileError:
        return unusable(key, path, f"line {number}: {rule}")

    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise refuse("not a JSON object; is the file cut off?") from None
    if not isinstance(row, dict):
        raise refuse("not a JSON object")
    for name in ("timestamp", "input_length", "output_length", "hash_ids"):
        if name not in row:
            raise refuse(f"has no {name}")
    time_ms, ids = row["timestamp"], row["hash_ids"]
    if type(time_ms) not in (int, float) or not abs(time_ms) < 1e18:
        raise refuse("timestamp is not a number of milliseconds")
    for name in ("input_length", "output_length"):
        if type(row[name]) is not int or not 0 <= row[name] <= MOST_TOKENS:
            raise refuse(f"{name} is {str(row[name])[:24]}, not a whole number of tokens")
    if not isinstance(ids, list) or not all(type(block) is int for block in ids):
        raise refuse("hash_ids is not a list of whole numbers")
    if len(ids) > -(-row["input_length"] // HASH_BLOCK_TOKENS):
        raise refuse(f"{len(ids)} hash_ids are more blocks of {HASH_BLOCK_TOKENS} tokens than input_length holds")
    return time_ms, row["input_length"], row["output_length"], ids
