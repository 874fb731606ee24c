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
DOWN_REMEMBERED_S = 3600.0
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
        "covered_s": f"time() - min(min_over_time(timestamp({running}){fine}))",
        "samples": f"max(count_over_time({running}{window}))",
        DOWN: _down(monitor),
        "engines": f"count({running})",
        "jobs": f"max(count by ({REPLICA}) (count by ({REPLICA}, job) ({running})))",
        MODELS: f"count by (model_name, namespace) ({running})",
        "running": f"sum({running})",
        "waiting": f"sum({names.WAITING}{at})",
        "waiting_growth_per_s": f"sum(delta({names.WAITING}{at}{window})) / {monitor.window_s:g}",
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


def _down(monitor: Monitor) -> str:
    """Targets of the fleet's scrape jobs whose last scrape failed.

    Without a model's name all that these jobs scrape is the fleet. With one they may scrape other models too: a target
    then counts for as long as its own series of this model are remembered.
    """
    spaces = monitor.model_copy(update={"model_name": None})
    named = monitor.model_name is not None
    by = f"job, {REPLICA}" if named else "job"
    remembered_s = max(monitor.window_s, DOWN_REMEMBERED_S if named else 0.0)
    seen = f"count by ({by}) (count_over_time({names.RUNNING}{selector(monitor)}[{duration(remembered_s)}]))"
    return f"count by ({REPLICA}) ({UP}{selector(spaces)} == 0 and on ({by}) {seen})"


def question(expressed: Mapping[str, str]) -> str:
    """All of them as one expression."""
    return " or ".join(f'label_replace({text}, "{FIGURE}", "{name}", "", "")' for name, text in expressed.items())
