"""The top of the page: the answer in one sentence, its figures each with what judges it, and what would break it."""

from __future__ import annotations

from typing import Any

from planner.report.page.parts import Cell, Fact, count, dollars, latency, share, text
from planner.summary.candidates import candidate_name, nearest_miss, varied_keys
from planner.summary.currency import both, currency_of, other
from planner.summary.plan import ways_out, within_limits
from planner.summary.service import broken_limits, demand_words, distance, engine_words
from planner.summary.words import ABSENT, gpu_name, limit_name, number, percent, plural, price, with_limit_names

Document = dict[str, Any]
KERNELS = {
    "calibrated": "the step cost is calibrated by load tests of this deployment",
    "known": "the kernels that run were measured on this GPU",
    "assumed": "a kernel, or the engine's mode, stands in for the one that runs",
}


def sentence(document: Document) -> str:
    """ "42 × H200 SXM 141 GB serve 120 queries/s within the limits; …"."""
    demand = demand_words(document["scenario"]) or "the load"
    if not document["feasible"]:
        tried = len(document["alternatives"])
        none = f"none of {plural(tried, 'candidate')} serves" if tried != 1 else "the one candidate does not serve"
        return f"No fleet fits: {none} {demand} within the limits."
    fleet = document["fleet"]
    verb = "serves" if fleet["gpus"] == 1 else "serve"
    served = f"{number(fleet['gpus'])} × {gpu_name(fleet['hardware'])} {verb} {demand} {within_limits(document)}"
    return f"{served} {_money(document)}"


def tiles(document: Document) -> tuple[Fact, ...]:
    """The figures of the answer, each with its unit and what judges it."""
    fleet, at_peak = document["fleet"], document["at_peak"]
    made = [Fact("GPUs", count(fleet["gpus"]), _fleet(document), f"× {gpu_name(fleet['hardware'])}")]
    made += _money_tiles(document)
    made.append(_nearest_limit(document))
    return (*made, _sureness(document, at_peak))


def breaks(document: Document) -> tuple[str, ...]:
    """What would turn the answer, one sentence each."""
    scenario, values, currency = document["scenario"], document.get("break_even") or {}, currency_of(document)
    said = [smaller(document)]
    peak = (scenario.get("traffic") or {}).get("peak_qps")
    if values.get("qps") is not None and peak is not None:
        need = f"The peak must bring at least {number(values['qps'])} queries/s for this fleet to pay for itself"
        said.append(f"{need}; it is {number(peak)}.")
    if values.get("rpm_usd") is not None:
        earned = (document.get("revenue") or {}).get("query_rpm_usd")
        said.append(
            f"1,000 queries must earn at least {both(values['rpm_usd'], currency)}"
            + (f"; they earn {both(earned, currency)}." if earned is not None else "; no revenue is given.")
        )
    if values.get("gpu_hour_usd") is not None:
        paid = gpu_hour_usd(document)
        most = f"A GPU-hour may cost at most {both(values['gpu_hour_usd'], currency)}"
        here = "" if currency is None else f" ({other(paid, currency)})"
        said.append(f"{most}; it costs {price(paid)}{here}." if paid is not None else f"{most}.")
    trained = (document.get("break_even_after_training") or {}).get("rpm_usd")
    if trained is not None:
        said.append(f"With the training bill 1,000 queries must earn at least {both(trained, currency)}.")
    worlds = (document["at_peak"].get("confidence")) or {}
    if worlds.get("worlds") and worlds.get("holds_share") is not None:
        missed = round((1 - worlds["holds_share"]) * worlds["worlds"])
        line = f"In {number(missed)} of {plural(worlds['worlds'], 'simulated world')} some limit is missed"
        swamped = round((worlds.get("saturated_share") or 0) * worlds["worlds"])
        said.append(line + (f"; in {number(swamped)} of them more arrives than is served." if swamped else "."))
    doubtful = sum(row.get("errs") == "optimistic" for row in document.get("provenance") or [])
    if doubtful:
        verb = "is" if doubtful == 1 else "are"
        said.append(f"{doubtful} of the numbers below {verb} likely too hopeful: see where the numbers come from.")
    return tuple(line for line in said if line)


def smaller(document: Document) -> str:
    """What one replica fewer does."""
    fleet, run = document["fleet"], document.get("one_fewer")
    serving = fleet["replicas"] - fleet["spare_replicas"]
    if serving == 1:
        return "One replica serves: there is no smaller fleet."
    gap = with_limit_names(document.get("one_fewer_gap") or "")
    if not run:
        return f"With one replica fewer: {gap}." if gap else "A smaller fleet was not tried."
    if run.get("slo_met"):
        return f"With one replica fewer ({serving - 1} serving) the limits hold too."
    why = gap or " and ".join(broken_limits(run)) or "more arrives than is served"
    return f"With one replica fewer ({serving - 1} serving) it fails: {why}."


def gpu_hour_usd(document: Document) -> float | None:
    """What the plan pays for one GPU for one hour, without what is charged beside compute."""
    price = ((document.get("cost") or {}).get("price") or {}).get("gpu_hour_usd")
    if isinstance(price, int | float):
        return float(price)
    lines = [line for line in document.get("cost_lines") or [] if line.get("unit") == "GPU-hour"]
    return lines[0].get("unit_price_usd") if lines else None


