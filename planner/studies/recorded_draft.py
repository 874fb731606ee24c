"""A scenario to begin with from a load test's records: lengths and arrivals fitted, the rest as it was sent.

Sessions of several turns are not fitted. A turn sends the whole session so far again, so its prompt is not what the
user typed, and its answers decide when the next one is due.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataFileError
from planner.live import ServerFacts
from planner.readers.recordings import Recording
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.scenario.writing import Draft, Section, Value
from planner.studies.drafts import draft_from_server, heading
from planner.workload.fitting import fitted_arrivals, fitted_tokens

SENT_NOTE = "the load test's scenario"


def draft_from_records(recording: Recording) -> Draft:
    """What a load test saw: lengths and arrivals fitted, the rest as its own scenario or its server said."""
    header = recording.header
    facts = header.server if header else {}
    facts = {**(recording.end.server if recording.end else {}), **facts}
    origin = Scenario.from_dict(header.scenario) if header else None
    draft = draft_from_server(_facts(facts, header.model if header else None), None, "")
    if origin is not None:
        given = origin.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        sent = given.get("engine", {})
        engine = {key: Value(_single(value), SENT_NOTE) for key, value in sent.items()}
        engine |= {key: value for key, value in draft.engine.items() if key not in engine}
        draft = replace(
            draft,
            model=Value(_single(given["model"]), SENT_NOTE),
            hardware=Value(_single(given["hardware"]), SENT_NOTE) if given.get("hardware") else draft.hardware,
            engine=engine,
            optional={key: value for key, value in draft.optional.items() if key not in engine},
            slo={key: Value(limit) for key, limit in given.get("slo", {}).items()} or draft.slo,
        )
    return replace(
        draft,
        heading=heading(f"planner init --records {recording.path.name}") + _not_fitted(origin),
        name=f"{header.name if header else recording.path.stem}, as recorded",
        traffic=_traffic_seen(recording, origin),
        query={key: Value(value, SENT_NOTE) for key, value in _sent(origin, "query").items() if key != "stages"},
        stages=_stages_seen(recording, origin),
    )


def _facts(server: dict[str, Any], model: str | None) -> ServerFacts:
    known = {key: value for key, value in server.items() if key in ServerFacts.__dataclass_fields__}
    known["models"] = tuple(known.get("models") or ([model] if model else ["recorded server"]))
    return ServerFacts(**known)


def _single(value: Any) -> Any:
    """A choice of one as that one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _not_fitted(origin: Scenario | None) -> tuple[str, ...]:
    """Of sessions, that their load is the one that was asked for, not the one that was seen."""
    session = origin.session if origin else None
    if session is None:
        return ()
    return (
        f"Sessions of {session.turns} turns: a turn's prompt holds the whole session so far, so neither lengths nor",
        "arrivals can be fitted to the records. Traffic and stage are those of the load test's scenario.",
    )


def _traffic_seen(recording: Recording, origin: Scenario | None) -> Section:
    given = _sent(origin, "traffic")
    if origin is not None and (origin.demand != "open" or origin.session is not None):
        return {key: Value(value, SENT_NOTE) for key, value in given.items()}
    due_s = np.unique(recording.query_s[_counted(recording)])
    if len(due_s) < 3:
        rule = "hold fewer than three queries beyond the warm-up: no arrivals can be fitted"
        raise DataFileError("records", recording.path, rule)
    cache = origin.query.response_cache if origin else None
    rate_qps, law = fitted_arrivals(due_s, response_hit_rate(origin) if origin else 0.0)
    note = f"of {len(due_s)} queries"
    users = ", and those that the response cache answers" if cache else ""
    fitted = {"peak_qps": Value(rate_qps, note + users), "arrivals": Value(law, f"fitted to the gaps {note}")}
    return fitted | {key: Value(value, SENT_NOTE) for key, value in given.items() if key not in fitted}


def _sent(origin: Scenario | None, section: str) -> dict[str, Any]:
    """A section of the scenario that was sent, as far as it says anything."""
    given = origin.model_dump(mode="json", exclude_unset=True, exclude_none=True) if origin else {}
    return dict(given.get(section, {}))


def _counted(recording: Recording) -> NDArray[np.bool_]:
    """Requests of the queries beyond the warm-up; all of them where no header tells."""
    header = recording.header
    first = header.warmup * header.width if header else 0
    return recording.request >= first


def _stages_seen(recording: Recording, origin: Scenario | None) -> tuple[Section, ...]:
    """Each stage of the scenario that was sent with the lengths that were seen; one stage where there is none.

    The stage of sessions is as it was sent.
    """
    if origin is not None and origin.session is not None:
        return tuple(
            {key: Value(value, "" if key == "name" else SENT_NOTE) for key, value in stage.items()}
            for stage in _sent(origin, "query")["stages"]
        )
    width = recording.header.width if recording.header else 1
    place = recording.request % width
    counted = recording.answered & _counted(recording)
    stages: list[Section] = []
    first = 0
    for index in range(len(origin.query.stages) if origin and origin.query.stages else 1):
        stage = origin.query.stages[index] if origin and origin.query.stages else None
        requests = stage.calls * stage.samples if stage else width
        mine = counted & (place >= first) & (place < first + requests)
        first += requests
        if not mine.any():
            raise DataFileError("records", recording.path, f"hold no answer of stage {index + 1}: no lengths to fit")
        lines = {"name": Value(stage.name if stage else "answer")}
        if stage:
            lines |= {key: Value(getattr(stage, key)) for key in ("calls", "samples") if getattr(stage, key) > 1}
        lines["prompt_tokens"] = Value(fitted_tokens(recording.prompt_tokens[mine]), f"of {int(mine.sum())} requests")
        lines["output_tokens"] = Value(fitted_tokens(recording.output_tokens[mine]), "likewise")
        if stage and stage.shared_prefix:
            shared = stage.shared_prefix.model_dump(mode="json", exclude_unset=True)
            lines["shared_prefix"] = Value(shared, SENT_NOTE)
        stages.append(lines)
    return tuple(stages)
