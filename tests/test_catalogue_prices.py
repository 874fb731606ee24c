"""The rate card: medians of one GPU's offers of one kind, with range, date and confidence."""

import pytest

from planner.catalogue.hardware import gpu_names
from planner.catalogue.prices import RATE_CARDS, gpu_hour, prices_table
from planner.errors import UnknownNameError

RATES = [
    ("h100-sxm-80gb", "on-demand", 3.99, 2.69, 12.29, 11, "medium", "the middle one of eleven offers"),
    ("h100-sxm-80gb", "spot", 3.9105, 1.25, 6.571, 2, "high", "between two offers: their mean"),
    ("h100-sxm-80gb", "reserved", 3.348, 1.78, 4.916, 2, "medium", "capacity block and three-year rental"),
    ("h100-sxm-80gb", "owner-tco", 1.36, 1.17, 1.55, 2, "medium", "hyperscaler and neocloud"),
    ("a100-pcie-80gb", "on-demand", 3.673, 3.673, 3.673, 1, "high", "not mixed with the SXM form"),
    ("l4-24gb", "on-demand", 0.80, 0.80, 0.80, 1, "low", "nothing better than a planning default"),
    ("mi300x-192gb", "on-demand", 6.00, 6.00, 6.00, 1, "medium", "one offer"),
    ("h200-sxm-141gb", "reserved", 3.729, 2.05, 5.408, 2, "medium", "the low-confidence offer of 5.2025 is left out"),
    ("gb200", "owner-tco", 2.06, 1.86, 2.26, 2, "medium", "two ownership models"),
]


@pytest.mark.parametrize(("gpu", "kind", "usd", "low", "high", "rows", "confidence", "because"), RATES)
def test_the_rate_is_the_median_of_the_trusted_offers(gpu, kind, usd, low, high, rows, confidence, because):
    price = gpu_hour(gpu, kind)
    assert usd == pytest.approx(price.usd), because
    assert (low, high, rows, confidence) == (price.low, price.high, price.rows, price.confidence)


def test_an_alias_is_priced_like_its_gpu():
    assert gpu_hour("h100-sxm-80gb", "spot") == gpu_hour("H100", "spot")


def test_a_price_names_sources_and_the_newest_date():
    price = gpu_hour("h100", "on-demand")
    assert price.date == "2026-11-09"
    assert "AWS" in price.source
    assert "Azure" in price.source
    row = price.provenance()
    assert (row.kind, row.date) == ("datasheet", "2026-11-09")
    assert gpu_hour("l4", "on-demand").provenance().kind == "assumed"


REFUSED = [
    ("rtx-4090-24gb", "on-demand", None, "no offer at all"),
    ("gb200", "on-demand", "owner-tco, reserved", "the kinds there are"),
    ("b300", "spot", "on-demand, owner-tco, reserved", "the kinds there are"),
    ("h100", "on-demnd", "on-demand", "nearest kind"),
    ("cpu", "reserved", None, "no offer at all"),
]


@pytest.mark.parametrize(("gpu", "kind", "nearest", "because"), REFUSED)
def test_a_missing_price_is_refused_with_the_kinds_there_are(gpu, kind, nearest, because):
    with pytest.raises(UnknownNameError, match=r"^prices\.gpu_hour_usd") as refused:
        gpu_hour(gpu, kind)
    assert nearest == refused.value.nearest, because


def test_an_unknown_gpu_has_no_price():
    with pytest.raises(UnknownNameError, match=r"^hardware"):
        gpu_hour("h1000", "spot")


def test_the_rate_card_is_sound():
    table = prices_table()
    assert len(table) > 60
    assert (table["usd_per_gpu_hour"] > 0).all()
    assert set(RATE_CARDS) == set(table["kind"])
    assert {"high", "medium", "low"} == set(table["confidence"])
    assert table["source"].notna().all()
    assert table["date"].dropna().str.fullmatch(r"\d{4}-\d{2}(-\d{2})?").all()
    beyond = set(table["gpu"]) - set(gpu_names())
    assert {"h100-nvl-94gb", "gh200", "a6000-48gb", "tpu-v6e"} == beyond
