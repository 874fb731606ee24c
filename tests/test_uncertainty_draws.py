"""The laws of the draws, the response surface, and the search for the points behind it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner import Scenario
from planner.deployment import deploy, draw_worlds, make_load, only_candidate, run, run_length
from planner.scenario import Uncertainty
from planner.studies.uncertainty.answers import quantiles
from planner.studies.uncertainty.design import spread
from planner.studies.uncertainty.draws import draw_scores, factors_of, lognormal
from planner.studies.uncertainty.laboratory import most_rate, with_outputs
from planner.studies.uncertainty.surface import At, Idle, Point, fit, fit_with_error
from planner.studies.uncertainty.worlds import (
    StepTimes,
    busy_seconds,
    from_worlds,
    in_draws,
    slower,
    world_factors,
)
from tests.test_uncertainty_scenario import CVS, GIVEN, asked

EASY = Idle((1.0,), (1e-9,), (1e-9,))  # limits that an idle fleet never comes near


# --- factors ---


@pytest.mark.parametrize("cv", [1e-6, 0.1, 0.5, 2.0])
def test_a_factor_has_mean_1_and_the_cv_that_was_asked_for(cv: float) -> None:
    """Over midpoints of equal layers the moments converge from below; a million layers suffice to 1 % at cv 2."""
    from scipy.special import ndtri

    scores = ndtri((np.arange(1_000_000) + 0.5) / 1_000_000)
    factors = lognormal(scores, cv)
    assert factors.mean() == pytest.approx(1.0, rel=1e-3)
    assert factors.std() / factors.mean() == pytest.approx(cv, rel=0.02)
    assert np.median(factors) == pytest.approx(1 / math.sqrt(1 + cv**2), rel=1e-5)


@pytest.mark.parametrize("rho", [-0.8, 0.3, 1.0])
def test_correlations_come_back_from_the_draws(rho: float) -> None:
    """A sample correlation of 20,000 has a standard error of (1 − ρ²)/√20,000 ≤ 0.0071; four of them are allowed."""
    given = asked(CVS | {"samples": 20_000, "correlations": [{"between": ["peak_qps", "revenue"], "rho": rho}]})
    factors = factors_of(draw_scores(given, 3), given)
    logs = np.log([factors["peak_qps"], factors["revenue"], factors["price"]])
    found = np.corrcoef(logs)
    assert found[0, 1] == pytest.approx(rho, abs=0.03)
    assert found[0, 2] == pytest.approx(0.0, abs=0.03)
    for name in ("peak_qps", "revenue"):  # correlated or not, each keeps its own law
        assert factors[name].std() == pytest.approx(0.1, rel=0.05)


def test_a_seed_draws_the_same_bits_and_another_seed_others() -> None:
    given = asked(CVS | {"correlations": [{"between": ["peak_qps", "revenue"], "rho": 0.3}]})
    one, again, other = (draw_scores(given, seed) for seed in (5, 5, 6))
    for name in given.varied:
        assert one[name].tobytes() == again[name].tobytes()
        assert one[name].tobytes() != other[name].tobytes()


def test_an_input_draws_the_same_whatever_else_varies() -> None:
    alone, beside = (draw_scores(asked(cvs), 1) for cvs in ({"price_cv": 0.2}, CVS))
    assert alone["price"].tobytes() == beside["price"].tobytes()


def test_an_input_that_does_not_vary_is_1_in_every_draw() -> None:
    factors = factors_of(draw_scores(asked({"price_cv": 0.2}), 1), asked({"price_cv": 0.2}))
    assert set(factors["peak_qps"]) == {1.0}
    assert "step_time" not in factors  # its law is that of the worlds


# --- the step time ---


def small(**uncertainty: Any) -> Scenario:
    return Scenario.from_dict(GIVEN | {"uncertainty": Uncertainty(**uncertainty).model_dump(exclude_none=True)})


@pytest.fixture(scope="module")
def ran() -> tuple[Any, Any, Any]:
    scenario = small()
    deployment = deploy(only_candidate(scenario, "test"))
    load = make_load(scenario, deployment.config.max_model_len, 0, run_length(scenario, 2000, 2.0, 3))
    return deployment, load, run(deployment, scenario, load, 2, 0)


def test_a_factor_of_two_doubles_every_step_and_changes_nothing_else(ran: tuple[Any, Any, Any]) -> None:
    cost = ran[0].cost
    twice = slower(cost, 2.0)
    work = ([700, 900], [(0, 512)])
    assert twice.step_s(*work) == pytest.approx(2 * cost.step_s(*work))
    assert (twice.frontend_s, twice.window) == (2 * cost.frontend_s, cost.window)


def test_the_terms_add_up_to_about_the_time_that_the_engines_were_busy(
    ran: tuple[Any, Any, Any],
) -> None:
    """Two kinds of steps stand for all: a fifth off is allowed, a forgotten factor (steps, layers, ms) is not."""
    deployment, load, outcome = ran
    assert sum(busy_seconds(deployment, load, outcome)) == pytest.approx(outcome.figures["ledger"]["busy_s"], rel=0.2)


def test_a_world_in_which_all_drivers_double_has_a_step_time_factor_of_two(ran: tuple[Any, Any, Any]) -> None:
    """Terms with one driver double; those with more do more, so that the factor is at least two."""
    deployment, load, outcome = ran
    nominal, double = (
        replace(draw_worlds(deployment, 0, 20)[0], factors=dict.fromkeys(deployment.breakdown.drivers, factor))
        for factor in (1.0, 2.0)
    )
    step_time, prompt_time = world_factors(deployment, [nominal, double], load, outcome)
    assert (step_time[0], prompt_time[0]) == pytest.approx((1.0, 1.0))
    most = max(len(term.drivers) for term in deployment.breakdown.terms)
    assert 2.0 <= step_time[1] <= 2.0**most


def test_worlds_are_ranked_as_the_scores_are(ran: tuple[Any, Any, Any]) -> None:
    scores = draw_scores(small(samples=200).uncertainty, 0)["step_time"]  # type: ignore[arg-type]
    times = from_worlds(*ran, scores, 0)
    assert np.array_equal(np.argsort(times.factors, kind="stable"), np.argsort(scores, kind="stable"))
    assert sorted(times.order) == list(range(200))  # type: ignore[arg-type]


def test_every_deployment_that_is_asked_for_is_in_the_world_of_its_draw(ran: tuple[Any, Any, Any]) -> None:
    deployment = ran[0]
    scores = draw_scores(small(samples=200).uncertainty, 0)["step_time"]  # type: ignore[arg-type]
    times = from_worlds(*ran, scores, 0)
    worlds = times.worlds(deployment)
    assert worlds is not None
    changed = in_draws(times, [7])(7, deployment)
    assert changed.config.num_blocks == worlds[7].num_blocks
    assert np.array_equal(changed.cost.tokens_s, deployment.breakdown.cost(worlds[7].factors).tokens_s)
    given = in_draws(StepTimes(np.full(9, 1.5)), [7])(7, deployment)
    assert given.cost.tokens_s[1] == pytest.approx(1.5 * deployment.cost.tokens_s[1])


# --- the surface ---


def law(f: float, p: float, t: float, n: float, idle: Idle = EASY) -> float:
    """A rate per replica that is within what the surface can say."""
    room = math.log(1 - float(idle.at(At(f, p, t))))
    return math.exp(1.2 - 1.3 * math.log(f) + 1.4 * room + 0.2 * math.log(f) ** 2 - 0.8 * math.log(t) - 0.5 / n)


def points(idle: Idle, count: int = 24) -> list[Point]:
    rng = np.random.default_rng(0)
    drawn = zip(rng.uniform(0.8, 1.3, count), rng.uniform(0.7, 1.4, count), rng.integers(3, 40, count), strict=True)
    return [Point(f, 1.0, t, int(n), n * law(f, 1.0, t, n, idle)) for f, t, n in drawn]


TIGHT = Idle((0.5, 2.0), (0.6, 0.6), (0.1, 0.2))


@pytest.mark.parametrize("idle", [EASY, TIGHT], ids=["easy limits", "a limit that an idle fleet comes near"])
def test_a_law_within_the_surface_s_reach_is_found(idle: Idle) -> None:
    """To 0.3 %, which is the ridge's: rates differ by 2.7 here. Least squares, a ridge of 0, would find it exactly."""
    surface = fit_with_error(points(idle), idle)
    for f, t, n in [(0.9, 0.8, 5), (1.0, 1.0, 12), (1.25, 1.3, 30)]:
        assert float(surface.rate_per_replica(At(f, 1.0, t), n)) == pytest.approx(law(f, 1.0, t, n, idle), rel=3e-3)
    assert surface.typical_error == pytest.approx(0.0, abs=3e-3)


