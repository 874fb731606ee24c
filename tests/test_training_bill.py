"""A training bill reckoned from parameters, tokens and GPUs, and what makes a query pay that bears its part of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from planner.economics import Ads, Demand, Prices, Training, ad_revenue, fleet_cost, training_usd_per_query
from planner.economics.amortisation import break_even_after_training
from planner.errors import PlannerError, UnknownNameError
from planner.pricing import training_of
from planner.scenario import Scenario

GOOD: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 10},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
}
GPT3 = {"params": 175e9, "tokens": 300e9, "mfu": 0.462, "gpu": "a100-sxm-80gb", "usd_per_gpu_hour": 1.5, "months": 12}


def scenario_of(training: dict[str, Any], **prices: Any) -> Scenario:
    return Scenario.from_dict(GOOD | {"prices": {"gpu_hour_usd": 2.0, "training": training, **prices}})


def bill(training: dict[str, Any], **prices: Any) -> Training:
    found = training_of(scenario_of(training, **prices))
    assert found is not None
    return found


# parameters, tokens, GPU, MFU, $ per GPU-hour, FLOP, $, because
BILLS = [
    (174.6e9, 300e9, "a100-sxm-80gb", 0.462, 1.5, 3.143e23, 908_466, "table D.1 of the GPT-3 paper has 3.14e23 FLOP"),
    (175e9, 300e9, "tpu-v4", 0.462, 2.0286, 3.15e23, 1_397_107, "688,705 chip-hours at the committed price: $1.4M"),
    (540e9, 780e9, "tpu-v4", 0.462, 2.0286, 2.527e24, 11_208_989, "PaLM, $11.2M"),
]


@pytest.mark.parametrize(("params", "tokens", "gpu", "mfu", "price_usd", "flop", "usd", "because"), BILLS)
def test_the_bill_is_6_n_d_over_what_the_gpus_reach(
    params: float, tokens: float, gpu: str, mfu: float, price_usd: float, flop: float, usd: float, because: str
):
    given = {"params": params, "tokens": tokens, "gpu": gpu, "mfu": mfu, "usd_per_gpu_hour": price_usd, "months": 12}
    found = bill(given)
    assert usd == pytest.approx(found.usd, rel=1e-4), because
    (row,) = found.provenance
    assert (row.kind, row.errs) == ("assumed", "optimistic")
    shown = re.fullmatch(r"\$([\d,]+): ([\d.e+]+) FLOP, ([\d,]+) GPU-hours", row.value)
    assert shown is not None
    assert flop == pytest.approx(float(shown[2]), rel=2e-3), because
    assert usd / price_usd == pytest.approx(float(shown[3].replace(",", "")), rel=1e-4)


# what is changed, the bill's factor, because
SCALED: list[tuple[dict[str, Any], float, str]] = [
    ({"params": 350e9}, 2.0, "in proportion to the parameters"),
    ({"tokens": 600e9}, 2.0, "and to the tokens"),
    ({"mfu": 0.231}, 2.0, "half the MFU takes twice the time"),
    ({"usd_per_gpu_hour": 3.0}, 2.0, "in proportion to the price"),
    ({"gpu": "v100-sxm-32gb"}, 312 / 125, "a V100 has 125 TFLOP/s"),
    ({"gpu": "A100-SXM-40GB"}, 1.0, "the same peak, whatever the case of the name"),
    ({"months": 1}, 1.0, "months spread it"),
]


@pytest.mark.parametrize(("changes", "factor", "because"), SCALED)
def test_the_bill_follows_its_inputs(changes: dict[str, Any], factor: float, because: str):
    assert factor * bill(GPT3).usd == pytest.approx(bill(GPT3 | changes).usd, rel=1e-12), because


def test_a_finished_bill_is_taken_as_it_is():
    assert Training(1.4e6, 12) == bill({"usd": 1.4e6, "months": 12})
    assert 2e6 == pytest.approx(bill({"usd": "14.2e6 CNY", "months": 12}, exchange_rates={"CNY": 7.1}).usd)
    price = bill(GPT3 | {"usd_per_gpu_hour": "10.65 CNY"}, exchange_rates={"CNY": 7.1})
    assert bill(GPT3).usd == pytest.approx(price.usd)
    assert training_of(Scenario.from_dict(GOOD)) is None


def test_both_forms_come_back_from_the_resolved_scenario():
    for given in ({"usd": 1.4e6, "months": 12}, GPT3):
        scenario = scenario_of(given)
        assert Scenario.from_dict(scenario.as_dict()).as_dict() == scenario.as_dict()
        assert bill(given).usd == bill(Scenario.from_dict(scenario.as_dict()).as_dict()["prices"]["training"]).usd


def test_the_short_name_of_the_serving_price_still_stands_for_it():
    assert scenario_of(GPT3).with_values({"gpu_hour_usd": 9.0}).prices.gpu_hour_usd == 9.0


# training, says, because
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"months": 12}, "prices.training.usd: is required: the finished bill, or instead of it params", "no bill"),
    ({"usd": 1.0, **GPT3}, "prices.training.params (=175000000000.0): give only one of: usd, params", "two bills"),
    ({"usd": 1.0, "months": 1, "mfu": 0.4}, "prices.training.mfu (=0.4): give only one of: usd, mfu", "half a second"),
    ({**GPT3, "tokens": None}, "prices.training.tokens: is required beside params", "one is missing"),
    ({"gpu": "h100-sxm-80gb", "months": 1}, "prices.training.params: is required beside gpu", "the first missing one"),
    ({**GPT3, "months": None}, "prices.training.months: is required", "spread over what?"),
    ({**GPT3, "mfu": 1.2}, "prices.training.mfu (=1.2):", "more than the peak"),
    ({**GPT3, "mfu": 0}, "prices.training.mfu (=0):", "it would take for ever"),
    ({**GPT3, "params": 0}, "prices.training.params (=0):", "no model"),
    ({**GPT3, "tokens": -5}, "prices.training.tokens (=-5):", "no text"),
    ({**GPT3, "usd_per_gpu_hour": 0}, "prices.training.usd_per_gpu_hour (=0):", "a price of zero is a missing price"),
    ({**GPT3, "gpu": 100}, "prices.training.gpu (=100):", "no name"),
    ({**GPT3, "flops": 1e23}, "prices.training.flops", "unknown key"),
]


@pytest.mark.parametrize(("training", "says", "because"), REFUSED)
def test_bad_bills_are_refused_by_name(training: dict[str, Any], says: str, because: str):
    with pytest.raises(PlannerError) as raised:
        scenario_of(training)
    assert says in str(raised.value), because


def test_an_unknown_gpu_is_refused_by_the_scenarios_own_key():
    with pytest.raises(UnknownNameError) as raised:
        training_of(scenario_of(GPT3 | {"gpu": "h100-smx"}))
    assert str(raised.value).startswith("prices.training.gpu (=h100-smx): is not in the catalogue")


# --- break-even after training ---

DAY = (0.5,) * 12 + (1.0,) * 12
# gpus, prices, demand, ads, training: each a fleet that somebody pays
FLEETS = [
    (4, Prices(2.0), Demand(10.0), Ads(usd_per_query=0.001), Training(1e5, 12)),
    (16, Prices(3.0, 0.8, 0.0007), Demand(100.0, DAY, 0.7), Ads(usd_per_query=0.002), Training(3e6, 24)),
    (2, Prices(1.0, staff_usd_per_year=9e4), Demand(3.0), Ads(usd_per_query=0.02), Training(2e5, 6)),
]


@pytest.mark.parametrize(("gpus", "prices", "demand", "ads", "training"), FLEETS)
def test_each_value_put_back_leaves_no_margin_after_training(
    gpus: int, prices: Prices, demand: Demand, ads: Ads, training: Training
):
    """Law: cost + the query's part of the bill = revenue at each of the three."""
    revenue, cost = ad_revenue(ads, demand), fleet_cost(gpus, prices, demand)
    found = break_even_after_training(training, gpus, prices, demand, cost, revenue)
    assert found.training_usd == training.usd

    def left(prices: Prices, demand: Demand, earned: float) -> float:
        paid = fleet_cost(gpus, prices, demand)
        assert paid is not None
        return earned - paid.usd_per_query - training_usd_per_query(training, demand)

    assert found.rpm_usd is not None
    assert left(prices, demand, found.rpm_usd / 1000) == pytest.approx(0, abs=1e-12)
    assert found.qps is not None
    busier = Demand(found.qps, demand.day, demand.uncached_share)
    assert left(prices, busier, revenue.usd_per_query) == pytest.approx(0, abs=1e-12)
    assert found.gpu_hour_usd is not None
    all_in = Prices(found.gpu_hour_usd, prices.compute_share, prices.retrieval_usd_per_query)
    assert left(all_in, demand, revenue.usd_per_query) == pytest.approx(0, abs=1e-12)


