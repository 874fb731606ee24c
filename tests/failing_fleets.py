"""Small fleets for tests of what befalls replicas: scenarios to be changed."""

from __future__ import annotations

from typing import Any

SHORT_ANSWERS: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096},
    "traffic": {"peak_qps": 40},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1200, "output_tokens": 200}]},
    "slo": {"p95_ttft_ms": "<=1000"},
    "fleet": {"replicas": 3},
}
LONG_ANSWERS: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 12},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 500, "output_tokens": 300}]},
    "slo": {"p99_e2e_ms": "<=60000"},
    "fleet": {"replicas": 3, "spare_replicas": 1},
}
