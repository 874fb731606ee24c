"""What replicas did between instants, worked out by hand: every step takes one second."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from planner.cli.app import cli
from planner.coefficients import StepCost
from planner.deployment import Simulation, simulate
from planner.deployment.tables import request_table, timeline_table
from planner.report.fleet_charts import fleet_timeline_chart
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load
from planner.simulation.timeline import Timeline, timeline
from planner.specs import SchedulerConfig

CONFIG = SchedulerConfig(101, 4, 2, 64, 64)  # 100 blocks of 4 tokens, 2 seats
SCENARIO = {
    "version": 1,
    "name": "a timeline",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "fleet": {"replicas": 2},
    "traffic": {"peak_qps": 20},
    "query": {
        "stages": [{"name": "answer", "prompt_tokens": 500, "output_tokens": 40, "shared_prefix": {"tokens": 200}}]
    },
}


def fleet(arrival_s: list[float], outputs: list[int], marks_s: list[float], replicas: int = 1) -> FleetRun:
    """Prompts of 4 tokens on steps of one second."""
    prompts = np.full(len(outputs), 4, np.int32)
    load = Load(np.array(arrival_s, np.float64), prompts, np.array(outputs, np.int32))
    cost = StepCost(np.ones(65), np.zeros(3))
    return run_fleet(load, CONFIG, cost, replicas, "round_robin", np.random.default_rng(0), marks_s=np.array(marks_s))


def intervals(run: FleetRun, marks_s: list[float]) -> Timeline:
    return timeline(run, np.array(marks_s))


def test_three_requests_on_two_seats():
    """Two run for three seconds while the third waits; then it runs for two; then nobody does."""
    marks_s = [0.0, 3.0, 5.0, 8.0]
    over = intervals(fleet([0, 0, 0], [3, 3, 2], marks_s), marks_s)
    assert over.running[:, 0].tolist() == [2.0, 1.0, 0.0]
    assert over.waiting[:, 0].tolist() == [1.0, 0.0, 0.0]
    assert over.busy_share[:, 0].tolist() == [1.0, 1.0, 0.0]
    assert over.steps[:, 0].tolist() == [3, 2, 0]
    assert over.prefill_tokens[:, 0].tolist() == [8, 4, 0]
    assert over.decode_tokens[:, 0].tolist() == [4, 1, 0]
    assert over.tokens_per_step[:2, 0].tolist() == [4.0, 2.5]
    assert np.isnan(over.tokens_per_step[2, 0])


def test_a_step_counts_whole_where_it_began():
    """Marks fall into the middle of steps: the step in hand belongs to the interval before, which ends with it."""
    marks_s = [0.0, 0.5, 0.75, 2.0]
    over = intervals(fleet([0], [2], marks_s), marks_s)
    assert over.steps[:, 0].tolist() == [1, 0, 1]
    assert over.busy_share[0, 0] == 1.0
    assert np.isnan(over.busy_share[1, 0])  # one step covered all of it
    assert over.busy_share[2, 0] == 1.0


def test_idle_time_before_an_arrival_is_idle():
    marks_s = [0.0, 4.0, 8.0]
    over = intervals(fleet([2], [2], marks_s), marks_s)
    assert over.busy_share[:, 0].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("routing", ["random", "round_robin", "least_loaded"])
def test_intervals_add_up_to_the_ledger_of_a_run_without_marks(routing: str):
    """Looking changes nothing: counts are equal, and times but for rounding."""
    rng = np.random.default_rng(5)
    load = Load(
        np.cumsum(rng.exponential(0.8, 300)),
        rng.integers(1, 20, 300).astype(np.int32),
        rng.integers(1, 30, 300).astype(np.int32),
    )
    cost = StepCost(0.1 + 0.01 * np.arange(65), np.zeros(3), decode_token_s=1e-4)
    plain = run_fleet(load, CONFIG, cost, 4, routing, np.random.default_rng(1))  # type: ignore[arg-type]
    marks_s = np.linspace(0.0, float(np.nanmax(plain.last_token_s)), 37)
    marked = run_fleet(load, CONFIG, cost, 4, routing, np.random.default_rng(1), marks_s=marks_s)  # type: ignore[arg-type]
    over = timeline(marked, marks_s)
    assert (marked.replica == plain.replica).all()
    assert marked.last_token_s == pytest.approx(plain.last_token_s, rel=1e-9)
    for name in ("steps", "prefill_tokens", "decode_tokens", "preemptions"):
        assert getattr(over, name).sum(axis=0).tolist() == plain.ledger[name].tolist()
    assert plain.marks.shape == (0, 4)
    assert marked.marks[-1]["busy_s"] == pytest.approx(plain.ledger["busy_s"], rel=1e-9)


def test_a_row_for_every_model_call():
    run = fleet([0, 0, 0], [3, 3, 2], [0.0, 5.0])
    table = request_table(run)
    assert table["last_token_s"].tolist() == [3.0, 3.0, 5.0]
    assert table["replica"].tolist() == [0, 0, 0]
    assert table["stage"].tolist() == ["answer"] * 3
    assert table["counted"].all()
    assert not table["query_failed"].any()


def test_a_row_for_every_interval_and_replica():
    marks_s = [0.0, 2.0, 4.0]
    table = timeline_table(intervals(fleet([0, 0], [2, 4], marks_s, replicas=2), marks_s))
    of_replicas = table[table["replica"].notna()]
    assert of_replicas[["begin_s", "end_s", "replica", "steps"]].to_numpy().tolist() == [
        [0, 2, 0, 2], [0, 2, 1, 2], [2, 4, 0, 0], [2, 4, 1, 2],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def answer() -> Simulation:
    return simulate(Scenario.from_dict(SCENARIO), requests=1000)


def test_the_timeline_covers_the_run_to_its_last_token(answer: Simulation):
    over = answer.timeline(50)
    zero_s = answer.run.load.arrival_s[answer.run.load.warmup]
    assert over.begin_s[0] == -zero_s < 0.0 == answer.counted_s[0]
    assert over.end_s[-1] == np.nanmax(answer.run.last_token_s) - zero_s
    assert int(over.decode_tokens.sum()) == answer.document["ledger"]["decode_tokens"]
    assert answer.requests()["counted"].sum() == answer.document["queries"] == 1000


def test_seconds_are_those_of_the_failures():
    """A replica stops at 10 s and is back at 20 s: in between it has no steps, and the calls that it had are told."""
    stop = [{"stop": {"replicas": 1, "at_s": 10, "back_after_s": 10}}]
    result = simulate(Scenario.from_dict(SCENARIO | {"fleet": {"replicas": 2, "failures": stop}}), requests=1000)
    over = result.timeline(400)
    off = (over.begin_s > 10.1) & (over.end_s < 20)
    assert off.sum() > 30
    assert (0, True) == (over.steps[off, 1].sum(), (over.steps[off, 0] > 0).all())
    calls = result.requests()
    again = calls[calls["query_retried"] > 0]
    assert len(again) > 0
    assert again["arrival_s"].between(8, 10).all()
    assert calls.loc[calls["counted"], "arrival_s"].min() == 0.0


def test_why_a_query_failed_and_which_turn_it_was():
    impatient = {"traffic": {"peak_qps": 200, "timeout_s": 1.5}, "fleet": {"replicas": 1}}
    calls = simulate(Scenario.from_dict(SCENARIO | impatient), requests=1000).requests()
    assert set(calls["why_failed"].dropna()) == {"timed out"}
    assert (calls["why_failed"].notna() == calls["query_failed"]).all()
    assert calls["turn"].isna().all()
    turned_away = SCENARIO | impatient | {"fleet": {"admission": {"max_requests_per_replica": 8}}}
    calls = simulate(Scenario.from_dict(turned_away), requests=1000).requests()
    assert "rejected" in set(calls["why_failed"].dropna())
    stage = SCENARIO["query"]["stages"][0] | {"turns": 3, "think_s": 1}  # type: ignore[index]
    calls = simulate(Scenario.from_dict(SCENARIO | {"query": {"stages": [stage]}}), requests=1000).requests()
    of_one = calls[calls["session"] == calls["session"].iloc[-1]]
    assert of_one["turn"].tolist() == list(range(1, len(of_one) + 1))
    assert of_one["arrival_s"].is_monotonic_increasing
    assert calls["turn"].max() == 3


@pytest.mark.parametrize(("hits", "panels"), [(0, 3), (5, 4)])
def test_the_picture_has_a_panel_for_what_there_is_and_names_its_events(hits: int, panels: int):
    marks_s = [0.0, 3.0, 5.0, 8.0]
    over = intervals(fleet([0, 0, 0], [3, 3, 2], marks_s), marks_s)
    over = over._replace(hit_tokens=over.hit_tokens + hits, queried_tokens=over.queried_tokens + 10)
    events = [{"what": "stop", "replicas": 1, "at_s": 2.0, "until_s": 4.0}]
    figure = fleet_timeline_chart("a run", over, (0.0, 8.0), events)
    assert panels == len(figure.axes)
    assert [" stop of 1 replica"] == [text.get_text() for axis in figure.axes for text in axis.texts]
    for axis in figure.axes:
        assert {2.0, 4.0} <= {line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2}  # type: ignore[index, arg-type]


def test_a_short_run_says_how_much_of_it_is_its_end():
    """A hundred queries in five seconds, and then their answers alone."""
    notes = simulate(Scenario.from_dict(SCENARIO), requests=100).document["notes"]
    assert ["throughput and goodput are over"] == [note[:31] for note in notes if "nobody comes" in note]
    notes = simulate(Scenario.from_dict(SCENARIO), requests=4000).document["notes"]
    assert [] == [note for note in notes if "nobody comes" in note]


def test_files_are_written_as_their_names_ask(tmp_path: Path):
    scenario = tmp_path / "s.yaml"
    scenario.write_text(json.dumps(SCENARIO))
    names = [tmp_path / name for name in ("run.png", "run.parquet", "calls.parquet")]
    options = ["--timeline", str(names[0]), "--timeline", str(names[1]), "--per-request", str(names[2])]
    result = CliRunner().invoke(cli, ["simulate", str(scenario), "--requests", "1000", "--intervals", "20", *options])
    assert result.exit_code == 0, result.output
    height, width, *_ = imread(io.BytesIO(names[0].read_bytes())).shape
    assert width > height / 2 > 200
    over = pd.read_parquet(names[1])
    assert len(over) == 20 * (2 + 1)
    calls = pd.read_parquet(names[2])
    assert calls["counted"].sum() == 1000
    assert (calls["last_token_s"] > calls["arrival_s"]).all()
    assert calls["replica"].isin([0, 1]).all()


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    result = CliRunner().invoke(cli, ["simulate", "ai-search", "--timeline", str(tmp_path / "run.csv")])
    assert result.exit_code == 2
    assert "must end in .parquet or .png or .svg" in result.output
