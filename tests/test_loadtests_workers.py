"""A master and its workers send what one process sends, and a worker that dies is missed."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from tests.fault_server import FAST, fault_server
from tests.loadtest_process import (
    Ended,
    command,
    loadtest,
    read_lines,
    stages,
    started,
    wait_for_rows,
    write_scenario,
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def distributed(folder: Path, scenario: str, url: str, *options: str) -> Ended:
    """A master and two workers of which only the master knows the scenario."""
    port = str(free_port())
    records = folder / "distributed.jsonl"
    master = command(scenario, url, records, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
    base = [*master[:5], "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    with started([*master, "--expect-workers", "2", *options]) as process, started(base), started(base):
        _, errors = process.communicate(timeout=90)
    return Ended(process.returncode, errors, read_lines(records))


def counts(output: str) -> dict[tuple[str, str], str]:
    """Locust's own number of entries, by type and name, from the table at the end."""
    found = re.findall(r"^(ITL|POST|TPOT|TTFT|send lag) +(\w+) +(\d+) +0\(0.00%\)", output, re.M)
    return {(kind, name): number for kind, name, number in found}


def test_two_workers_send_what_a_single_process_sends(tmp_path: Path) -> None:
    """The same requests, each once, at the same times, with the same tokens, and the same numbers in the statistics."""
    query = stages({"name": "read", "calls": 2}, {"name": "answer", "shared_prefix": {"tokens": 16, "groups": 3}})
    scenario, options = write_scenario(tmp_path, query=query), ("--requests", "30", "--seed", "5", "--prompt-seed", "5")
    with fault_server(*FAST) as server:
        alone = loadtest(scenario, server.url, tmp_path / "alone.jsonl", *options)
        prompts_alone = [row["prompt"] for row in server.log()]
        together = distributed(tmp_path, scenario, server.url, *options)
        prompts_together = [row["prompt"] for row in server.log()][len(prompts_alone) :]
    assert (alone.code, together.code) == (0, 0), together.output
    first_stage = [row for row in alone.without_worker() if row[0] % 3 < 2]
    assert [row for row in together.without_worker() if row[0] % 3 < 2] == first_stage
    assert [row.request for row in together.rows] == [row.request for row in alone.rows] == list(range(99))
    assert sorted(map(tuple, prompts_together)) == sorted(map(tuple, prompts_alone))
    assert {row.worker for row in together.rows} == {0, 1}
    assert together.header.processes == 2
    assert set(alone.end.client_cpu) == {"worker 0", "busy_max", "loop_lag_p99_ms"}
    assert set(together.end.client_cpu) == set(alone.end.client_cpu) | {"worker 1", "master"}
    assert min(together.end.client_cpu[name] for name in ("worker 0", "worker 1", "master", "busy_max")) > 0
    assert len(counts(alone.output)) == 10
    assert counts(together.output) == counts(alone.output)


def test_the_clients_of_a_closed_loop_are_shared_out(tmp_path: Path) -> None:
    traffic = {"arrivals": {"closed": {"concurrency": 5, "requests_per_client": 4}}}
    with fault_server(*FAST) as server:
        run = distributed(tmp_path, write_scenario(tmp_path, traffic=traffic), server.url)
    assert (run.code, [row.request for row in run.rows]) == (0, list(range(20))), run.output
    by_client = [{row.worker for row in run.rows[client::5]} for client in range(5)]
    assert all(len(workers) == 1 for workers in by_client), "a client stays on its worker"
    assert {worker for workers in by_client for worker in workers} == {0, 1}


def test_a_worker_that_is_killed_makes_the_run_invalid(tmp_path: Path) -> None:
    """What it had sent in is kept, the other worker sends the rest of its own, and the run ends by itself."""
    records, port = tmp_path / "r.jsonl", str(free_port())
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, traffic={"peak_qps": 40})
        master = command(scenario, server.url, records, "--master", "--master-bind-host", "127.0.0.1")
        master += ["--master-bind-port", port, "--expect-workers", "2", "--requests", "280", "--warmup-s", "0"]
        base = [*master[:5], "--worker", "--master-host", "127.0.0.1", "--master-port", port]
        with started(master) as process, started(base), started(base) as victim:
            wait_for_rows(records, 40)
            victim.kill()
            _, errors = process.communicate(timeout=90)
    run = Ended(process.returncode, errors, read_lines(records))
    assert run.code == 1, errors
    assert run.end.reason == "failed"
    assert any(reason.startswith("worker lost: worker ") for reason in run.end.invalid)
    by_worker = [sum(row.worker == worker for row in run.rows) for worker in (0, 1)]
    assert max(by_worker) == 140  # half of the queries
    assert 0 < min(by_worker) < 140
    assert run.end.unsent == 140 - min(by_worker)
    assert run.end.rows == len(run.rows)
