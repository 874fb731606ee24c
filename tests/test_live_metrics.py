"""vLLM's /metrics as read: summed over engines, and what changed between two readings."""

from __future__ import annotations

from planner.live import changes
from planner.live.metrics import Scrape, parse_scrape

TWO_ENGINES = """
# HELP vllm:num_requests_running Requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 300.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 50.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 50.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 7.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 2.0
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="m"} 4.0
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="m"} 4.0
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 4.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 0.5
"""


def test_figures_are_summed_over_engines():
    read = parse_scrape(TWO_ENGINES)
    assert read.totals["vllm:num_requests_running"] == 7.0
    assert "vllm:num_requests_waiting" not in read.totals  # waiting by reason is another metric
    assert read.kv_usage == (0.25, 0.5)
    assert read.engines == {"0", "1"}
    assert read.success == {"length": 7.0, "stop": 2.0}
    assert read.mean("vllm:request_queue_time_seconds") == 0.125


def test_what_changed_between_two_scrapes():
    before = parse_scrape(TWO_ENGINES)
    after = parse_scrape(
        TWO_ENGINES.replace("} 300.0", "} 700.0")
        .replace('hits_total{engine="1",model_name="m"} 50.0', 'hits_total{engine="1",model_name="m"} 150.0')
        .replace('count{engine="0",model_name="m"} 4.0', 'count{engine="0",model_name="m"} 6.0')
        .replace("} 0.5\n", "} 1.5\n")
        .replace("} 2.0", "} 12.0")
    )
    moved = changes(before, after)
    assert moved["prefix_cache_hit_rate"] == 100 / 400  # of the 400 tokens that were looked up meanwhile
    assert moved["queue_mean_ms"] == 500.0  # one more second over two more requests
    assert moved["requests_finished"] == 10
    assert moved["finished_reasons"] == {"stop": 10}
    assert "num_preemptions" not in moved  # not told is not zero


def test_counters_that_fell_mean_a_restart():
    before = parse_scrape(TWO_ENGINES)
    after = Scrape(dict.fromkeys(before.totals, 0.0))
    assert changes(before, after) == {"restarted": True}
