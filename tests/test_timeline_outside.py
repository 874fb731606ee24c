"""What of a run is no replica's, and shares of the time that replicas are on, worked out by hand: steps of a second."""

from __future__ import annotations

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.deployment import simulate
from planner.deployment.tables import timeline_table
from planner.report.fleet_charts import fleet_timeline_chart
from planner.scenario import Scenario
from planner.simulation.fleet import run_fleet, without_cooldown
from planner.simulation.fleet_record import FleetRun
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.simulation.stays import NO_STAYS, Stays, joined, seconds_between
from planner.simulation.timeline import Timeline, timeline
from planner.specs import SchedulerConfig

CONFIG = SchedulerConfig(101, 4, 2, 64, 64)  # 100 blocks of 4 tokens, 2 seats
OUTAGE = (Change(2.0, 0, "stop"), Change(5.0, 0, "start"))
SCENARIO = {
    "version": 1,
    "name": "a run",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "fleet": {"replicas": 2},
    "traffic": {"peak_qps": 20},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 500, "output_tokens": 40}]},
}


def fleet(
    arrival_s: list[float],
    outputs: list[int],
    marks_s: list[float],
    control: Control,
    *,
    replicas: int = 1,
    timeout_s: float = np.inf,
) -> tuple[FleetRun, Timeline]:
    """Prompts of 4 tokens on steps of one second."""
    prompts, at_s = np.full(len(outputs), 4, np.int32), np.array(marks_s)
    load = Load(np.array(arrival_s, np.float64), prompts, np.array(outputs, np.int32), timeout_s=timeout_s)
    fixed = (load, CONFIG, StepCost(np.ones(65), np.zeros(3)), replicas, "round_robin", np.random.default_rng(0))
    run = run_fleet(*fixed, control=control, marks_s=at_s)  # type: ignore[arg-type]
    return run, timeline(run, at_s)


STAYS = [
    ([], [0, 0], "nobody was ever there"),
    ([(0.0, 4.0)], [2, 2], "all the time"),
    ([(1.0, 3.0)], [1, 1], "over a mark"),
    ([(-5.0, 1.0), (3.0, np.inf)], [1, 1], "it began before the first mark, and has no end"),
    ([(0.5, 1.0), (0.5, 3.0)], [2, 1], "two at once count twice"),
    ([(5.0, 9.0)], [0, 0], "after the last mark"),
]


@pytest.mark.parametrize(("spells", "seconds", "because"), STAYS, ids=[row[2] for row in STAYS])
def test_seconds_between_marks(spells: list[tuple[float, float]], seconds: list[float], because: str):
    columns = np.array(spells).reshape(-1, 2).T
    stays = Stays(np.arange(len(spells)), columns[0], columns[1])
    assert seconds == seconds_between(stays, np.array([0.0, 2.0, 4.0])).tolist(), because


def test_where_nobody_is_the_seconds_are_exactly_zero():
    rng = np.random.default_rng(0)
    from_s = rng.uniform(0, 1e5, 10_000)
    stays = Stays(np.arange(10_000), from_s, from_s + rng.exponential(1e3, 10_000))
    assert 0.0 == seconds_between(stays, np.array([0.0, 2e6, 3e6]))[1]
    assert NO_STAYS.who.tolist() == joined([]).who.tolist() == []


def test_in_a_total_outage_everybody_waits_at_no_replica():
    """One is stopped at 2 s and tried again at 2.5 s, when nobody serves; one comes at 3 s. Both run from 5 s on."""
    marks_s = [0.0, 2.0, 3.0, 5.0, 7.0, 9.0]
    _, over = fleet([0, 3], [4, 2], marks_s, Control(OUTAGE, retry_after_s=0.5))
    assert [0, 1, 2, 0, 0] == over.elsewhere.waiting.tolist()
    assert [1, 0, 0, 2, 1] == over.running[:, 0].tolist()
    assert [0, 0, 0, 0, 0] == over.waiting[:, 0].tolist()
    assert [1, 0, 1, 0, 0] == over.elsewhere.due.tolist()