def test_noise_in_the_points_shows_as_the_surface_s_error() -> None:
    """Residuals of left-out points are wider than the noise, by the leverage of the fit: up to 2 with 24 points."""
    noise = np.random.default_rng(1).normal(0, 0.05, 24)
    exact = points(EASY)
    noisy = [replace(one, rate_qps=one.rate_qps * math.exp(off)) for one, off in zip(exact, noise, strict=True)]
    error = fit_with_error(noisy, EASY).error
    assert error is not None
    assert 0.03 < error < 0.15


def test_too_few_points_tell_no_error() -> None:
    assert fit_with_error(points(EASY)[:2], EASY).error is None


def test_the_fewest_replicas_are_those_that_carry_the_load_with_none_to_spare() -> None:
    surface = fit(points(EASY), EASY)
    for f, rate in [(0.8, 3.0), (1.0, 60.0), (1.3, 200.0)]:
        n = float(surface.serving(At(f), rate))
        assert n * float(surface.rate_per_replica(At(f), n)) >= rate
        assert n == 1 or (n - 1) * float(surface.rate_per_replica(At(f), n - 1)) < rate
    assert float(surface.serving(At(), 1.0, least=4)) == 4


def test_no_fleet_holds_where_even_an_idle_one_misses_a_limit() -> None:
    surface = fit(points(TIGHT), TIGHT)
    f = np.array([1.0, 1.6, 1.7, 12.0])  # 0.6 of the limit when idle: the limit is missed from 1/0.6 on
    assert np.isfinite(surface.serving(At(f), 10.0)).tolist() == [True, True, False, False]
    assert (surface.rate_per_replica(At(f), 5) > 0).tolist() == [True, True, False, False]
    slow_prompts = At(1.0, np.array([1.0, 1.7]), 1.0)
    assert np.isfinite(surface.serving(slow_prompts, 10.0)).tolist() == [True, False]


