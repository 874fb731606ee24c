"""Not a test: sends single queries as the load test does, and prints what became of them. See `run_calls`."""

from __future__ import annotations

import sys
import time
from typing import Any

import locust  # first of all: it makes sockets cooperative

# isort: split
import gevent
import msgspec
import numpy as np

from loadtests.client import Call, Client
from loadtests.dispatch import Dispatch, Limits
from loadtests.options import api_key
from loadtests.prompts import Bodies
from loadtests.schedule import parts_of
from loadtests.wire import parse_address
from planner.records import RequestRow
from planner.simulation.load import Load, Stage
from planner.workload.token_ids import IdRange


def query(case: dict[str, Any]) -> dict[str, Any]:
    """One query of one stage."""
    samples, prompt, output = case.get("samples", 1), case.get("prompt", 20), case.get("output", 6)
    load = Load(
        np.zeros(1),
        np.full(samples, prompt, np.int32),
        np.full(samples, output, np.int32),
        (Stage("answer", 1, samples),),
    )
    rows: list[RequestRow] = []
    details: list[str] = []

    def note(row: RequestRow, stage: str, call: Call) -> None:
        rows.append(row)
        details.append(call.detail)

    begun = time.perf_counter()
    api = case.get("api", "completions")
    client = Client(parse_address(case["url"]), api, api_key(), begun)
    limits = Limits(0, case.get("timeout_s", 20.0), case.get("stall_s", 20.0))
    bodies = Bodies(api, case.get("model", "tiny"), 0, IdRange(100, 1000))
    dispatch = Dispatch(parts_of(load, [1])[0], client, bodies, limits, note)
    dispatch.run_open()
    return {"rows": rows, "detail": details[0] if details else "", "took_s": time.perf_counter() - begun}


if __name__ == "__main__":
    assert locust.__version__
    jobs = [gevent.spawn(query, case) for case in msgspec.json.decode(sys.argv[1])]
    gevent.joinall(jobs, raise_error=True)
    sys.stdout.buffer.write(msgspec.json.encode([job.value for job in jobs]))