def test_who_gives_up_at_the_router_waits_no_more():
    """Of three seconds' patience the first has none left at 3 s, the second, which came then, at 6 s in the batch."""
    run, over = fleet([0, 3], [4, 2], [0.0, 2.0, 3.0, 5.0, 8.0], Control(OUTAGE), timeout_s=3.0)
    assert [3.0, 6.0] == run.failed_s.tolist()
    assert [0, 1, 1, 0] == over.elsewhere.waiting.tolist()
    assert [0, 0, 1, 1] == over.elsewhere.timed_out.tolist()


def test_when_nobody_comes_back_all_give_up_at_the_router():
    run, over = fleet([0, 3], [4, 2], [0.0, 2.0, 13.0], Control(OUTAGE[:1]), timeout_s=10.0)
    assert [10.0, 13.0] == run.failed_s.tolist()
    assert [0, (8 + 10) / 11] == over.elsewhere.waiting.tolist()
    assert [0, 2] == over.elsewhere.timed_out.tolist()  # the last interval has its end, too


FAILED = [
    ("rejected", Control(room=1), np.inf, [0, 0.5, 3], [1, 1], "one is in up to 4 s, two find no room"),
    ("timed_out", Control(), 2.5, [0, 0.5, 3], [0, 3], "patience of 2.5 s: at 2.5 s, 3 s and 5.5 s"),
    ("lost", Control(OUTAGE, retry=False), np.inf, [0, 0.5, 6], [0, 2], "both are in hand at the stop, at 2 s"),
]


@pytest.mark.parametrize(("why", "control", "timeout_s", "arrival_s", "failed", "because"), FAILED)
def test_queries_that_fail(
    why: str, control: Control, timeout_s: float, arrival_s: list[float], failed: list[int], because: str
):
    _, over = fleet(arrival_s, [4, 4, 4], [0.0, 1.5, 12.0], control, timeout_s=timeout_s)
    counts = {name: getattr(over.elsewhere, name).tolist() for name in ("rejected", "timed_out", "lost")}
    assert {"rejected": [0, 0], "timed_out": [0, 0], "lost": [0, 0]} | {why: failed} == counts, because


def test_a_replica_that_is_off_is_not_idle():
    """Replica 1 stops at 2 s for three seconds; replica 0 is busy all the time, replica 1 as long as it is on."""
    changes = (Change(2.0, 1, "stop"), Change(5.0, 1, "start"))
    run, over = fleet([0, 0, 5, 5], [9, 9, 9, 3], [0.0, 1.0, 3.0, 4.0, 6.0, 8.0], Control(changes), replicas=2)
    assert [1, 1, 0, 1, 2] == over.on_s[:, 1].tolist()
    assert [14, 14 - 3] == run.on_s.tolist()
    assert [1, 1, 1, 1] == over.busy_share[[0, 1, 3, 4], 1].tolist()
    assert np.isnan(over.busy_share[2, 1])
    assert np.isnan(over.kv_usage[2, 1])
    assert 0.0 == over.running[2, 1]  # but it is known how many run there
    assert (over.busy_share[:, 0] == 1.0).all()


def test_busy_time_of_the_table_is_that_of_the_answer():
    """A stop, and a rolling restart, in which those that start are paid for and idle."""
    failures = [
        {"stop": {"replicas": 1, "at_s": 10, "back_after_s": 9}},
        {"rolling_restart": {"at_s": 30, "wait_s": 2}},
    ]
    told = {"fleet": {"replicas": 3, "startup_s": 5, "failures": failures}, "traffic": {"peak_qps": 60}}
    result = simulate(Scenario.from_dict(SCENARIO | told))
    table = result.timeline_table(50)
    busy = (table["busy_share"] * table["on_s"]).sum() / table["on_s"].sum()
    assert result.document["utilisation"] == pytest.approx(busy, rel=1e-3)  # to the last token, and to the last step
    assert result.document["failures"]["lost"] == table["lost"].sum() == 0
    assert table["due"].sum() == result.run.load.queries