def test_an_anchored_surface_agrees_with_the_size_that_was_planned() -> None:
    surface = fit(points(EASY), EASY)
    for serving in (5, 9, 40):
        rate = 0.9 * serving * float(surface.rate_per_replica(At(), serving))  # a tenth off
        assert float(surface.anchored(serving, rate, 1).serving(At(), rate)) == serving
    agreeing = 19.5 * float(surface.rate_per_replica(At(), 20))
    assert surface.anchored(20, agreeing, 1).shift == 0.0


def test_draws_outside_the_points_are_told() -> None:
    surface = fit(points(EASY), EASY)
    assert surface.beyond(At(np.array([1.0, 3.0, 0.2]), 1.0, 1.0)).tolist() == [False, True, True]


# --- points ---


def knee(rate: float) -> float:
    """A latency over its limit that blows up at 100 queries/s, and is 1 at 80."""
    return math.inf if rate >= 100 else 0.2 / (1 - rate / 100)


@pytest.mark.parametrize("start", [1.0, 40.0, 79.0, 81.0, 99.0, 900.0])
def test_the_most_rate_is_found_from_wherever_the_search_begins(start: float) -> None:
    """A straight line in logs across at most 12 % in the rate: 80 queries/s to within 3 %."""
    found = most_rate(knee, start, 30)
    assert found == pytest.approx(80.0, rel=0.03)


