"""/metrics under vLLM's names, counted where vLLM counts: prompts at their first token, the rest as steps end."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from planner import vllm_metrics as names
from planner.emulator.engine import Call, Gave
from planner.simulation.stepper import Boundary
from planner.specs import SchedulerConfig

CONTENT_TYPE = CONTENT_TYPE_LATEST

# The emulator's own: whether its machine keeps up. vLLM has no such metric.
LATE = "planner:emulator_step_lateness_seconds"
_LATE_HELP = "Seconds from the end of a step, by the engine's clock, to when its tokens were handed out."
_LATE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """The registry of all engines of one server."""

    def __init__(
        self, model_name: str, engines: int, config: SchedulerConfig, cache_config: Mapping[str, object]
    ) -> None:
        self._registry = CollectorRegistry()
        gauges = {name: Gauge(name, text, names.LABELS, registry=self._registry) for name, text in names.GAUGES.items()}
        counters = {
            name: Counter(name, text, names.LABELS, registry=self._registry) for name, text in names.COUNTERS.items()
        }
        reasons = (*names.LABELS, "finished_reason")
        success = Counter(names.SUCCESS, names.SUCCESS_HELP, reasons, registry=self._registry)
        per_request = names.token_buckets(config.max_model_len)
        histograms = {
            name: Histogram(name, text, names.LABELS, registry=self._registry, buckets=buckets or per_request)
            for name, (text, buckets) in names.HISTOGRAMS.items()
        }
        late = Histogram(LATE, _LATE_HELP, names.LABELS, registry=self._registry, buckets=_LATE_S)
        labels = {key: str(value) for key, value in cache_config.items()}
        info = Gauge(names.CACHE_CONFIG, names.CACHE_CONFIG_HELP, [*labels, "engine"], registry=self._registry)
        self.engines: list[EngineMetrics] = []
        for index in range(engines):
            label = (model_name, str(index))
            info.labels(**labels, engine=str(index)).set(1)
            for reason in names.REASONS:
                success.labels(*label, reason)
            self.engines.append(
                EngineMetrics(
                    {name: gauge.labels(*label) for name, gauge in gauges.items()},
                    {name: counter.labels(*label) for name, counter in counters.items()},
                    {name: histogram.labels(*label) for name, histogram in histograms.items()},
                    success.labels(*label, "length"),
                    late.labels(*label),
                    config.usable_blocks,
                )
            )

    def text(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self._registry)


class EngineMetrics:
    """One engine's children of every metric: what an engine tells about itself, counted."""

    def __init__(
        self,
        gauges: Mapping[str, Gauge],
        counters: Mapping[str, Counter],
        histograms: Mapping[str, Histogram],
        success: Counter,
        late: Histogram,
        usable_blocks: int,
    ) -> None:
        self._gauges, self._counters, self._histograms = gauges, counters, histograms
        self._success, self._late, self._usable_blocks = success, late, usable_blocks

    def on_boundary(self, boundary: Boundary) -> None:
        """Gauges show the step that has just begun; look-ups and preemptions are counted as it is decided."""
        self._gauges[names.RUNNING].set(boundary.running)
        self._gauges[names.WAITING].set(boundary.waiting)
        self._gauges[names.KV_USAGE].set(boundary.owned_blocks / self._usable_blocks)
        for admission in boundary.step.admitted:
            if not admission.readmission:
                self._counters[names.PREFIX_QUERIES].inc(admission.queries)
                self._counters[names.PREFIX_HITS].inc(admission.hits)
        if boundary.step.preempted:
            self._counters[names.PREEMPTIONS].inc(len(boundary.step.preempted))

    def on_idle(self) -> None:
        """Nobody is running or waiting."""
        for name in names.GAUGES:
            self._gauges[name].set(0)

    def on_step_end(self, gave: Gave) -> None:
        """As in vLLM, a prompt counts whole in the step that gave its first token, however many chunks it took."""
        counters, histograms = self._counters, self._histograms
        self._late.observe(gave.late_s)
        if not gave.tokens:
            return  # vLLM too counts only steps that gave something
        counters[names.GENERATION_TOKENS].inc(gave.tokens)
        computed = 0
        for call in gave.prompts:
            computed += call.prompt_tokens - call.cached_tokens
            counters[names.PROMPT_TOKENS].inc(call.prompt_tokens)
            counters[names.PROMPT_TOKENS_CACHED].inc(call.cached_tokens)
            histograms[names.TTFT].observe(call.first_s - call.arrival_s)
        histograms[names.ITERATION].observe(computed + gave.tokens)
        observe_gap = histograms[names.ITL].observe
        for gap_s in gave.gaps_s:
            observe_gap(gap_s)
        for call in gave.finished:
            self._on_finish(call)

    def _on_finish(self, call: Call) -> None:
        histograms = self._histograms
        self._success.inc()
        decode_s = call.last_s - call.first_s
        histograms[names.E2E].observe(call.last_s - call.arrival_s)
        histograms[names.QUEUE].observe(call.scheduled_s - call.queued_s)
        histograms[names.PREFILL].observe(call.first_s - call.scheduled_s)
        histograms[names.DECODE].observe(decode_s)
        histograms[names.INFERENCE].observe(call.last_s - call.scheduled_s)
        # vLLM counts 0 for an answer of one token, which has no such time.
        histograms[names.TPOT].observe(decode_s / (call.generated - 1) if call.generated > 1 else 0.0)
        histograms[names.REQUEST_PROMPT].observe(call.prompt_tokens)
        histograms[names.REQUEST_GENERATION].observe(call.generated)
        histograms[names.REQUEST_MAX_TOKENS].observe(call.output_tokens)
        histograms[names.REQUEST_PREEMPTIONS].observe(call.preemptions)
        if call.samples:
            histograms[names.REQUEST_N].observe(call.samples)
