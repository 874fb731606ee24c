"""At most so many queries outstanding; the one that waits longest goes next."""

from __future__ import annotations

from collections import deque

from gevent.event import Event


class Gate:
    """`limit` places. gevent's own Semaphore lets a latecomer take the place that a waiting one has been promised."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Event] = deque()

    def enter(self) -> bool:
        """Take a place; True where one had to be waited for. What ends the wait early leaves the place to the next."""
        if self._free:
            self._free -= 1
            return False
        turn = Event()
        self._waiting.append(turn)
        try:
            turn.wait()
        except BaseException:
            if turn.is_set():
                self.leave()
            else:
                self._waiting.remove(turn)
            raise
        return True

    def leave(self) -> None:
        """Give the place to whoever waits longest, or back."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._free += 1
