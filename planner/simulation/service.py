"""What the clients saw of one run, simulated or measured, and its figures: latencies, throughput.

Definitions. TTFT runs from the query's *scheduled* arrival to the first token of its last stage; E2E to its last
token. TPOT = (E2E − TTFT) / (output − 1) of a request of the last stage; ITL are the gaps between its tokens. Latency
is over queries that reach the model; a query that failed has no latency but misses every limit: it stands in the
judged statistic as an infinite value, in the shown ones not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.simulation.kernel_state import Gaps
from planner.simulation.load import Load
from planner.simulation.quantiles import gap_ms, rank
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
SHOWN = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Service:
    """One run as its clients saw it: per query, per request, in seconds from its start. NaN = it never happened.

    `gaps` holds those between the tokens of the counted queries' last stage.
    """

    load: Load
    arrival_s: F64  # [Q] scheduled
    sent_s: F64  # [Q] left the client
    failed: NDArray[np.bool_]  # [Q]
    ended_s: F64  # [Q] over for its client: its last token, or when it failed
    first_token_s: F64  # [N]
    last_token_s: F64  # [N]
    gaps: Gaps


@dataclass(frozen=True)
class Latencies:
    """Milliseconds: one value a query (`tpot_ms`: a request of the last stage), inf for a query that failed."""

    ttft_ms: F64
    ttft_from_send_ms: F64
    e2e_ms: F64
    tpot_ms: F64  # requests of more than one token only
    tpot_batch: NDArray[np.int64]  # the query that each value of `tpot_ms` belongs to


def latencies_of(service: Service) -> Latencies:
    """Latencies of the counted queries."""
    load = service.load
    last = slice(load.width - load.stages[-1].requests, None)
    first_token = service.first_token_s.reshape(-1, load.width)[load.warmup :, last]
    last_token = service.last_token_s.reshape(-1, load.width)[load.warmup :, last]
    output = load.output_tokens.reshape(-1, load.width)[load.warmup :, last]
    lost = service.failed[load.warmup :]
    arrival, sent = service.arrival_s[load.warmup :], service.sent_s[load.warmup :]
    with np.errstate(invalid="ignore"):
        begin = np.where(lost, np.inf, first_token.min(axis=1))
        end = np.where(lost, np.inf, last_token.max(axis=1))
        tpot = np.where(lost[:, None], np.inf, (last_token - first_token) / (output - 1.0).clip(min=1.0))
    told = output > 1
    batch = np.repeat(np.arange(len(lost)), output.shape[1]).reshape(output.shape)
    return Latencies(
        ttft_ms=(begin - arrival) * MS_PER_S,
        ttft_from_send_ms=(begin - sent) * MS_PER_S,
        e2e_ms=(end - arrival) * MS_PER_S,
        tpot_ms=tpot[told] * MS_PER_S,
        tpot_batch=batch[told],
    )


def only(latencies: Latencies, queries: NDArray[np.int64]) -> Latencies:
    """The latencies of these counted queries alone, in this order."""
    place = np.full(len(latencies.ttft_ms), -1)
    place[queries] = np.arange(len(queries))
    owner = place[latencies.tpot_batch]
    order = np.argsort(owner, kind="stable")[int((owner < 0).sum()) :]
    return Latencies(
        ttft_ms=latencies.ttft_ms[queries],
        ttft_from_send_ms=latencies.ttft_from_send_ms[queries],
        e2e_ms=latencies.e2e_ms[queries],
        tpot_ms=latencies.tpot_ms[order],
        tpot_batch=owner[order],
    )


def figures_of(service: Service, latencies: Latencies) -> dict[str, Any]:
    """Latencies and throughput under their JSON names."""
    return _latency_rows(service, latencies) | _throughput(service)


def _latency_rows(service: Service, latencies: Latencies) -> dict[str, Any]:
    itl = None
    if service.gaps.count.any():
        itl = {"mean": all_gaps_ms(service, None, 0.0)} | {f"p{p:g}": all_gaps_ms(service, p, 0.0) for p in SHOWN}
    return {
        "ttft_ms": _row(latencies.ttft_ms),
        "ttft_from_send_ms": _row(latencies.ttft_from_send_ms),
        "tpot_ms": _row(latencies.tpot_ms),
        "itl_ms": itl,
        "e2e_ms": _row(latencies.e2e_ms),
    }


def all_gaps_ms(service: Service, percentile: float | None, failed_share: float) -> float | None:
    """ITL in ms over the whole run, `failed_share` of its mass standing above all gaps."""
    return gap_ms(service.gaps.count.sum(axis=0), float(service.gaps.total_s.sum()), percentile, failed_share)


def _row(values: F64) -> dict[str, float] | None:
    """Mean and percentiles of the values that are finite; None if there is none."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    return {"mean": float(ordered.mean())} | {f"p{p:g}": float(ordered[rank(p, len(ordered))]) for p in SHOWN}


def rated(service: Service) -> NDArray[np.bool_]:
    """The queries [Q] whose work makes the throughput: the counted ones; of sessions all that end in `window_s`."""
    window = window_s(service)
    if window is None:
        return np.arange(service.load.queries) >= service.load.warmup
    return (service.ended_s > window[0]) & (service.ended_s <= window[1])


def window_s(service: Service) -> tuple[float, float] | None:
    """Of sessions the time in which endings are counted into throughput; None where all counted queries are.

    From when the first counted turn would be due if answers took no time to when the last would. Until then the run is
    the beginning of an endless load; afterwards it only drains, and for as long as a session's answers take.
    """
    load = service.load
    if load.follows is None:
        return None
    start_s, end_s = float(load.arrival_s[load.warmup]), float(load.arrival_s[-1])
    return (start_s, end_s) if end_s > start_s else None


def _throughput(service: Service) -> dict[str, Any]:
    """Completed work ÷ (last finish − first arrival), over the counted queries; no duration if nothing completed.

    Of sessions what was completed in `window_s` ÷ its length. A request that ended after its query's deadline reached
    nobody: it is not completed.
    """
    load = service.load
    queries, window = rated(service), window_s(service)
    given_up_s = np.where(service.failed, service.ended_s, np.inf)
    deadline_s = np.repeat(np.fmin(service.sent_s + load.timeout_s, given_up_s), load.width)
    completed = service.last_token_s <= deadline_s  # never for NaN
    done = completed & np.repeat(queries, load.width)
    ends = service.last_token_s[done]
    start_s = float(service.arrival_s[load.warmup :].min())
    duration_s = float(ends.max()) - start_s if len(ends) else None
    if window is not None:
        duration_s = window[1] - window[0]
    output = float(load.output_tokens[done].sum())
    prompt = float(load.prompt_tokens[done].sum())
    return {
        "requests": int(completed[load.warmup * load.width :].sum()),
        "queries": load.queries - load.warmup,
        "failed": int(service.failed[load.warmup :].sum()),
        "duration_s": duration_s,
        "request_throughput": per_second(float(done.sum()), duration_s),
        "query_throughput": per_second(float((queries & ~service.failed).sum()), duration_s),
        "output_throughput": per_second(output, duration_s),
        "total_token_throughput": per_second(output + prompt, duration_s),
    }


def per_second(amount: float, duration_s: float | None) -> float:
    """A throughput; 0 where nothing was completed, so that there is no duration."""
    return 0.0 if duration_s is None else amount / duration_s
