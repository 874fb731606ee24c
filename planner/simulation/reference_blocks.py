"""KV blocks of one replica: who owns them, which content they hold, which is taken next.

Block 0 is vLLM's null block and never appears; blocks 1 … num_blocks − 1 are usable. Rules and names follow vLLM
0.32.0 (`v1/core/block_pool.py`, `v1/core/kv_cache_manager.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable


class BlockPool:
    """The free queue, the reference counts and the prefix cache's index, block by block.

    A block is *owned* by the requests that use it (its reference count) or lies in the free queue. Independently of
    that it may carry a *name*: the content that a later request can hit. A free block keeps its name until it is taken.
    """

    def __init__(self, num_blocks: int) -> None:
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))  # next to be taken first
        self._owners = [0] * num_blocks
        self._name: dict[int, Hashable] = {}
        self._copies: dict[Hashable, dict[int, None]] = {}  # the blocks of one content, the one named first leading
        self.evicted = 0  # named blocks that were taken, so far

    # --- looking ---

    @property
    def free(self) -> int:
        """Blocks that nobody owns, named or not."""
        return len(self._free)

    @property
    def free_queue(self) -> list[int]:
        """Free blocks, the next to be taken first."""
        return list(self._free)

    @property
    def cached(self) -> list[int]:
        """Blocks that carry a name, ascending."""
        return sorted(self._name)

    def owners(self, block: int) -> int:
        """How many requests own `block`."""
        return self._owners[block]

    def find(self, names: Iterable[Hashable]) -> list[int]:
        """The blocks that hold `names`, from the first name up to the first miss.

        Of several copies the one that was named first is returned; if it is evicted, the next one serves.
        """
        found: list[int] = []
        for name in names:
            copies = self._copies.get(name)
            if copies is None:
                break
            found.append(next(iter(copies)))
        return found

    def idle(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` lie in the free queue: a hit on one of them uses up free capacity."""
        return sum(self._owners[block] == 0 for block in blocks)

    # --- taking ---

    def take(self, count: int) -> list[int]:
        """`count` blocks from the front of the free queue; what they still held is evicted. They must be there."""
        taken: list[int] = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self.evicted += block in self._name
            self._forget(block)
            self._owners[block] = 1
            taken.append(block)
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """One more owner for each of `blocks`; a free one leaves the queue and keeps its name."""
        for block in blocks:
            if self._owners[block] == 0:
                del self._free[block]
            self._owners[block] += 1

    def publish(self, block: int, name: Hashable) -> None:
        """Let `block` be found under `name`. A duplicate of content that is already there is kept beside it."""
        self._name[block] = name
        self._copies.setdefault(name, {})[block] = None

    # --- giving back ---

    def release(self, blocks: list[int]) -> None:
        """One owner fewer for each block of a request, given in the request's own order.

        From tail to head: blocks without a name go to the *front* of the queue (nothing is lost by reusing them),
        named ones to the *back*, so that eviction is least recently released first, and tail before head.
        """
        for block in blocks:
            self._owners[block] -= 1
        for block in reversed(blocks):
            if self._owners[block] == 0 and block in self._name:
                self._free[block] = None
        for block in blocks:  # pushed to the front one by one, so the tail ends up first
            if self._owners[block] == 0 and block not in self._name:
                self._free[block] = None
                self._free.move_to_end(block, last=False)

    def _forget(self, block: int) -> None:
        name = self._name.pop(block, None)
        if name is not None:
            copies = self._copies[name]
            del copies[block]
            if not copies:
                del self._copies[name]
