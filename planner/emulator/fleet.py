"""Engines behind one door: which of them takes the next call, and whether any does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

from planner.emulator.engine import Engine
from planner.emulator.routing import Asked, Index, first_drawn, in_turn, least_loaded, power_of_two, prefix_aware
from planner.errors import UnsupportedError
from planner.scenario import Scenario
from planner.workload.prefixes import telling_tokens

NUMBERS = 1 << 63  # of chance


def refuse_unserved(scenario: Scenario) -> None:
    """Raise UnsupportedError for what only `simulate` does with a fleet."""
    if scenario.fleet.failures:
        rule = "the emulator's own are --fault"
        raise UnsupportedError("fleet.failures", len(scenario.fleet.failures), rule, "--set fleet.failures=[]")


def beginning_tokens(scenario: Scenario) -> int:
    """Tokens that tell one prompt group from another, where `session_affinity` has no session to go by; 0 = none do.

    As in the simulator, prompts are kept together by how they begin only if there are several such groups. Here nobody
    knows which stage a prompt is of: so many tokens must tell the groups of every stage apart, and be alike in each.
    Prompts of a trace begin as was recorded, whatever a stage beside it says.
    """
    if scenario.demand == "trace":
        return 0
    spans = [telling_tokens(stage) for stage in scenario.query.stages]
    told = [span for span in spans if span is not None]
    if not told or len(told) < len(spans):
        return 0
    after, up_to = max(span[0] for span in told), min(span[1] for span in told)
    return up_to if up_to > after else 0


class Fleet:
    """Equal engines and a rule of routing, that of `simulation.fleet`: all samples of a call go to one engine.

    `room` is the most unfinished requests that an engine may have (0 = any number). `chance` gives a number below
    `NUMBERS`. `beginning` is what `beginning_tokens` says of the scenario.
    """

    def __init__(
        self, engines: Sequence[Engine], routing: str, chance: Callable[[], int], room: int = 0, beginning: int = 0
    ) -> None:
        self.engines = tuple(engines)
        self.room = room
        self._routing, self._chance, self._beginning = routing, chance, beginning
        self._index = Index(len(self.engines), self.engines[0].config.usable_blocks)
        self._turn = 0

    def route(
        self, requests: int = 1, prompt: Sequence[int] = (), blocks: Sequence[bytes] = (), session: str = ""
    ) -> Engine | None:
        """The engine for the next call, which has so many samples; None where none has room.

        `blocks` are the KV blocks of its prompt and answer; `session` is what its client calls it by.
        """
        config = self.engines[0].config
        asked = Asked(requests, self._number(prompt, session), blocks, len(prompt) // config.block_size)
        chosen = self._choose(asked)
        if chosen is None:
            return None
        if self._routing == "prefix_aware":
            self._index.remember(chosen, asked)
        self._turn = (chosen + 1) % len(self.engines)
        return self.engines[chosen]

    def _choose(self, asked: Asked) -> int | None:
        engines, room = self.engines, self.room
        if self._routing == "round_robin":
            return in_turn(engines, room, self._turn, asked)
        if self._routing == "least_loaded":
            return least_loaded(engines, room, self._turn, asked)
        if self._routing == "power_of_two":
            return power_of_two(engines, room, asked)
        if self._routing == "prefix_aware":
            return prefix_aware(engines, room, self._turn, asked, self._index)
        return first_drawn(engines, room, asked)

    def _number(self, prompt: Sequence[int], session: str) -> int:
        """What a call's chance comes from: its session's name, else how its prompt begins, else a draw of its own."""
        if self._routing == "session_affinity" and (session or self._beginning):
            name = session or ",".join(map(str, prompt[: self._beginning]))
            return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % NUMBERS
        return self._chance() if self._routing in ("random", "power_of_two", "session_affinity") else 0

    def now_s(self) -> float:
        """The clock that all engines share."""
        return self.engines[0].now_s()

    def stop(self) -> None:
        """Stop every engine."""
        for engine in self.engines:
            engine.stop()


def chance_of(seed: int) -> Callable[[], int]:
    """Numbers for routing that the same seed gives again."""
    rng = random.Random(f"routing {seed}")
    return lambda: rng.randrange(NUMBERS)
