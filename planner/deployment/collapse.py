"""How near the sessions of a load are to the collapse of their prefix cache.

A session finds its history if what an engine touches between two of its turns fits the KV cache. Beyond that all
sessions miss together, and a miss makes the next one likelier: steps take longer, so the pause does. Around it one load
on one fleet has two states, and chance alone says which one a run shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deployment.runs import IDLE_QUERIES, Deployment, idle_outcome, model_rate_qps
from planner.scenario import Scenario
from planner.simulation.load import Load, typical
from planner.simulation.outcome import Outcome
from planner.units import MS_PER_S

# Measured (docs/fleet.md, "How a cache collapses"): runs that touched up to 0.64 of the cache found what there was to
# find on every seed, from 0.72 on single seeds collapsed; from 1.1 on, by an idle engine's answers, all had. The rest
# is room for bursts.
NEAR_FROM, NEAR_TO = 0.7, 1.25
# Of a run's own share. One replica of examples/chat-sessions.yaml, 40,000 turns, three seeds each: at 0.96 it finds 53
# to 59 % of what it looks up, from 1.12 on 8 to 24 %; 78 % is all that there is to find.
COLLAPSED_FROM = 1.1
KEEP_TOGETHER = ("session_affinity", "prefix_aware")
OTHER_SEEDS = 2  # a size near the collapse is taken only if it holds on so many more


@dataclass(frozen=True)
class Pause:
    """What one engine touches between two turns of a session, against the tokens of its KV cache.

    `touched_tokens` with the mean E2E of the run, `idle_touched_tokens` with an idle engine's: the one is what was, the
    other what would be if everything was found.
    """

    touched_tokens: float
    idle_touched_tokens: float
    cache_tokens: int
    strewn: bool = False  # turns go to any of several engines, wherever their history is

    @property
    def share(self) -> float:
        """Touched in the run ÷ cache."""
        return self.touched_tokens / self.cache_tokens

    @property
    def idle_share(self) -> float:
        """Touched if answers took an idle engine's time ÷ cache."""
        return self.idle_touched_tokens / self.cache_tokens

    @property
    def near(self) -> bool:
        """Whether both states may last: the cold one goes over the edge, or nearly, and the warm one need not."""
        return self.share >= NEAR_FROM and self.idle_share <= NEAR_TO

    def as_dict(self) -> dict[str, Any]:
        """`session_pause` of an answer."""
        return {
            "touched_tokens": self.touched_tokens,
            "idle_touched_tokens": self.idle_touched_tokens,
            "cache_tokens": self.cache_tokens,
            "share": self.share,
            "idle_share": self.idle_share,
            "near_collapse": self.near,
        }


def session_pause(
    deployment: Deployment, scenario: Scenario, load: Load, outcome: Outcome, replicas: int, seed: int
) -> Pause | None:
    """Of a run of `replicas` endpoints under `load`; an engine is one data-parallel rank.

    None without sessions, without a prefix cache, where nothing was answered, and where replicas come and go.
    """
    answered = outcome.figures["e2e_ms"]
    if scenario.session is None or not deployment.config.enable_prefix_caching or answered is None:
        return None
    if scenario.fleet.failures:
        return None
    idle = idle_outcome(deployment, scenario, IDLE_QUERIES, seed)[1].figures["e2e_ms"]
    if idle is None:
        return None
    engines = replicas * deployment.candidate.options.data_parallel_size
    own, least = (touched_tokens(scenario, load, engines, row["mean"] / MS_PER_S) for row in (answered, idle))
    strewn = engines > 1 and deployment.candidate.routing not in KEEP_TOGETHER
    return Pause(own, least, cache_tokens(deployment), strewn)


