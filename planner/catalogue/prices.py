"""What an hour of a GPU costs: a dated rate card of on-demand, reserved, spot and owner's prices."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal, get_args

from planner.catalogue.hardware import gpu_name
from planner.catalogue.tables import Row, read_rows, read_table
from planner.errors import UnknownNameError, nearest_names
from planner.provenance import Kind, Provenance

if TYPE_CHECKING:
    import pandas as pd

FILE = "prices.csv"
RateCard = Literal["on-demand", "reserved", "spot", "owner-tco"]
Confidence = Literal["high", "medium", "low"]
# In the order of trust, the most trusted first.
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)
RATE_CARDS: tuple[RateCard, ...] = get_args(RateCard)


@dataclass(frozen=True)
class Price:
    """One GPU's price for an hour.

    `usd` is the median of `rows` offers, `low` and `high` their range, `date` the newest offer's,
    `confidence` that of the least trusted offer used.
    """

    gpu: str
    kind: str
    usd: float
    low: float
    high: float
    rows: int
    confidence: Confidence
    source: str
    date: str

    def provenance(self) -> Provenance:
        """The row that stands beside every cost made from this price."""
        value = f"{self.usd:.2f} USD ({self.low:.2f} to {self.high:.2f}, {self.rows} offers, {self.confidence})"
        kind: Kind = "assumed" if self.confidence == "low" else "datasheet"
        return Provenance("prices.gpu_hour_usd", kind, f"{self.kind} {self.gpu}: {self.source}", value, self.date)


def gpu_hour(gpu: str, kind: str) -> Price:
    """The rate card's price of one GPU for an hour.

    `gpu` is a catalogue name or alias, `kind` one of `RATE_CARDS`; `reserved` takes in capacity blocks and
    multi-year rental, `owner-tco` is the modelled cost of owning. The rate is the median of the offers of high and
    medium confidence; offers of low confidence are used only where there are no others.

    Raises `UnknownNameError` for an unknown GPU or kind, and where that GPU has no price of that kind (the message
    names the kinds it has). Another GPU's or another kind's price is never used instead.
    """
    if kind not in RATE_CARDS:
        rule = f"must be one of {', '.join(RATE_CARDS)}"
        raise UnknownNameError("prices.gpu_hour_usd.rate_card", kind, rule, nearest_names(kind, RATE_CARDS))
    name = _priced_name(gpu)
    offers = [row for row in read_rows(FILE) if row["gpu"] == name and row["kind"] == kind]
    if not offers:
        has = sorted({row["kind"] for row in read_rows(FILE) if row["gpu"] == name})
        rule = f"the rate card has no such price for {name}; give prices.gpu_hour_usd as a number"
        raise UnknownNameError("prices.gpu_hour_usd.rate_card", kind, rule, ", ".join(has) or None)
    return _price(name, kind, offers)


def prices_table() -> pd.DataFrame:
    """The rate card, one row for one offer, columns as in `data/prices.csv`."""
    return read_table(FILE)


def _priced_name(gpu: str) -> str:
    """The rate card also lists GPUs that the hardware catalogue does not describe, by their own names."""
    wanted = gpu.strip().lower()
    return wanted if any(row["gpu"] == wanted for row in read_rows(FILE)) else gpu_name(gpu)


def _price(name: str, kind: str, offers: list[Row]) -> Price:
    trusted = [row for row in offers if row["confidence"] != "low"]
    used = trusted or offers
    rates = [float(row["usd_per_gpu_hour"]) for row in used]
    trust = max(CONFIDENCES.index(_confidence(row)) for row in used)
    return Price(
        gpu=name,
        kind=kind,
        usd=median(rates),
        low=min(rates),
        high=max(rates),
        rows=len(rates),
        confidence=CONFIDENCES[trust],
        source="; ".join(dict.fromkeys(f"{row['provider']} ({row['source']})" for row in used)),
        date=max(row["date"] for row in used),
    )


def _confidence(row: Row) -> Confidence:
    return next(level for level in CONFIDENCES if level == row["confidence"])
