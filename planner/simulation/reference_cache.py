"""The KV cache of the reference scheduler: which blocks a request gets, and what it finds there.

Follows vLLM 0.32.0's `v1/core/kv_cache_manager.py`. vLLM also caps slots at max_model_len; without drafts nothing is
computed there.
"""

from __future__ import annotations

from planner.simulation.reference_blocks import BlockPool
from planner.simulation.reference_live import Live
from planner.specs import SchedulerConfig


class Cache:
    """Blocks for requests, out of one `pool`."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.pool = BlockPool(config.num_blocks)

    # --- blocks ---

    def grow(self, live: Live, chunk: int) -> bool:
        """Blocks for `chunk` more tokens of a running request; False if they are not free.

        A decode takes a block when the token that it computes is the first of one. The watermark is not asked.
        """
        missing = self._blocks_for(live.computed + chunk) - len(live.blocks)
        if missing > self.pool.free:
            return False
        live.blocks += self.pool.take(missing)
        self.publish(live, min(live.computed + chunk, live.tokens))  # a token to come has no name yet
        return True

    def admit(self, live: Live, hits: list[int], chunk: int, beside: bool) -> bool:
        """Blocks for the first `chunk` of a waiting request behind its `hits`; False if it has to wait.

        - Watermark: this many blocks must stay free, but only `beside` running requests (those admitted a moment ago
          count): alone in the engine a request may fill the cache.
        - Reservation (scheduler_reserve_full_isl): the whole prompt must fit now, and for a preempted request its
          outputs so far. Nothing is set aside for outputs to come, nor for chunks that admitted prompts still miss.
        - A hit on a free block takes it out of the queue and is charged as one.
        """
        watermark = self.config.watermark_blocks if beside else 0
        charged = self.pool.idle(hits) - len(hits) + watermark
        after = len(hits) * self.config.block_size + chunk
        must_fit = live.tokens if self.config.scheduler_reserve_full_isl else after
        if self._blocks_for(must_fit) + charged > self.pool.free:
            return False
        self.pool.share(hits)
        live.blocks = hits + self.pool.take(self._blocks_for(after) - len(hits))
        live.computed, live.published = len(hits) * self.config.block_size, len(hits)
        self.publish(live, after)
        return True

    def release(self, live: Live) -> None:
        """Give back all that a request holds; what it cached can still be hit."""
        self.pool.release(live.blocks)
        live.blocks, live.published = [], 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)

    # --- what can be hit ---

    def find(self, live: Live) -> list[int]:
        """Cached blocks that the request begins with.

        Only whole blocks are found, and at least one token is always left to compute: a prompt that is cached to its
        end computes its whole last block again, into a duplicate.
        """
        if not self.may_be_read_by(live):
            return []
        return self.pool.find(map(live.name, range((live.tokens - 1) // self.config.block_size)))

    def publish(self, live: Live, computed: int) -> None:
        """Name the blocks that are full with `computed` tokens, generated ones included.

        Done when they are *scheduled*: a request looked at a moment later, in the same step, can already hit them.
        """
        if not self.config.enable_prefix_caching:
            return
        full = computed // self.config.block_size
        for block in range(live.published, full):
            self.pool.publish(live.blocks[block], live.name(block))
        live.published = max(live.published, full)

    def may_be_read_by(self, live: Live) -> bool:
        """Whether the request looks for what is cached."""
        return self.config.enable_prefix_caching and not live.request.skip_reading_prefix_cache
