"""Failures under a load that has its own length, and those that come when a run is over, refused by its figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planner
from planner.coefficients import StepCost
from planner.deployment import Simulation
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_record import LOST
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.specs import SchedulerConfig

CLOSED = {"arrivals": {"closed": {"concurrency": 64, "requests": 2000}}}
BATCH = {"arrivals": {"offline": {"requests": 2000}}}
SCENARIO: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096},
    "traffic": CLOSED,
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 200}]},
    "slo": {"p95_tpot_ms": "<=20"},
    "fleet": {"replicas": 2},
}


def stop(at_s: float, back_after_s: float | None = 4.0) -> list[dict[str, Any]]:
    return [{"stop": {"replicas": 1, "at_s": at_s, "back_after_s": back_after_s}}]


def answer(
    traffic: dict[str, Any], failures: list[dict[str, Any]], requests: int | None = None, **fleet: Any
) -> Simulation:
    changes = {"traffic": traffic, "fleet": {"replicas": 2, "failures": failures, **fleet}}
    return planner.simulate(Scenario.from_dict(SCENARIO | changes), requests=requests)


@pytest.mark.parametrize("traffic", [CLOSED, BATCH], ids=["closed", "offline"])
def test_a_stop_in_a_load_of_its_own_length_loses_nobody(traffic: dict[str, Any]):
    """Seconds count from the clients' start; the fleet has less to serve with, so the same queries take longer."""
    calm, hit = answer(traffic, []), answer(traffic, stop(5.0))
    told = hit.as_dict()["failures"]
    (event,) = told["events"]
    assert (5.0, 9.0) == (event["at_s"], event["until_s"])
    assert (0, 2000) == (told["lost"], int(np.isfinite(hit.run.ended_s).sum()))
    # `during` has those, too, whom the stop cut off.
    spans = [event[when]["queries"] for when in ("before", "under_way", "during", "after") if event[when] is not None]
    assert 2000 == sum(spans), "each belongs to one of these"
    in_hand = int(((hit.run.arrival_s < 5.0) & (calm.run.replica == 1) & (calm.run.ended_s > 5.0)).sum())
    assert in_hand == told["retried"] == event["in_hand"]["queries"], "up to the stop it is the run without it"
    assert hit.as_dict()["duration_s"] > calm.as_dict()["duration_s"]
    assert not hit.as_dict()["saturated"], "no backlog is looked for: what is outstanding has its own bound"
    assert hit.counted_s == (0.0, float(hit.run.arrival_s.max()))


def test_without_a_retry_the_clients_of_a_stopped_replica_go_on_with_their_next_query():
    hit = answer(CLOSED, stop(5.0), retry=False)
    told = hit.as_dict()["failures"]
    assert 0 == told["retried"]
    lost = hit.run.why_failed == LOST
    assert (told["lost"], 2000) == (int(lost.sum()), int((lost | np.isfinite(hit.run.last_token_s)).sum()))
    assert 0 < told["lost"] <= 64, "at most one a client"
    assert [5.0] * told["lost"] == pytest.approx(hit.run.failed_s[lost].tolist())


@pytest.mark.parametrize("traffic", [CLOSED, BATCH], ids=["closed", "offline"])
def test_a_failure_after_the_end_is_refused_by_the_runs_own_length(traffic: dict[str, Any]):
    with pytest.raises(ScenarioError) as refused:
        answer(traffic, [*stop(1.0), *stop(900.0)])
    said, (kind,) = str(refused.value), traffic["arrivals"]
    assert said.startswith("fleet.failures[1].stop.at_s (=900.0): all 2,000 queries of the run are over at ")
    assert said.endswith(f" s, or more of traffic.arrivals.{kind}.requests")
    most_s = float(re.search(r"at most ([\d.]+) s", said).group(1))
    assert most_s == pytest.approx(answer(traffic, stop(1.0)).as_dict()["duration_s"], abs=0.01)
    document = answer(traffic, [*stop(1.0), *stop(most_s)]).as_dict()
    assert most_s == document["failures"]["events"][1]["at_s"], "what it names as nearest is accepted"


def test_a_failure_after_a_recorded_loads_end_is_refused_too(tmp_path: Path):
    rows = "\n".join(f"2023-11-16 18:15:{at_s:02d}.0000000,300,20" for at_s in range(0, 40, 2))
    (tmp_path / "t.csv").write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}\n")
    traffic = {"arrivals": {"trace": {"file": str(tmp_path / "t.csv"), "format": "azure"}}}
    document = answer(traffic, stop(10.0)).as_dict()
    (event,) = document["failures"]["events"]
    assert [5, 2, 13] == [event[when]["queries"] for when in ("before", "during", "after")], "one each two seconds"
    with pytest.raises(ScenarioError, match=r"all 20 queries of the run are over at 38\.\d+ s; nearest: at most 38"):
        answer(traffic, stop(60.0))