def test_nothing_is_found_where_nothing_holds_and_few_runs_are_spent_on_it() -> None:
    tried: list[float] = []
    assert most_rate(lambda rate: tried.append(rate) or 1.05, 50.0, 9) is None  # type: ignore[func-returns-value]
    assert len(tried) == 9
    assert tried[-1] < 50 / 20  # the steps grew


def test_a_first_look_with_long_strides_finds_what_lies_far_away() -> None:
    """80 queries/s from 0.05: 1,600 times as much. With the short strides nine tries end far below it."""
    assert most_rate(knee, 0.05, 20, 5.0) == pytest.approx(80.0, rel=0.03)
    assert most_rate(knee, 0.05, 9) is None


def test_no_more_is_tried_than_a_scenario_may_state() -> None:
    tried: list[float] = []
    assert most_rate(lambda rate: tried.append(rate) or 0.5, 1.0, 99, 5.0) is None  # type: ignore[func-returns-value]
    assert max(tried) <= 1e7


def test_points_fill_the_draws_from_end_to_end() -> None:
    draws = np.linspace(1.0, 2.0, 1001)
    found = np.array(spread([draws, np.ones(1001), draws**2], 18, 0))
    assert found.shape == (18, 3)
    assert set(found[:, 1]) == {1.0}
    assert (found[:, 0].min(), found[:, 0].max()) == pytest.approx((1.01, 1.99))
    assert abs(np.corrcoef(found[:, 0], found[:, 2])[0, 1]) < 0.4
    assert spread([np.ones(9)], 18, 0) == []


def test_twice_the_output_tokens_are_twice_the_mean_of_every_law() -> None:
    laws = {
        "fixed": (120, {"uniform": [240, 240]}),
        "even": ({"uniform": [10, 20]}, {"uniform": [20, 40]}),
        "long-tailed": ({"lognormal": {"mean": 80, "cv": 0.5}}, {"lognormal": {"mean": 160, "cv": 0.5}}),
        "bell": (
            {"normal": {"mean": 80, "sd": 9, "min": 5, "max": 200}},
            {"normal": {"mean": 160, "sd": 18, "min": 10, "max": 400}},
        ),
    }
    stages = [{"name": name, "prompt_tokens": 600, "output_tokens": once} for name, (once, _) in laws.items()]
    doubled = with_outputs(Scenario.from_dict(GIVEN | {"query": {"stages": stages}}), 2.0).as_dict()["query"]["stages"]
    for stage, (_, twice) in zip(doubled, laws.values(), strict=True):
        assert stage["output_tokens"] == twice
        assert stage["prompt_tokens"] == 600


def test_answers_too_long_for_the_context_are_cut_in_a_draw_and_not_refused() -> None:
    scenario = with_outputs(Scenario.from_dict(GIVEN | {"engine": {"max_model_len": 1024}}), 10.0)
    deployment = deploy(only_candidate(scenario, "test"))
    load = make_load(scenario, deployment.config.max_model_len, 0, run_length(scenario, 1000, 1.0, 1))
    assert load.clipped_share == 1.0
    assert (load.prompt_tokens + load.output_tokens).max() == 1024


def test_a_quantile_is_a_value_that_so_many_draws_stay_within() -> None:
    gpus = np.array([2.0] * 50 + [4.0] * 41 + [8.0] * 8 + [np.inf])
    assert quantiles(gpus, {"p50": 0.5, "p90": 0.9, "p99": 0.99}) == {"p50": 2.0, "p90": 4.0, "p99": 8.0}
    assert quantiles(np.array([np.inf, 2.0]), {"p99": 0.99}) == {"p99": None}
