"""Send every load of the study to real vLLM, and keep the records.

    python -m tools.cpu_study.record --out DIR [--repeats 5] [--duration-s 24]

Each server is first warmed up with prompts of all lengths. Records that are there already are not made again, so an
interrupted study goes on where it stopped. Nothing else should run on the machine meanwhile: it has two cores, one for
the engine and one for the rest.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.cpu_study.plan import (
    DURATION_S,
    MAIN,
    OTHERS,
    SEED,
    TRAFFIC,
    WARMING,
    WARMING_S,
    WARMUP_S,
    Server,
    Traffic,
)
from tools.vllm_cpu import cores
from tools.vllm_cpu.server import VllmServer, serve

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "examples" / "cpu-tiny.yaml"
INVALID = 1  # the exit code of a run whose figures must not be used


def record_all(out: Path, repeats: int, duration_s: float) -> None:
    """Every load of every server; the main server's `repeats` times over, one round after the other."""
    out.mkdir(parents=True, exist_ok=True)
    for server, rounds in ((MAIN, repeats), *((other, 1) for other in OTHERS)):
        wanted = [
            (name, path)
            for number in range(rounds)
            for name in server.loads
            if not (path := records_path(out, server.name, name, number)).exists()
        ]
        if not wanted:
            continue
        log = out / f"{_file(server.name)}.log"
        with serve(server.model, server.flags, log=log) as running:
            warm(running, server)
            for number, (name, path) in enumerate(wanted, 1):
                print(f"{server.name}: {name}, {number} of {len(wanted)}", flush=True)
                record(running, server, TRAFFIC[name], path, duration_s)


def records_path(out: Path, server: str, load: str, repeat: int) -> Path:
    """Where the records of one run stand."""
    return out / f"{_file(server)}-{load}-{repeat}.jsonl"


def _file(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def warm(running: VllmServer, server: Server) -> None:
    """Prompts of all lengths, whose records are thrown away; a slow answer is what they are for, and ends nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for traffic in WARMING:
            print(f"{server.name}: warm-up, {traffic.what}", flush=True)
            done = send(running, server, traffic, Path(folder) / f"{traffic.name}.jsonl", WARMING_S)
            if done.returncode not in (0, INVALID):
                sys.exit(_failed(server, f"warm-up {traffic.name}", done))


def record(running: VllmServer, server: Server, traffic: Traffic, path: Path, duration_s: float) -> None:
    """One load test; a run that is invalid or fails ends the study, naming what it said."""
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    done = send(running, server, traffic, unfinished, duration_s)
    if done.returncode != 0:
        sys.exit(_failed(server, traffic.name, done))
    unfinished.rename(path)


def send(
    running: VllmServer, server: Server, traffic: Traffic, path: Path, duration_s: float
) -> subprocess.CompletedProcess[str]:
    """`planner loadtest` with one load, its records in `path`."""
    command = [sys.executable, "-m", "planner", "loadtest", str(SCENARIO), "--host", running.url, "--json"]
    command += ["--out", str(path), "--duration", str(duration_s), "--warmup", str(WARMUP_S)]
    command += ["--seed", str(SEED)]
    for key, value in ({**server.settings, **traffic.settings}).items():
        command += ["--set", f"{key}={_setting(key, value)}"]
    with cores.beside_the_engine():
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def _failed(server: Server, what: str, done: subprocess.CompletedProcess[str]) -> str:
    said = json.loads(done.stdout).get("invalid") if done.stdout.startswith("{") else done.stderr
    return f"{server.name}, {what}: planner loadtest ended with {done.returncode}: {said}"


def _setting(key: str, value: object) -> str:
    """A value as --set takes it; a model is one of the examples' configurations."""
    if key == "model":
        return str(ROOT / "examples" / str(value) / "config.json")
    return json.dumps(value) if isinstance(value, bool) else str(value)


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--duration-s", type=float, default=DURATION_S)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the server is stopped on the way out
    record_all(given.out, given.repeats, given.duration_s)


if __name__ == "__main__":
    main()
