"""The first line of a run's records: what is sent to whom, and what the server says of itself."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from importlib.metadata import version

from loadtests.options import Options
from loadtests.schedule import Schedule
from planner.errors import PlannerError
from planner.live import ServerFacts, check_model, connect, server_facts
from planner.records import RunHeader

logger = logging.getLogger(__name__)
CLIENT_PARTS = ("vllm-capacity-planner", "locust", "gevent", "geventhttpclient")


def ask_server(options: Options) -> tuple[str, ServerFacts | None]:
    """The model to name in requests, and what the server tells of itself.

    A server that does not answer is an error where it has to be asked for the model's name; with a name given the run
    goes ahead, and every request says what happened.
    """
    endpoint = connect(options.address.url)
    try:
        facts, _ = server_facts(endpoint)
    except PlannerError as error:
        if options.served_model is None:
            raise
        logger.warning("%s", error)
        return options.served_model, None
    if options.served_model is not None and options.served_model not in facts.models:
        try:
            check_model(facts, options.served_model, endpoint.url)
        except PlannerError as error:
            logger.warning("%s", error)
    return options.served_model or facts.models[0], facts


def make_header(
    options: Options, schedule: Schedule, model: str, facts: ServerFacts | None, start_at: float, processes: int
) -> RunHeader:
    """The header of a run that begins at `start_at` (seconds since 1970)."""
    load = schedule.load
    return RunHeader(
        name=options.scenario.name,
        scenario=options.scenario.located(),
        seed=options.seed,
        prompt_seed=options.prompt_seed,
        queries=load.queries,
        warmup=load.warmup,
        width=load.width,
        max_model_len=schedule.max_model_len,
        duration_s=schedule.duration_s,
        demand=options.scenario.demand,
        api=options.api,
        host=options.address.url,
        model=model,
        started_at=iso_time(start_at),
        processes=processes,
        client={name: version(name) for name in CLIENT_PARTS},
        server={} if facts is None else facts.as_dict(),
        limits={
            "send_lag_p99_ms": options.send_lag_limit_ms,
            "loop_lag_p99_ms": options.loop_lag_limit_ms,
            "cpu_share": options.cpu_limit,
            "timeout_s": options.timeout_s,
            "stall_timeout_s": options.stall_timeout_s,
        },
    )


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
