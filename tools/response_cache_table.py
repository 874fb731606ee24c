"""Print the tables of docs/fleet.md: what a response cache answers, and what the law behind it rests on.

    python tools/response_cache_table.py

A test compares the document with what this prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.response_cache.lru import Steady, steady
from planner.response_cache.popularity import LOG_QUERIES, WEB_SEARCH, ZIPF, Popularity, fitted, groups, seen

QPS = 120.0
LIVES = {"1 min": 60.0, "10 min": 600.0, "1 h": 3600.0, "6 h": 21_600.0, "1 day": 86_400.0, "no limit": math.inf}
ROOMS = {"10⁴": 1e4, "10⁵": 1e5, "10⁶": 1e6, "10⁷": 1e7, "no limit": math.inf}
ASSUMED = [(1e8, ZIPF), *((LOG_QUERIES, zipf) for zipf in (0.75, 0.80, ZIPF, 0.90)), (1e10, ZIPF)]


def lines() -> Iterator[str]:
    """Both tables as Markdown."""
    yield f"| room for answers | {' | '.join(LIVES)} | T without a TTL |"
    yield f"| ---: |{' ---: |' * (len(LIVES) + 1)}"
    for room, capacity in ROOMS.items():
        row = [_found(WEB_SEARCH, capacity, ttl_s) for ttl_s in LIVES.values()]
        cells = ["–" if found is None else f"{found.hit_rate:.1%}" for found in row]
        alone = row[-1]
        kept = "–" if alone is None or alone.characteristic_time_s is None else _span(alone.characteristic_time_s)
        yield f"| {room} | {' | '.join(cells)} | {kept} |"
    yield ""
    yield (
        "| queries in the log | exponent | different queries | new share | most popular query "
        "| 10⁵ answers, 1 h | 10⁶, 1 h | 10⁶, 1 day | 10⁷, 1 day |"
    )
    yield f"|{' ---: |' * 9}"
    for log_queries, zipf in ASSUMED:
        law = fitted(log_queries, zipf)
        top = float(groups(law).share[0])
        hits = [
            steady(law, QPS, room, ttl_s).hit_rate
            for room, ttl_s in ((1e5, 3600.0), (1e6, 3600.0), (1e6, 86_400.0), (1e7, 86_400.0))
        ]
        cells = [f"{log_queries:.0e}", f"{zipf:.2f}", f"{law.queries:.3g}", f"{law.new_share:.1%}", f"{top:.2%}"]
        yield f"| {' | '.join([*cells, *(f'{hit:.1%}' for hit in hits)])} |"
    yield ""
    found = seen(WEB_SEARCH, LOG_QUERIES)
    yield (
        f"Residual of the law that is built in: first occurrences {found.first:.5f} of 0.5 of the volume, queries seen "
        f"once {found.once:.5f} of 0.44."
    )


def _found(law: Popularity, capacity: float, ttl_s: float) -> Steady | None:
    """None where nothing limits the cache: it would have to run for ever to be what it then is."""
    return None if math.isinf(capacity) and math.isinf(ttl_s) else steady(law, QPS, capacity, ttl_s)


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def main() -> None:
    """Print them."""
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
