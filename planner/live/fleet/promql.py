"""What a Prometheus server is asked: every figure of the fleet in one question, so that all are of one instant.

The parts are joined by `or`, each under a label `figure` that names it. Rates are Prometheus' own `rate`, which sees
through restarts; they are over the whole window, so that the reader raises those of a window that series do not fill
yet (`coverage`); `delta` extrapolates as `rate` does. Each engine has a series of its own; addresses are told apart by
`instance` and `pod`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner import vllm_metrics as names
from planner.live.fleet.reading import ENDED_BADLY, ENDED_WELL, LATENCIES
from planner.live.metrics import label_text
from planner.scenario.monitor import Monitor

FIGURE = "figure"
REPLICA = "instance, pod"
UP = "up"  # Prometheus' own, one series for each target
REMEMBERED_S, REMEMBERED_STEP_S = 7 * 86400.0, 3600.0  # which model a target told: asked of each hour of a week
MOST_SAMPLES = 1000  # of a subquery
LEAST_STEP_S = 5.0
MODELS = "models"  # one sample for each of them in each namespace, with these labels
DOWN = "down"  # one sample for each target that Prometheus cannot scrape, with its instance and pod


def selector(monitor: Monitor, **more: str) -> str:
    """The matchers of the fleet's series, in braces; `more` are whole matchers by name, as `reason='=~"a|b"'`."""
    told = {"model_name": monitor.model_name, "namespace": monitor.namespace}
    matchers = {key: f'="{label_text(value)}"' for key, value in told.items() if value is not None} | more
    return "{" + ",".join(f"{key}{matcher}" for key, matcher in matchers.items()) + "}"


def duration(seconds: float) -> str:
    """A length of time in PromQL, which knows whole units only."""
    return f"{round(seconds * 1000)}ms"


def resolution_s(monitor: Monitor) -> float:
    """To within how many seconds the oldest sample of a window is found."""
    return max(min(monitor.interval_s / 3, LEAST_STEP_S), monitor.window_s / MOST_SAMPLES)


def expressions(monitor: Monitor, percentiles: Sequence[float]) -> Mapping[str, str]:
    """PromQL by the name of the figure; latencies are "ttft_ms.p99" and so on, but in seconds."""
    at = selector(monitor)
    window = f"[{duration(monitor.window_s)}]"
    steps = f"[{duration(monitor.window_s)}:{duration(max(monitor.interval_s, monitor.window_s / MOST_SAMPLES))}]"
    fine = f"[{duration(monitor.window_s)}:{duration(resolution_s(monitor))}]"
    running = names.RUNNING + at
    # A selector finds samples of five minutes ago too: a step of the window is to find those of its own alone.
    within = f"(timestamp({running}) > time() - {round(resolution_s(monitor), 3):.12g})"
    bad = selector(monitor, finished_reason=f'=~"{"|".join(ENDED_BADLY)}"')
    good = selector(monitor, finished_reason=f'=~"{"|".join(ENDED_WELL)}"')

    def rate(name: str) -> str:
        return f"sum(rate({name}{at}{window}))"

    def mean(name: str) -> str:
        return f"{rate(f'{name}_sum')} / {rate(f'{name}_count')}"

    found = {
        "now": "vector(time())",
        "newest_age_s": f"time() - max(timestamp({running}))",
        "oldest_age_s": f"time() - min(timestamp({running}))",
        "covered_s": f"time() - min(min_over_time({within}{fine}))",
        "samples": f"max(count_over_time({running}{window}))",
        DOWN: _down(monitor),
        "engines": f"count({running})",
        "jobs": f"max(count by ({REPLICA}) (count by ({REPLICA}, job) ({running})))",
        MODELS: f"count by (model_name, namespace) ({running})",
        "running": f"sum({running})",
        "waiting": f"sum({names.WAITING}{at})",
        "waiting_growth_per_s": f"sum({_queued(at, window)}) / {monitor.window_s:g}",
        "kv_usage_mean": f"avg({names.KV_USAGE}{at})",
        "kv_usage_max": f"max({names.KV_USAGE}{at})",
        "requests_per_s": f"sum(rate({names.SUCCESS_TOTAL}{good}{window}))",
        "failed_per_s": f"sum(rate({names.SUCCESS_TOTAL}{bad}{window}))",
        "prompt_tokens": mean(names.REQUEST_PROMPT),
        "output_tokens": mean(names.REQUEST_GENERATION),
        "prefix_hit_rate": f"{rate(names.PREFIX_HITS_TOTAL)} / {rate(names.PREFIX_QUERIES_TOTAL)}",
        "preemptions_per_s": rate(names.PREEMPTIONS_TOTAL),
        "busy_share": f"avg(avg_over_time(({running} > bool 0){steps}))",
        "restarts": f"sum(max by ({REPLICA}) (resets({names.GENERATION_TOKENS_TOTAL}{at}{window})))",
    }
    for name, short in LATENCIES.items():
        found[f"{short}.mean"] = mean(name)
        for percentile in percentiles:
            buckets = f"sum by (le) (rate({name}_bucket{at}{window}))"
            found[f"{short}.p{percentile:g}"] = f"histogram_quantile({percentile / 100:g}, {buckets})"
    return found


def _queued(at: str, window: str) -> str:
    """How many requests more wait, by engine. What waited at a restart is lost, not served: it takes nothing off."""
    grown = f"delta({names.WAITING}{at}{window})"
    restarted = f"(resets({names.GENERATION_TOKENS_TOTAL}{at}{window}) > 0)"
    return f"(clamp_min({grown} and on ({REPLICA}) {restarted}, 0) or {grown})"


def _down(monitor: Monitor) -> str:
    """Targets of the fleet's scrape jobs whose last scrape failed, for as long as they are targets.

    All that a job scrapes is the fleet if it told of the fleet's model alone for a week, and always where no model is
    named. Of a job that tells of several models a target counts that told of this one within the week: another may be
    of another model.
    """
    at = selector(monitor)
    spaces = selector(monitor.model_copy(update={"model_name": None}))
    dead = f"{UP}{spaces} == 0"
    job = f"count by (job) ({_told(monitor, at)})"
    if monitor.model_name is None:
        return f"count by ({REPLICA}) ({dead} and on (job) {job})"
    target = f"count by (job, {REPLICA}) ({_told(monitor, at)})"
    alone = f"(count by (job) (count by (job, model_name) ({_told(monitor, spaces)})) == 1)"
    return f"count by ({REPLICA}) ({dead} and on (job, {REPLICA}) {target} or {dead} and on (job) ({job} and {alone}))"


def _told(monitor: Monitor, at: str) -> str:
    """Engines that have told of themselves: within the last hour or window, or at one of the hours of a week."""
    series = f"{names.RUNNING}{at}"
    hourly = f"[{duration(REMEMBERED_S)}:{duration(REMEMBERED_STEP_S)}]"
    lately = f"[{duration(max(monitor.window_s, REMEMBERED_STEP_S))}]"
    return f"count_over_time({series}{lately}) or count_over_time({series}{hourly})"


def question(expressed: Mapping[str, str]) -> str:
    """All of them as one expression."""
    return " or ".join(f'label_replace({text}, "{FIGURE}", "{name}", "", "")' for name, text in expressed.items())
