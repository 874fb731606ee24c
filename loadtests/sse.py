"""Server-sent events, taken apart as the bytes come in.

Written here because it stands on the path of every token: the decoders of httpx-sse and sseclient-py work line by line
on text that somebody else has split, at several times the cost. What OpenAI's API sends, one `data:` line and a blank
one, is taken out of a chunk in one cut; everything else that the standard allows goes through the slow road below:
CR, LF or both as line end, comments, fields other than data, data on several lines, events cut anywhere.
"""

from __future__ import annotations

import re

MOST_EVENT_BYTES = 16_000_000
_LINE_END = re.compile(rb"\r\n|\n|\r")
_MARK = b"\xef\xbb\xbf"  # a byte order mark may stand before the first event


class EventTooLongError(Exception):
    """An event that never ends would fill the memory."""


class EventStream:
    """Holds what has come of an event whose end has not."""

    def __init__(self) -> None:
        self._begun = False
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that this chunk ends."""
        if (
            not self._rest
            and not self._data
            and chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\n") == len(chunk) - 2
            and b"\r" not in chunk
        ):
            self._begun = True
            return [chunk[6:-2]]
        return self._feed_lines(chunk)

    @property
    def unfinished(self) -> bool:
        """Whether part of an event has come and its end has not."""
        return bool(self._rest or self._data)

    def _feed_lines(self, chunk: bytes) -> list[bytes]:
        text = self._rest + chunk
        if not self._begun:
            if _MARK.startswith(text[:3]) and len(text) < 3:
                self._rest = text
                return []
            text = text.removeprefix(_MARK)
            self._begun = True
        events: list[bytes] = []
        start = 0
        for end in _LINE_END.finditer(text):
            if end.end() == len(text) and end.group() == b"\r":
                break  # a line feed may follow in the next chunk
            line = text[start : end.start()]
            start = end.end()
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        self._rest = text[start:]
        if len(self._rest) + sum(map(len, self._data)) > MOST_EVENT_BYTES:
            raise EventTooLongError
        return events

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