def test_by_hand():
    """1 GPU at 3.6 $/h and 10 million queries a day cost 86.4 $; a bill of 365,000 $ in 12 months is 1,000 $ a day."""
    demand = Demand(1e7 / 86_400)
    cost = fleet_cost(1, Prices(3.6), demand)
    revenue = ad_revenue(Ads(usd_per_query=0.0005), demand)
    found = break_even_after_training(Training(365_000, 12), 1, Prices(3.6), demand, cost, revenue)
    assert 1000 * 1086.4 / 1e7 == pytest.approx(found.rpm_usd)
    assert 1086.4 / 0.0005 / 86_400 == pytest.approx(found.qps)
    assert (5000 - 1000) / 24 == pytest.approx(found.gpu_hour_usd)


def test_what_no_gpu_price_can_pay_has_none():
    """The queries of a day earn 864 $, the bill alone takes 1,000 $."""
    demand, prices, training = Demand(10.0), Prices(3.6), Training(365_000, 12)
    cost, revenue = fleet_cost(1, prices, demand), ad_revenue(Ads(usd_per_query=0.001), demand)
    found = break_even_after_training(training, 1, prices, demand, cost, revenue)
    assert found.gpu_hour_usd is None
    assert found.qps == pytest.approx(1086.4 / 0.001 / 86_400)  # more queries would pay it
    free = break_even_after_training(training, 1, Prices(None), demand, None, revenue)
    assert (free.qps, free.rpm_usd) == (None, None)
    unpaid = break_even_after_training(training, 1, prices, demand, cost, None)
    assert (unpaid.qps, unpaid.gpu_hour_usd) == (None, None)
    assert unpaid.rpm_usd == pytest.approx(1000 * 1086.4 / 864_000)
