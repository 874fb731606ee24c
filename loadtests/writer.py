"""The records' file: lines appended as the run goes, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from planner.errors import DataFileError


class Writer:
    """Writes to a new file. After a failure `error` says why, and the file holds what was written before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error = ""
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            if path.is_file():
                raise DataFileError("--records", path, "exists: records are not overwritten") from None
            self._file = self._open_device(path)
        except OSError as error:
            raise DataFileError("--records", path, f"cannot be written: {error.strerror or error}") from None
        self._length = 0

    @staticmethod
    def _open_device(path: Path) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise DataFileError("--records", path, f"cannot be written: {error.strerror or error}") from None

    def append(self, lines: bytes) -> bool:
        """Write whole lines at once, so that they are the system's, whatever becomes of us; false once that failed."""
        if self.error:
            return False
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            self.error = error.strerror or str(error)
            # A torn line goes, so that what is left can be read.
            with contextlib.suppress(OSError):
                self._length += lines.rfind(b"\n", 0, len(lines) - len(left)) + 1
                os.ftruncate(self._file, self._length)
            return False
        self._length += len(lines)
        return True

    def close(self) -> None:
        """Close the file; one that nothing was written to is no record of anything, and goes."""
        with contextlib.suppress(OSError):
            os.close(self._file)
            if self._length == 0 and self.path.is_file() and self.path.stat().st_size == 0:
                self.path.unlink()


def free_path(path: Path) -> Path:
    """The path itself, or with a number where that file exists: a web page starts run after run."""
    number, found = 2, path
    while found.is_file():
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return found