def test_a_failure_after_a_short_run_is_refused_with_its_last_arrival():
    with pytest.raises(ScenarioError) as refused:
        answer({"peak_qps": 20}, stop(300.0), requests=1000)
    found = re.fullmatch(
        r"fleet\.failures\[0\]\.stop\.at_s \(=300\.0\): the last of the run's 1,000 counted queries comes at "
        r"([\d.]+) s; nearest: at most ([\d.]+) s, or without --requests",
        str(refused.value),
    )
    assert found is not None, str(refused.value)
    assert [50.0, 50.0] == pytest.approx([float(text) for text in found.groups()], abs=8.0), "1,000 ÷ 20/s ± 5 σ"
    document = answer({"peak_qps": 20}, stop(float(found.group(2))), requests=1000).as_dict()
    assert float(found.group(2)) == document["failures"]["events"][0]["at_s"]


def test_slow_and_restarted_replicas_of_a_closed_loop_lose_nobody():
    failures = [{"slow": {"at_s": 2.0, "for_s": 6.0, "factor": 3}}, {"rolling_restart": {"at_s": 12.0, "wait_s": 1}}]
    document = answer(CLOSED, failures, startup_s=3.0).as_dict()
    slow, restart = document["failures"]["events"]
    assert (2.0, 8.0, 12.0) == (slow["at_s"], slow["until_s"], restart["at_s"])
    assert restart["until_s"] > 12.0 + 2 * 3.0 + 1.0, "two replicas start, one after the other"
    usual, paced = slow["before"]["tpot_ms"]["p50"], slow["during"]["tpot_ms"]["p99"]
    assert paced == pytest.approx(3 * usual, rel=0.05), "who was there all along"
    first = [slow[when] for when in ("before", "under_way", "during", "after")]
    counts = [*first, *(restart[when] for when in ("under_way", "during", "after"))]
    shared = [row["shared"] for row in first[1:]]
    assert 2000 == sum(row["queries"] for row in counts) - sum(shared), "what is after the one is before the other"
    assert 64 == sum(shared) == restart["under_way"]["queries"], "each client has one under way"
    assert (0, 0, 0) == tuple(document["failures"][key] for key in ("lost", "retried", "lost_tokens"))


def test_a_run_over_time_marks_the_stop():
    hit = answer(CLOSED, stop(5.0))
    over = hit.timeline(40)
    assert 0.0 == over.begin_s[0]
    assert over.end_s[-1] == pytest.approx(hit.as_dict()["duration_s"], rel=0.01)


# --- by hand: every step takes one second ---


def by_hand(load: Load) -> FleetRun:
    """Two replicas: the second is gone from the beginning, though it came back once; the first stops at 3 s."""
    changes = (*(Change(0.0, 1, what) for what in ("stop", "start", "stop")), Change(3.0, 0, "stop"))
    config, cost = SchedulerConfig(200, 4, 4, 64, 64), StepCost(np.ones(65), np.zeros(5))
    return run_fleet(load, config, cost, 2, "least_loaded", np.random.default_rng(0), control=Control(changes))


def test_clients_send_nothing_more_when_nobody_is_left():
    """Two clients, two steps a query; the replica stops for good at 3 s, so the second pair is lost, the third unsent.

    What was never sent comes when the run is over: as if it had come at 0 s, it would have been in hand at the stop.
    """
    four = np.full(6, 4, np.int32)
    load = Load(np.zeros(6), four, np.full(6, 2, np.int32), clients=2)
    run = by_hand(load)
    assert [0, 0, LOST, LOST, LOST, LOST] == run.why_failed.tolist()
    assert [0, 0, 2, 2, 3, 3] == run.arrival_s.tolist()
    assert run.arrival_s.tolist() == run.sent_s.tolist()
    assert [2, 2, 3, 3, 3, 3] == run.ended_s.tolist()


def test_a_query_that_is_held_at_its_client_came_when_it_came():
    """One may be under way: the second of two clients came at 0 s, though nobody ever served it."""
    load = Load(np.zeros(2), np.full(2, 4, np.int32), np.full(2, 9, np.int32), clients=2, max_in_flight=1)
    run = by_hand(load)
    assert ([LOST, LOST], [0, 0], [3, 3]) == (run.why_failed.tolist(), run.arrival_s.tolist(), run.ended_s.tolist())


def test_turns_that_are_never_due_do_not_come():
    """Planned for 1 s after the first, the second turn waits for an answer that nobody is left to give."""
    follows, twos = np.array([-1, 0]), np.full(2, 4, np.int32)
    load = Load(np.array([0.0, 1.0]), twos, np.full(2, 9, np.int32), think_s=np.ones(2), follows=follows)
    run = by_hand(load)
    assert ([LOST, LOST], [0, 3]) == (run.why_failed.tolist(), run.arrival_s.tolist())
