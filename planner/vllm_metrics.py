"""vLLM's /metrics by name: what the emulator serves and what the live client reads.

Names, labels and buckets are those of vLLM 0.32.0 (`v1/metrics/loggers.py`, `v1/metrics/buckets.py`), the meaning of
each is in its help text here. In the text format a counter's samples end in "_total", a histogram's in "_bucket",
"_sum" and "_count"; `NAME_TOTAL` constants below are what a scrape shows.
"""

from __future__ import annotations

LABELS = ("model_name", "engine")
REASONS = ("stop", "length", "abort", "error", "repetition")  # values of the label `finished_reason`

# --- gauges ---

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
CACHE_CONFIG = "vllm:cache_config_info"

GAUGES = {
    RUNNING: "Requests that hold a seat in the engine's batch.",
    WAITING: "Requests in the engine's queue.",
    KV_USAGE: "Share of the KV cache's blocks that requests own; 1 is full.",
}
CACHE_CONFIG_HELP = "Settings of the KV cache, as labels."

# --- counters ---

PREFIX_QUERIES = "vllm:prefix_cache_queries"
PREFIX_HITS = "vllm:prefix_cache_hits"
PROMPT_TOKENS = "vllm:prompt_tokens"
PROMPT_TOKENS_CACHED = "vllm:prompt_tokens_cached"
GENERATION_TOKENS = "vllm:generation_tokens"
PREEMPTIONS = "vllm:num_preemptions"
SUCCESS = "vllm:request_success"  # one more label: finished_reason

COUNTERS = {
    PREFIX_QUERIES: "Prompt tokens looked up in the prefix cache at first admission.",
    PREFIX_HITS: "Prompt tokens found in the prefix cache at first admission.",
    PROMPT_TOKENS: "Prompt tokens of requests that have had their first token, cached ones included.",
    PROMPT_TOKENS_CACHED: "Prompt tokens that came from the prefix cache.",
    GENERATION_TOKENS: "Tokens generated.",
    PREEMPTIONS: "Requests sent back to the queue for want of KV blocks.",
}
SUCCESS_HELP = "Requests that ended, by reason."

PREFIX_QUERIES_TOTAL = PREFIX_QUERIES + "_total"
PREFIX_HITS_TOTAL = PREFIX_HITS + "_total"
PROMPT_TOKENS_TOTAL = PROMPT_TOKENS + "_total"
GENERATION_TOKENS_TOTAL = GENERATION_TOKENS + "_total"
PREEMPTIONS_TOTAL = PREEMPTIONS + "_total"
SUCCESS_TOTAL = SUCCESS + "_total"

# --- histograms ---

TTFT = "vllm:time_to_first_token_seconds"
ITL = "vllm:inter_token_latency_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
E2E = "vllm:e2e_request_latency_seconds"
QUEUE = "vllm:request_queue_time_seconds"
INFERENCE = "vllm:request_inference_time_seconds"
PREFILL = "vllm:request_prefill_time_seconds"
DECODE = "vllm:request_decode_time_seconds"
REQUEST_PROMPT = "vllm:request_prompt_tokens"
REQUEST_GENERATION = "vllm:request_generation_tokens"
REQUEST_MAX_TOKENS = "vllm:request_params_max_tokens"
REQUEST_N = "vllm:request_params_n"
REQUEST_PREEMPTIONS = "vllm:request_num_preemptions"
ITERATION = "vllm:iteration_tokens_total"

# fmt: off
_REQUEST_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)
_FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)
_TOKEN_GAP_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)
# fmt: on
_STEP_TOKENS = tuple(float(1 << power) for power in (0, *range(3, 15)))
_SAMPLES = (1.0, 2.0, 5.0, 10.0, 20.0)
_PREEMPTED = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)

# Name: (help, buckets). Those without buckets count tokens of a request: see `token_buckets`.
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...] | None]] = {
    TTFT: ("Seconds from a request's arrival at the server to its first token.", _FIRST_TOKEN_S),
    ITL: ("Seconds between successive tokens of a request.", _TOKEN_GAP_S),
    TPOT: ("Mean seconds per token after the first, of a finished request.", _TOKEN_GAP_S),
    E2E: ("Seconds from a request's arrival at the server to its last token.", _REQUEST_S),
    QUEUE: ("Seconds in the engine's queue before a request was first scheduled.", _REQUEST_S),
    INFERENCE: ("Seconds from first scheduled to last token.", _REQUEST_S),
    PREFILL: ("Seconds from first scheduled to first token.", _REQUEST_S),
    DECODE: ("Seconds from first to last token.", _REQUEST_S),
    REQUEST_PROMPT: ("Prompt tokens of a finished request.", None),
    REQUEST_GENERATION: ("Tokens generated for a finished request.", None),
    REQUEST_MAX_TOKENS: ("The request's own max_tokens.", None),
    REQUEST_N: ("The request's own n.", _SAMPLES),
    REQUEST_PREEMPTIONS: ("How often a finished request was preempted.", _PREEMPTED),
    ITERATION: ("Prompt and generated tokens of an engine step that gave any.", _STEP_TOKENS),
}


def token_buckets(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … up to `max_model_len`: the buckets of histograms of a request's tokens."""
    bounds: list[float] = []
    decade = 1
    while decade <= max_model_len:
        bounds += [float(digit * decade) for digit in (1, 2, 5) if digit * decade <= max_model_len]
        decade *= 10
    return tuple(bounds)
