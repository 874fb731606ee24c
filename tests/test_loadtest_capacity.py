"""The search for the most load that a real server carried: how it ends, and that what was measured is never lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from simulated_records import scenario_with, write_records

from planner.errors import DataFileError, EndpointError, ScenarioError
from planner.readers.recordings import read_own
from planner.studies import loadtest_capacity
from planner.studies.loadtest import LoadTest, evaluate
from planner.studies.loadtest_capacity import MeasuredCapacity, lowest_rate, measured_capacity

SENT = scenario_with()
# Without hardware nothing is simulated: these tests are about what was measured.
SCENARIO = scenario_with(hardware=None)
GONE = EndpointError("http://h", "GET /v1/models", "connection refused")


@dataclass(frozen=True)
class Runs:
    """A run that held its limits, and one that did not."""

    held: LoadTest
    broken: LoadTest


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")

    def made(name: str, **options: Any) -> LoadTest:
        return evaluate(read_own(write_records(folder / f"{name}.jsonl", SENT, **options)), SCENARIO)

    found = Runs(made("held"), made("broken", slower=1000.0))
    assert (found.held.document["slo_met"], found.broken.document["slo_met"]) == (True, False)
    return found


@dataclass
class Steps:
    """Makes steps as `judge` says, and notes the rates."""

    judge: Callable[[float, int], LoadTest | None]
    rates: list[float] = field(default_factory=list)

    def search(self, lowest_qps: float = 0.1, start_qps: float = 40.0) -> MeasuredCapacity:
        scenario = SCENARIO.with_values({"traffic.peak_qps": start_qps})
        return measured_capacity(scenario, self.step, 0, 0.05, lowest_qps)

    def step(self, rate: float, number: int) -> LoadTest | None:
        self.rates.append(rate)
        return self.judge(rate, number)


def with_values(test: LoadTest, **values: Any) -> LoadTest:
    return replace(test, document={**test.document, **values})


# --- the lowest rate ---


@pytest.mark.parametrize(
    ("requests", "duration_s", "hit_rate", "expected", "because"),
    [
        (None, 60.0, 0.0, 1 / 3, "20 queries in a minute"),
        (None, 60.0, 0.5, 2 / 3, "every other of them reaches the model"),
        (1800, 60.0, 0.0, 0.5, "so many queries in an hour"),
        (1800, 60.0, 0.75, 2.0, "of which a quarter reaches the model"),
    ],
)
def test_the_lowest_rate_is_one_that_a_step_can_test(
    requests: int | None, duration_s: float, hit_rate: float, expected: float, because: str
):
    scenario = scenario_with(query__response_cache={"hit_rate": hit_rate})
    assert lowest_rate(scenario, requests, duration_s) == pytest.approx(expected), because


def test_limits_that_never_hold_end_at_the_lowest_rate_with_every_step_shown(runs: Runs):
    steps = Steps(lambda rate, number: runs.broken)
    found = steps.search(lowest_qps=1.0)
    assert steps.rates == sorted(steps.rates, reverse=True)
    assert steps.rates[-1] == 1.0
    assert found.document["max_rate_qps"] == 0
    assert found.document["ended"] == "even 1 queries/s, the lowest rate that can be tested, did not hold"
    assert [probe["rate_qps"] for probe in found.document["probes"]] == sorted(steps.rates)
    assert "NO RATE HELD" in str(found)
    assert found.error is None


def test_a_lowest_rate_that_holds_is_narrowed_from_as_any_other(runs: Runs):
    steps = Steps(lambda rate, number: runs.held if rate < 1.3 else runs.broken)
    found = steps.search(lowest_qps=1.0)
    assert 1.0 <= found.document["max_rate_qps"] < 1.3 <= found.document["first_broken_qps"]
    assert found.document["first_broken_qps"] <= 1.05 * found.document["max_rate_qps"]
    assert found.document["ended"] == ""


def test_a_search_may_begin_below_the_lowest_rate_and_goes_no_lower(runs: Runs):
    steps = Steps(lambda rate, number: runs.broken)
    found = steps.search(lowest_qps=1.0, start_qps=0.5)
    assert steps.rates == [0.5]
    assert found.document["ended"].startswith("even 0.5 queries/s")


# --- what ends it early ---


@pytest.mark.parametrize("error", [GONE, DataFileError("records", "r.jsonl", "hold no query beyond the warm-up")])
def test_a_step_that_cannot_be_made_leaves_those_before_it(runs: Runs, error: Any):
    def judge(rate: float, number: int) -> LoadTest:
        if number == 3:
            raise error
        return runs.held

    found = Steps(judge).search()
    assert [probe["rate_qps"] for probe in found.document["probes"]] == [40.0, 60.0]
    assert found.document["max_rate_qps"] == 60.0
    assert found.document["ended"] == f"at 120 queries/s: {error}"
    assert f"{error}" in " ".join(str(found).split())
    assert found.error is error


def test_a_first_step_that_cannot_be_made_is_an_error_and_no_answer():
    def judge(rate: float, number: int) -> LoadTest:
        raise GONE

    with pytest.raises(EndpointError):
        Steps(judge).search()


def test_an_interruption_anywhere_leaves_the_steps_before_it(runs: Runs, monkeypatch: pytest.MonkeyPatch):
    def judge(rate: float, number: int) -> LoadTest:
        if number == 2:
            raise KeyboardInterrupt
        return runs.held

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loadtest_capacity, "capacity", interrupted)
    found = Steps(judge).search()
    assert found.document["ended"] == "stopped by the user"
    assert found.document["max_rate_qps"] == 40.0
    assert found.document["simulated"]["not_simulated"] == "stopped by the user"


@pytest.mark.parametrize("rows", [False, True], ids=["before any row", "within the first step"])
def test_a_search_stopped_before_a_step_was_complete_measured_nothing(
    runs: Runs, rows: bool, monkeypatch: pytest.MonkeyPatch
):
    def judge(rate: float, number: int) -> LoadTest:
        if rows:
            return with_values(runs.broken, ended="interrupted", valid=False, invalid=["interrupted"])
        raise KeyboardInterrupt

    monkeypatch.setattr(loadtest_capacity, "capacity", lambda *_, **__: pytest.fail("nobody waits for a simulation"))
    found = Steps(judge).search()
    assert found.document["ended"] == "stopped by the user"
    assert found.document["max_rate_qps"] is None, "what was not measured is not zero"
    assert "NOTHING WAS MEASURED YET: stopped by the user before a step was complete." in str(found)
    assert "NO RATE HELD" not in str(found)


def test_a_first_step_that_the_load_tester_spoiled_measured_nothing(runs: Runs):
    found = Steps(lambda rate, number: with_values(runs.held, valid=False, invalid=["client busy"])).search()
    assert found.document["max_rate_qps"] is None
    assert "NOTHING WAS MEASURED: at 40 queries/s by the load tester itself: client busy." in str(found)


def test_warnings_of_steps_are_told_once_with_the_rates_that_they_are_of(runs: Runs):
    def judge(rate: float, number: int) -> LoadTest:
        warnings = ["of all", *(["of this one"] if number == 2 else [])]
        return with_values(runs.held if rate < 50 else runs.broken, warnings=warnings)

    found = Steps(judge).search()
    short, *told = found.document["warnings"]  # these runs count nine seconds
    assert "overstate the capacity" in short
    assert told == ["of all", "at 60 queries/s: of this one"]
    assert "WARNING: of all." in str(found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"server": {"gone": "connection refused"}}, "the server is gone (connection refused)"),
        ({"requests": 0, "failures": {"HTTP 500": 9}}, "the server answered nothing"),
        ({"valid": False, "invalid": ["client busy"]}, "by the load tester itself: client busy"),
        ({"ended": "interrupted"}, "stopped by the user"),
    ],
)
def test_a_step_that_is_no_answer_is_the_last(runs: Runs, values: dict[str, Any], said: str):
    steps = Steps(lambda rate, number: with_values(runs.held, **values) if number == 2 else runs.held)
    found = steps.search()
    assert steps.rates == [40.0, 60.0]
    assert said in found.document["ended"]


def test_there_must_be_something_to_search():
    for changes, key in (
        ({"slo": None}, "slo"),
        ({"traffic.arrivals": {"closed": {"concurrency": 2}}, "traffic.peak_qps": None}, "traffic.arrivals"),
        ({"traffic.peak_qps": None}, "traffic.peak_qps"),
    ):
        with pytest.raises(ScenarioError) as caught:
            measured_capacity(SCENARIO.with_values(changes), lambda rate, number: None, 0, 0.05, 1.0)
        assert caught.value.key == key


# --- the simulator beside it ---


def simulated_up_to(test: LoadTest, rate: float, most: float) -> LoadTest:
    return with_values(test, simulated={"slo_met": rate <= most, "saturated": False, "slo": []})


@pytest.mark.parametrize(
    ("most", "said", "because"),
    [
        (65.0, "Simulated, the same steps: 60 queries/s, as measured;", "the same step is the highest in both"),
        (40.0, "Simulated, the same steps: 40 queries/s (−33 % off);", "a lower step is the highest simulated one"),
        (1.0, "Simulated, the same steps: none holds.", "zero, not absent"),
    ],
)
def test_the_simulator_is_asked_the_same_steps_first(
    runs: Runs, most: float, said: str, because: str, monkeypatch: pytest.MonkeyPatch
):
    long_run = {"max_rate_qps": 30.0, "band80": {}, "limited_by": "p99_ttft_ms", "kv_cache_tokens": 1}
    monkeypatch.setattr(loadtest_capacity, "capacity", lambda *_, **__: with_values(runs.held, **long_run))

    def judge(rate: float, number: int) -> LoadTest:
        return simulated_up_to(runs.held if rate <= 60 else runs.broken, rate, most)

    found = measured_capacity(SCENARIO.with_values({"traffic.peak_qps": 40.0}), judge, 0, 0.5, 0.1)
    text = " ".join(str(found).split())
    assert found.document["max_rate_qps"] == 60.0
    assert said in text, because
    assert "To plan with, by the simulator: 30 queries/s hold with 95 % confidence in a long run" in text
    assert text.index("the same steps") < text.index("To plan with")


@pytest.mark.parametrize(("duration_s", "warned"), [(4.0, True), (29.0, True), (30.0, False)])
def test_short_steps_are_said_to_overstate(runs: Runs, duration_s: float, warned: bool):
    def judge(rate: float, number: int) -> LoadTest:
        test = runs.held if rate < 50 else runs.broken
        assert test.recording.header is not None
        header = msgspec.structs.replace(test.recording.header, duration_s=duration_s)
        return replace(test, recording=replace(test.recording, header=header))

    warnings = Steps(judge).search().document["warnings"]
    assert any(f"the shortest {duration_s:.3g} s) overstate the capacity" in warning for warning in warnings) == warned


# --- whose failure it was ---


@pytest.mark.parametrize(
    ("values", "usable", "endpoint_failed"),
    [
        ({}, True, False),
        ({"failures": {"HTTP 500": 3}}, True, False),
        ({"valid": False, "invalid": ["client busy"]}, False, False),
        ({"requests": 0, "failures": {"HTTP 500": 9}}, False, True),
        ({"requests": 0}, False, False),
        ({"server": {"gone": "connection refused"}}, False, True),
    ],
)
def test_a_run_is_not_usable_by_the_servers_failure_or_the_load_testers(
    runs: Runs, values: dict[str, Any], usable: bool, endpoint_failed: bool
):
    test = with_values(runs.held, **values)
    assert (test.usable, test.endpoint_failed) == (usable, endpoint_failed)
