"""The definitions that stand wherever the numbers are shown."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
SERVICE = (
    ("query, request", "A query is the user's; a request is one model call for it."),
    ("TTFT", "Scheduled arrival of the query to the first token of its last stage, in milliseconds."),
    ("E2E", "Scheduled arrival of the query to its last token, in milliseconds."),
    ("TPOT", "(E2E − TTFT) ÷ (output tokens − 1) of a request of the last stage."),
    ("ITL", "Each gap between two streamed tokens of a request of the last stage."),
    ("percentiles", "Over the queries that reach the model; those that the response cache answers have no latency."),
    ("goodput", "Queries per second that meet every limit; failed and refused ones are misses."),
    ("upper end", "Of the 95 % interval of the figure, by batch means: what a limit judges in an open load."),
    (
        "80 % band",
        "Where the measured figure should lie four times in five: the load run again in other possible worlds, with "
        "kernels, overheads and cache drawn from how well they are known.",
    ),
    ("engines busy", "Time with a step running ÷ elapsed time. A busy engine may still have room in its batch."),
)
MONEY = (
    ("cost of a query", "24 hours of the fleet, spares included, ÷ the day's queries, cached ones included."),
    ("RPM", "Earnings of 1,000 queries. eCPM would be of 1,000 ads."),
    ("margin", "Revenue − cost of a query, in USD; as a share, of revenue."),
    ("break-even", "The one value, the fleet and all else unchanged, at which the margin is 0."),
)


def definitions(document: Document) -> tuple[tuple[str, str], ...]:
    """Name and meaning of what the page of this document shows."""
    return SERVICE + MONEY if document.get("cost") else SERVICE