def touched_tokens(scenario: Scenario, load: Load, engines: int, e2e_s: float) -> float:
    """Tokens that one of `engines` reads and writes between two turns of a session, each session once.

    turns = turns/s per engine · (think_s + e2e_s);  turns · (mean tokens of a turn − prefix) + groups met · prefix:
    what all sessions begin with is in the cache once for each of its groups. ValueError without sessions.
    """
    session = scenario.session
    if session is None:
        raise ValueError("the scenario has no sessions")
    counted = typical(load)
    tokens = float((load.prompt_tokens[counted] + load.output_tokens[counted]).mean())
    turns = model_rate_qps(scenario) / engines * (session.think_s + e2e_s)
    prefix = session.shared_prefix
    if prefix is None:
        return turns * tokens
    return turns * (tokens - prefix.tokens) + min(float(prefix.groups), turns) * prefix.tokens


def cache_tokens(deployment: Deployment) -> int:
    """Tokens of KV cache that one engine may use."""
    return deployment.config.usable_blocks * deployment.config.block_size


def with_pause(pause: Pause | None) -> dict[str, Any]:
    """`session_pause` of a run's document; nothing where there is none."""
    return {} if pause is None else {"session_pause": pause.as_dict()}


def collapse_warnings(pause: Pause | None, seed: int) -> list[str]:
    """What to know of a single run near the collapse."""
    if pause is None or not pause.near:
        return []
    others = " or ".join(f"--seed {other}" for other in other_seeds(seed))
    together = f"; fleet.routing {' or '.join(KEEP_TOGETHER)} sends a turn where its history is" if pause.strewn else ""
    return [f"{_near_words(pause)}; try {others}, or one replica more{together}"]


def most_warnings(pause: Pause | None, seed: int) -> list[str]:
    """What to know of the most load of a fleet where that is near the collapse: it may be the edge itself."""
    if pause is None or not pause.near:
        return []
    others = " or ".join(f"--seed {other}" for other in other_seeds(seed))
    return [f"at the most load {_near_words(pause)}; {others} may find another most: keep away from it"]


def hours_warnings(rows: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """What to know of days in whose hours, `rows` with a `session_pause` each, sessions come near the collapse."""
    near = [found for row in rows if (found := row.get("session_pause")) is not None and found["near_collapse"]]
    if not near:
        return []
    most = 100 * max(found["share"] for found in near)
    others = " or ".join(f"--seed {other}" for other in other_seeds(seed))
    return [
        f"in {len(near)} of {len(rows)} hours a session's pause touches up to {most:.0f} % of the KV cache: near the "
        f"collapse of the prefix cache, where answers may flip with the seed; try {others}, or one replica more"
    ]


def size_warnings(pause: Pause | None, serving: int, seeds: Sequence[int], fewer_fails_on: int | None) -> list[str]:
    """What to know of a size near the collapse, or just above one: on which seeds it was run.

    `seeds` are those that it holds on, the search's own first; `fewer_fails_on` is one that the next smaller size
    fails on, while it holds on the search's own.
    """
    said = []
    if pause is not None and pause.near:
        said.append(_near_words(pause))
    if said and len(seeds) > 1:
        said.append(f"{_replicas(serving, 'hold')} on seeds {', '.join(map(str, seeds))}")
    if fewer_fails_on is not None:
        said.append(f"{_replicas(serving - 1, 'hold')} on seed {seeds[0]} but not on seed {fewer_fails_on}")
        said.append("near the collapse a size is taken only if it holds on every seed tried")
    return ["; ".join(said)] if said else []


def _replicas(count: int, verb: str) -> str:
    return f"1 serving replica {verb}s" if count == 1 else f"{count} serving replicas {verb}"


def _near_words(pause: Pause) -> str:
    said = f"a session's pause touches {100 * pause.share:.0f} % of the KV cache"
    if pause.idle_share < 0.95 * pause.share:
        said += f" ({100 * pause.idle_share:.0f} % if answers took an idle engine's time)"
    if pause.share >= COLLAPSED_FROM:
        return f"{said}: the prefix cache has collapsed, and so near the edge another seed may find it whole"
    return f"{said}: near the collapse of the prefix cache, where answers may flip with the seed"


def other_seeds(seed: int) -> list[int]:
    """The seeds that a size near the collapse is run on beside its own."""
    return [seed + 1 + place for place in range(OTHER_SEEDS)]
