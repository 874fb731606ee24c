"""Files with rows, read in chunks: CSV columns by name, with the line number in every complaint."""

from __future__ import annotations

import csv
import gzip
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from planner.errors import DataFileError, nearest_names
from planner.simulation.load import I64

CHUNK_ROWS = 65_536
MOST_LINE = 1_000_000  # characters
MOST_TOKENS = 2**31 - 1  # token counts are kept in 32 bits


def unusable(key: str, path: Path, rule: str, nearest: str | None = None) -> DataFileError:
    """The error for a file that cannot be used; of a long path the end is shown, which tells files apart."""
    shown = str(path)
    return DataFileError(key, shown if len(shown) <= 60 else f"…{shown[-59:]}", rule, nearest)


@contextmanager
def open_text(path: Path, key: str) -> Iterator[TextIO]:
    """The UTF-8 text of a file, `.gz` unpacked on the way; whatever goes wrong while reading is a DataFileError."""
    if "\0" in str(path):
        raise unusable(key, Path(repr(path)), "no such file")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise unusable(key, path, "is a folder, not a file")
        if not stat.S_ISREG(mode):  # a pipe would wait for ever, a device never end
            raise unusable(key, path, "is not a regular file")
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield file
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file
    except FileNotFoundError:
        raise unusable(key, path, "no such file") from None
    except UnicodeDecodeError:
        raise unusable(key, path, "not UTF-8 text") from None
    except (EOFError, zlib.error):
        raise unusable(key, path, "the compressed file is cut off or damaged") from None
    except OSError as error:
        raise unusable(key, path, f"cannot be read: {error.strerror or error}") from None


def bounded_lines(file: TextIO, path: Path, key: str) -> Iterator[str]:
    """The lines of an open file; one that never ends is refused before it fills the memory."""
    number = 0
    while text := file.readline(MOST_LINE + 1):
        number += 1
        if len(text) > MOST_LINE:
            raise unusable(key, path, f"line {number}: longer than {MOST_LINE} characters")
        yield text


def csv_chunks(path: Path, key: str, columns: Sequence[str]) -> Iterator[tuple[list[int], list[list[str]]]]:
    """The named columns of a CSV file with a header, a chunk of rows at a time, each with its line numbers.

    Raises DataFileError for a file without header, without one of the columns, without rows, or with a row whose
    number of fields is not the header's.
    """
    with open_text(path, key) as file:
        reader = csv.reader(bounded_lines(file, path, key), skipinitialspace=True)
        lines: list[int] = []
        rows: list[list[str]] = []
        any_row = False
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise unusable(key, path, "is empty")
            places = [_place(header, name, path, key) for name in columns]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    hint = "; is the file cut off?" if len(row) < len(header) else ""
                    rule = f"line {reader.line_num}: {len(row)} fields where the header has {len(header)}{hint}"
                    raise unusable(key, path, rule)
                lines.append(reader.line_num)
                rows.append(row)
                if len(rows) == CHUNK_ROWS:
                    yield lines, [[row[place] for row in rows] for place in places]
                    any_row, lines, rows = True, [], []
        except csv.Error as error:
            raise unusable(key, path, f"line {reader.line_num}: not CSV: {error}") from None
        if rows:
            yield lines, [[row[place] for row in rows] for place in places]
        elif not any_row:
            raise unusable(key, path, "holds a header but no rows")


def _place(header: list[str], name: str, path: Path, key: str) -> int:
    if name not in header:
        columns = ", ".join(header[:12])
        raise unusable(key, path, f"has no column {name}; it has: {columns}", nearest_names(name, header, count=1))
    return header.index(name)


def whole_numbers(texts: list[str], lines: list[int], column: str, path: Path, key: str) -> I64:
    """Token counts, 0 or more, as numbers; the first that is not one is named with its line."""
    try:
        if all(map(str.isdecimal, texts)):
            numbers = np.array(list(map(int, texts)), np.int64)
            if len(numbers) == 0 or numbers.max() <= MOST_TOKENS:
                return numbers
    except (ValueError, OverflowError):
        pass  # thousands of digits: found below
    for text, line in zip(texts, lines, strict=True):
        if not text.strip().isdecimal():
            raise unusable(key, path, f"line {line}: {column} is {_shown(text)}, not a whole number of tokens")
        if len(text) > 10 or int(text) > MOST_TOKENS:
            raise unusable(key, path, f"line {line}: {column} is {_shown(text)}, more than {MOST_TOKENS} tokens")
    return np.array([int(text) for text in texts], np.int64)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 24 else text[:23] + "…")


def read_samples(path: Path, key: str, columns: Sequence[str]) -> list[I64]:
    """Whole columns of token counts, one array each."""
    parts: list[list[I64]] = [[] for _ in columns]
    for lines, texts in csv_chunks(path, key, columns):
        for part, column, values in zip(parts, columns, texts, strict=True):
            part.append(whole_numbers(values, lines, column, path, key))
    return [np.concatenate(part) for part in parts]
