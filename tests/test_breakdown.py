"""The step cost as a sum of terms, and the possible worlds drawn around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from specimens import B200, DEEPSEEK_V3, H100, LLAMA_8B, LLAMA_70B, V100, engine

from planner.performance import breakdown, draw_factors, step_cost
from planner.performance.breakdown import SLOPES
from planner.performance.constants import correlations, log_spreads, overhead
from planner.performance.uncertainty import correlation_root, layered_normals

CANDIDATES = [
    pytest.param(LLAMA_8B, H100, {}, id="dense"),
    pytest.param(LLAMA_70B, H100, {"quantization": "fp8", "tensor_parallel_size": 4}, id="tensor parallel"),
    pytest.param(LLAMA_70B, H100, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, id="pipeline"),
    pytest.param(DEEPSEEK_V3, B200, {"quantization": "fp8_block", "tensor_parallel_size": 8}, id="experts"),
    pytest.param(LLAMA_8B, H100, {"enforce_eager": True, "async_scheduling": False}, id="eager and synchronous"),
]


@pytest.mark.parametrize(("model", "gpu", "changes"), CANDIDATES)
def test_the_step_cost_is_the_sum_of_its_terms(model, gpu, changes):
    settings = engine(**changes)
    terms = breakdown(model, gpu, settings)
    cost, _ = step_cost(model, gpu, settings)
    alone = [replace(terms, terms=(term,)).cost() for term in terms.terms]
    np.testing.assert_allclose(sum(one.tokens_s for one in alone), cost.tokens_s, rtol=1e-12)
    np.testing.assert_allclose(sum(one.requests_s for one in alone), cost.requests_s, rtol=1e-12)
    for slope in SLOPES:
        assert sum(getattr(one, slope) for one in alone) == pytest.approx(getattr(cost, slope), rel=1e-12)


@pytest.mark.parametrize(("model", "gpu", "changes"), CANDIDATES)
def test_a_factor_scales_the_terms_that_hang_on_its_driver_and_no_other(model, gpu, changes):
    terms = breakdown(model, gpu, engine(**changes))
    for driver in terms.drivers:
        without = terms.cost({driver: 0.0})
        kept = replace(terms, terms=tuple(term for term in terms.terms if driver not in term.drivers)).cost()
        np.testing.assert_array_equal(kept.tokens_s, without.tokens_s)
        np.testing.assert_array_equal(kept.requests_s, without.requests_s)
        assert [getattr(kept, slope) for slope in SLOPES] == [getattr(without, slope) for slope in SLOPES]


def test_the_step_model_scales_every_step_and_nothing_before_it():
    terms = breakdown(LLAMA_8B, H100, engine())
    nominal, doubled = terms.cost(), terms.cost({"step_model_hopper": 2.0})
    np.testing.assert_array_equal(2 * nominal.tokens_s, doubled.tokens_s)
    assert 2 * nominal.decode_token_s == doubled.decode_token_s
    assert nominal.frontend_s == doubled.frontend_s


def test_every_driver_is_drawn():
    """A driver that no world varies would make its share of the band silently zero."""
    for model, gpu, changes in (param.values for param in CANDIDATES):
        terms = breakdown(model, gpu, engine(**changes))
        (factors,) = draw_factors(terms, 1, 1)
        assert terms.drivers == tuple(sorted(factors))
        assert all(factor != 1.0 for factor in factors.values())


def test_worlds_repeat_with_the_seed_and_spread_as_stated():
    terms = breakdown(LLAMA_8B, H100, engine())
    one, again = (draw_factors(terms, 2000, 7) for _ in range(2))
    assert one == again
    for driver, spread in (terms.spreads | {"layer": log_spreads()["layer"]}).items():
        logs = np.log([factors[driver] for factors in one])
        assert abs(np.median(logs)) < 0.1 * spread, driver
        assert spread == pytest.approx(logs.std(), rel=0.04), driver


def test_overheads_that_were_fitted_together_vary_together():
    terms = breakdown(LLAMA_8B, H100, engine())
    drawn = draw_factors(terms, 2000, 3)
    checked = 0
    for (one, other), correlation in correlations().items():
        if one in terms.drivers and other in terms.drivers:
            logs = np.log([[factors[one], factors[other]] for factors in drawn])
            assert correlation == pytest.approx(np.corrcoef(logs.T)[0, 1], abs=0.06), (one, other)
            checked += 1
    assert checked >= 3


def test_the_root_of_a_correlation_is_a_root_even_if_rounding_made_it_indefinite():
    matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
    np.testing.assert_allclose(correlation_root(matrix) @ correlation_root(matrix).T, matrix)
    slightly = np.array([[1.0, 1.0 + 1e-12], [1.0 + 1e-12, 1.0]])
    np.testing.assert_allclose(correlation_root(slightly) @ correlation_root(slightly).T, slightly, atol=1e-6)


def test_a_few_dozen_worlds_have_the_quantiles_of_the_normal_law():
    drawn = np.sort(layered_normals("anything", 40, 5))
    assert np.quantile(drawn, 0.9) == pytest.approx(1.2816, abs=0.1)
    assert np.all(np.digitize(drawn, [-1.2816, 0.0, 1.2816]) == np.repeat([0, 1, 2, 3], [4, 16, 16, 4]))


def test_a_quantity_draws_the_same_whatever_else_is_drawn():
    small, large = breakdown(LLAMA_8B, H100, engine()), breakdown(LLAMA_70B, H100, engine(tensor_parallel_size=4))
    one, other = draw_factors(small, 5, 2), draw_factors(large, 5, 2)
    assert [factors["frontend"] for factors in one] == [factors["frontend"] for factors in other]
    assert "allreduce" in other[0]
    assert "allreduce" not in one[0]


def test_an_inherited_kernel_has_a_wider_spread_than_the_one_it_comes_from():
    own = breakdown(LLAMA_8B, H100, engine())
    inherited = breakdown(LLAMA_8B, V100, engine())
    assert own.known
    assert not inherited.known
    for driver, spread in own.spreads.items():
        assert inherited.spreads[driver] > spread, driver


def test_no_world_pays_more_of_a_surcharge_than_its_kernel_alone_does():
    """`unaligned` is a share of what the kernel alone loses on odd token counts: at most all of it."""
    terms = breakdown(LLAMA_70B, H100, engine(quantization="fp8", tensor_parallel_size=4))
    value, _ = overhead("unaligned", H100.name)
    shares = np.array([value * factors["unaligned"] for factors in draw_factors(terms, 500, 0)])
    assert 1.0 == pytest.approx(shares.max())
    assert 250 == pytest.approx(np.count_nonzero(shares <= value), abs=25)  # the median stays
    assert 40 < np.count_nonzero(shares > 0.999)  # the bound is met, not merely approached
