"""What a scenario leaves unsaid and every cost of a query rests on: a row for each, and none where it is given."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario
from planner.pricing import assumed_demand, assumed_prices
from planner.provenance import Provenance
from tests.bad_scenarios import GOOD

PRICED = GOOD | {"prices": {"gpu_hour_usd": 2.0}}


def rows(data: dict[str, Any]) -> dict[str, Provenance]:
    scenario = Scenario.from_dict(data)
    return {row.what: row for row in (*assumed_demand(scenario), *assumed_prices(scenario))}


def test_a_bare_scenario_has_every_row_and_all_flatter() -> None:
    found = rows(PRICED)
    expected = {
        "traffic.day": "flat",
        "traffic.arrivals": "poisson",
        "fleet.spare_replicas": "0",
        "prices.retrieval_usd_per_query": "0 USD",
        "prices.compute_share": "1",
    }
    assert expected == {what: row.value for what, row in found.items()}
    assert {("assumed", "optimistic")} == {(row.kind, row.errs) for row in found.values()}


GIVEN = [
    ({"traffic": {"peak_qps": 10, "day": [1.0] * 24}}, "traffic.day", "a flat day that was given is no assumption"),
    ({"traffic": {"peak_qps": 10, "arrivals": "poisson"}}, "traffic.arrivals", "nor are arrivals"),
    ({"traffic": {"peak_qps": 10, "arrivals": {"gamma": {"burstiness": 0.5}}}}, "traffic.arrivals", "of any kind"),
    ({"fleet": {"spare_replicas": 0}}, "fleet.spare_replicas", "nor no spare"),
    ({"prices": {"gpu_hour_usd": 2.0, "retrieval_usd_per_query": 0}}, "prices.retrieval_usd_per_query", "nor 0 USD"),
    ({"prices": {"gpu_hour_usd": 2.0, "compute_share": 1}}, "prices.compute_share", "nor compute alone"),
]


@pytest.mark.parametrize(("more", "what", "because"), GIVEN, ids=[row[2] for row in GIVEN])
def test_what_is_given_has_no_row_and_leaves_the_others(more: dict[str, Any], what: str, because: str) -> None:
    assert rows(PRICED).keys() - {what} == rows(PRICED | more).keys(), because


def test_a_scenario_read_back_with_its_defaults_gives_them_all() -> None:
    assert {} == rows(Scenario.from_dict(PRICED).as_dict())


def test_without_a_gpu_price_nothing_is_assumed_of_prices() -> None:
    assert {"traffic.day", "traffic.arrivals", "fleet.spare_replicas"} == rows(GOOD).keys()


def test_a_load_without_a_rate_is_kept_up_all_day() -> None:
    closed = rows(PRICED | {"traffic": {"arrivals": {"closed": {"concurrency": 4, "think_s": 1}}}})
    assert {"traffic: load of the day"} == closed.keys() - rows(PRICED).keys()
    assert not {"traffic.day", "traffic.arrivals"} & closed.keys()


def test_an_exchange_rate_is_listed_with_its_value() -> None:
    row = rows(GOOD | {"prices": {"exchange_rates": {"CNY": 7.1}}})["prices.exchange_rates.CNY"]
    assert ("assumed", "7.1 CNY per USD", "unknown") == (row.kind, row.value, row.errs)