def test_the_last_row_of_an_interval_is_of_no_replica():
    _, over = fleet([0, 3], [4, 2], [0.0, 2.0, 3.0, 5.0], Control(OUTAGE))
    table = timeline_table(over)
    assert [False, True] * 3 == table["replica"].isna().tolist()
    outside = table[table["replica"].isna()]
    assert [0, 1, 2] == outside["waiting"].tolist()
    assert outside[["running", "busy_share", "on_s", "steps", "tokens_per_step"]].isna().all(axis=None)
    inside = table[table["replica"].notna()]
    assert inside[["due", "rejected", "timed_out", "lost"]].isna().all(axis=None)
    assert [2, 0, 0] == inside["steps"].tolist()


def test_without_the_cooldown_nobody_of_it_waits():
    load = Load(np.array([0.0, 3.0]), np.full(2, 4, np.int32), np.array([4, 2], np.int32), cooldown=1)
    fixed = (load, CONFIG, StepCost(np.ones(65), np.zeros(3)), 1, "round_robin", np.random.default_rng(0))
    run = run_fleet(*fixed, control=Control(OUTAGE))  # type: ignore[arg-type]
    assert ([0, 1], [0]) == (sorted(run.away.who), sorted(without_cooldown(run).away.who))


# --- the picture ---

PANELS = [
    (Control(), np.inf, [], "nobody fails, nobody is without a replica"),
    (Control(room=1), np.inf, ["due", "rejected"], "only what there is"),
    (Control(OUTAGE, retry=False), 2.6, ["due", "timed out", "lost with a replica"], "two kinds"),
]


@pytest.mark.parametrize(("control", "timeout_s", "lines", "because"), PANELS)
def test_the_picture_has_a_panel_of_queries_that_fail(
    control: Control, timeout_s: float, lines: list[str], because: str
):
    _, over = fleet([0, 0.5, 3, 3.5], [4, 4, 4, 4], [0.0, 1.5, 12.0], control, timeout_s=timeout_s)
    figure = fleet_timeline_chart("a run", over, (0.0, 12.0))
    panels = [axis for axis in figure.axes if axis.get_ylabel() == "queries/s"]
    assert lines == [str(line.get_label()) for axis in panels for line in axis.lines], because


def test_the_picture_draws_who_is_at_no_replica():
    _, over = fleet([0, 3], [4, 2], [0.0, 2.0, 3.0, 5.0], Control(OUTAGE))
    lines = {str(line.get_label()): line for line in fleet_timeline_chart("a run", over, (0.0, 5.0)).axes[0].lines}
    assert [0, 1, 2] == list(lines["at no replica (waiting at the router, or for a retry)"].get_ydata())


def test_the_picture_weighs_each_replica_with_the_time_that_it_is_on():
    """Replica 0 computes without a pause; replica 1 serves from 3 s on, and has nothing to do: half the time on."""
    control = Control((Change(0.0, 1, "stop"), Change(3.0, 1, "start")))
    _, over = fleet([0], [6], [0.0, 2.0, 4.0, 6.0], control, replicas=2)
    busy = next(
        line
        for line in fleet_timeline_chart("a run", over, (0.0, 6.0)).axes[1].lines
        if line.get_label() == "time busy"
    )
    assert pytest.approx([100, 200 / 3, 50]) == list(busy.get_ydata())


def test_with_sessions_grey_ends_when_a_counted_query_first_comes():
    """The first counted query is a later turn, and comes late, since answers take their time."""
    stage = SCENARIO["query"]["stages"][0] | {"turns": 4, "think_s": 5}  # type: ignore[index]
    result = simulate(Scenario.from_dict(SCENARIO | {"query": {"stages": [stage]}}), requests=1000, seed=3)
    calls = result.requests()
    came_s = calls.loc[calls["counted"], "arrival_s"]
    assert (came_s.min(), came_s.max()) == result.counted_s
    assert came_s.iloc[0] > came_s.min() >= 0.0