def infeasible(document: Document) -> tuple[str, ...]:
    """The candidate that came nearest, and what could be changed, one sentence each."""
    alternatives = document["alternatives"]
    near = nearest_miss(alternatives)
    said = []
    if near is not None:
        name = candidate_name(near, varied_keys(alternatives)) or "the candidate"
        said.append(f"Nearest miss: {name}: {with_limit_names(near.get('reason', 'no reason given'))}.")
    return (*said, *(f"Could be changed: {way}." for way in ways_out(document["scenario"], alternatives)))


def _money(document: Document) -> str:
    cost = (document.get("cost") or {}).get("usd_per_query")
    earned = (document.get("revenue") or {}).get("usd_per_query")
    left = (document.get("margin") or {}).get("usd_per_query")
    currency = currency_of(document)
    if cost is None:
        return "What a query costs is left open: no GPU price is given."
    if earned is None or left is None:
        return f"A query costs {both(cost, currency)}; whether it pays is left open: no revenue is given."
    balance = f"A query costs {both(cost, currency)} and earns {both(earned, currency)}"
    if left < 0:
        return f"{balance}: it does not pay, {both(-left, currency)} is lost on each."
    return f"{balance}: it pays."


def _fleet(document: Document) -> str:
    fleet = document["fleet"]
    words = f"{plural(fleet['replicas'], 'replica')} of {document['model']['name']}"
    words += f" {engine}" if (engine := engine_words(fleet["engine"])) else ""
    spare = f", {number(fleet['spare_replicas'])} of them spare" if fleet["spare_replicas"] else ""
    demand = demand_words(document["scenario"])
    peak = " at the peak" if demand.endswith("/s") else ""
    return f"{words}{spare}" + (f"; for {demand}{peak}" if demand else "")


def _money_tiles(document: Document) -> list[Fact]:
    cost, revenue, margin = (document.get(key) or {} for key in ("cost", "revenue", "margin"))
    if cost.get("usd_per_query") is None:
        return [Fact("A query costs", text(None), "no GPU price given (prices)")]
    currency = currency_of(document)
    paid = any(line.get("what") == "retrieval" for line in document.get("cost_lines") or [])
    without = ", without retrieval" if paid else ""
    notes = [f"{both(cost['usd_per_hour'], currency)} an hour for the fleet{without}"]
    if cost.get("usd_per_million_tokens") is not None:
        tokens = both(cost["usd_per_million_tokens"], currency)
        notes.append(f"{tokens} per million tokens, prompt and output{without}")
    if currency is not None:
        rate = number(currency["per_usd"])
        notes.insert(0, f"{other(cost['usd_per_query'], currency)} at {rate} to the dollar")
    made = [Fact("A query costs", dollars(cost["usd_per_query"]), "; ".join(notes))]
    if revenue.get("usd_per_query") is None or margin.get("usd_per_query") is None:
        return [*made, Fact("Margin of a query", text(None), "no revenue given (revenue)")]
    rpm = f" (RPM {both(revenue['query_rpm_usd'], currency)})" if revenue.get("query_rpm_usd") is not None else ""
    pays = margin["usd_per_query"] >= 0
    part = margin.get("cost_share_of_revenue")
    of_it = f"of the {both(revenue['usd_per_query'], currency)} it earns{rpm}"
    made.append(Fact("Cost as a share of revenue", share(part), of_it))
    fraction = f"{percent(margin['fraction'])} of revenue" if margin.get("fraction") is not None else ""
    tone: Any = "good" if pays else "bad"
    lost = "" if pays else "the query does not pay"
    said = "; ".join(part for part in (lost, other(margin["usd_per_query"], currency), fraction) if part)
    return [*made, Fact("Margin of a query", dollars(margin["usd_per_query"], tone), said)]


def _nearest_limit(document: Document) -> Fact:
    """The limit that leaves least room."""
    name = "Tightest limit"
    limits = [row for row in document["at_peak"].get("slo") or [] if row.get("limit_ms") and _judged(row) is not None]
    if not limits:
        return Fact(name, text(None), "nothing is judged")
    tight = max(limits, key=lambda row: _judged(row) / row["limit_ms"])
    cell = latency(_judged(tight), "good" if tight.get("met") else "bad")
    figure = "upper end of the interval" if tight.get("upper_ms") is not None else "the run's own figure"
    return Fact(
        name, cell, f"{limit_name(tight['key'])}, {figure}: {distance(tight)}", f"of {number(tight['limit_ms'])} ms"
    )


def _judged(row: Document) -> Any:
    return row.get("upper_ms", row.get("value_ms"))


def _sureness(document: Document, at_peak: Document) -> Fact:
    name, confidence = "How sure", at_peak.get("confidence") or {}
    weakest = (document.get("confidence") or {}).get("weakest")
    notes = [KERNELS[confidence["kernel_path"]]] if confidence.get("kernel_path") in KERNELS else []
    notes += [f"weakest numbers: {weakest}"] if weakest else []
    drawn = document.get("uncertainty") or {}
    if drawn.get("p_slo_held") is not None:
        pays = drawn.get("p_margin_positive")
        notes = ([f"{percent(pays)} that the margin is above 0"] if pays is not None else []) + notes
        return Fact(name, share(drawn["p_slo_held"]), "; ".join(notes), "that every limit holds")
    if confidence.get("worlds") and confidence.get("holds_share") is not None:
        unit = f"of {plural(confidence['worlds'], 'simulated world')} hold every limit"
        return Fact(name, share(confidence["holds_share"]), "; ".join(notes), unit)
    return Fact(name, Cell(ABSENT), "; ".join(notes) or "no bands were asked for")
