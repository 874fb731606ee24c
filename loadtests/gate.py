"""At most so many queries outstanding; the one that waits longest goes next."""

from __future__ import annotations

from collections import OrderedDict

from gevent.event import Event


class Gate:
    """`limit` places. gevent's own Semaphore lets a latecomer take the place that a waiting one has been promised."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        # Who waits, in the order in which they came. A plain queue would be walked through for each one that gives up.
        self._waiting: OrderedDict[Event, None] = OrderedDict()

    def enter(self) -> bool:
        """Take a place; True where one had to be waited for. What ends the wait early leaves the place to the next."""
        if self._free:
            self._free -= 1
            return False
        turn = Event()
        self._waiting[turn] = None
        try:
            turn.wait()
        except BaseException:
            if turn.is_set():
                self.leave()
            else:
                del self._waiting[turn]
            raise
        return True

    def leave(self) -> None:
        """Give the place to whoever waits longest, or back."""
        if self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            turn.set()
        else:
            self._free += 1
