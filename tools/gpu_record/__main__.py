"""Start each server of the plan, send its loads, keep the records."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.gpu_record.keep import NothingRecordedError, cache_config, compact, telling_lines
from tools.gpu_record.plan import PLAN, REHEARSAL, Load, Served
from tools.vllm_cpu import cores, server
from tools.vllm_cpu.models import write_model

START_S, START_DEADLINE_S = 120.0, 420.0  # what a start takes, and when it has failed
AROUND_S = 20.0  # that a load takes beyond its arrivals: the client's start, the last answers
DONE, FAILED, NO_TIME = 0, 1, 3
VERSIONS = """
import json, platform, torch, vllm
cuda = torch.cuda.is_available()
print(json.dumps({"vllm": vllm.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
    "python": platform.python_version(), "device": torch.cuda.get_device_name() if cuda else "cpu"}))
"""
CARD = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.mem")


@dataclass(frozen=True)
class Machine:
    """Which interpreter has vLLM, and the variables that it is run with."""

    python: str
    environ: Mapping[str, str]
    on_cpu: bool


def main() -> None:
    """Record what is missing of the plan; exit 0 when nothing is, 3 when the time ran out, 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_record", description=(__doc__ or ""))
    parser.add_argument("--out", type=Path, default=Path("gpu-records"), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="these servers alone, by name")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="begin nothing that would take longer")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and what is there already")
    parser.add_argument("--rehearse", action="store_true", help="the tiny model on this machine's CPU instead")
    chosen = parser.parse_args()
    plan = REHEARSAL if chosen.rehearse else PLAN
    unknown = set(chosen.only or ()) - {served.name for served in plan}
    if unknown:
        parser.error(f"no server {', '.join(sorted(unknown))}; there are: {', '.join(one.name for one in plan)}")
    wanted = [served for served in plan if not chosen.only or served.name in chosen.only]
    if chosen.dry_run:
        print(describe(wanted, chosen.out))
        return
    signal.signal(signal.SIGTERM, server.interrupt)
    try:
        sys.exit(record_all(wanted, chosen.out, this_machine(chosen.rehearse), time.monotonic() + chosen.budget_s))
    except KeyboardInterrupt:
        sys.exit("interrupted; what was recorded is kept, the same command goes on")


def describe(plan: Sequence[Served], out: Path) -> str:
    """The plan as text, with how long it takes."""
    lines, total_s = [], 0.0
    for served in plan:
        left = missing(served, out)
        seconds = START_S + sum(expected_s(load) for load in left) if left else 0.0
        total_s += seconds
        lines.append(f"{served.name}: vLLM {' '.join(served.flags)}, about {seconds:.0f} s")
        for load in served.loads:
            state = "to do" if load in left else "there"
            prefix = f"{load.prefix} shared + " if load.prefix else ""
            spread = f" ± {load.spread:.0%}" if load.spread else ""
            what = f"{load.requests} requests at {load.rate_qps:g}/s, {prefix}{load.prompt} → {load.output} tokens"
            lines.append(f"  {state}  {load.name}: {what}{spread}")
    return "\n".join([*lines, f"to do: about {total_s / 60:.0f} minutes"])


def missing(served: Served, out: Path) -> list[Load]:
    """The loads without a record."""
    return [load for load in served.loads if not record_path(served, load, out).is_file()]


def record_path(served: Served, load: Load, out: Path) -> Path:
    """Where a load's record stands."""
    return out / served.name / f"{load.name}.json"


def expected_s(load: Load) -> float:
    """How long a load takes."""
    return load.requests / load.rate_qps + AROUND_S


def this_machine(rehearse: bool) -> Machine:
    """The interpreter that runs this, or the rehearsal's own."""
    if rehearse:
        return Machine(str(server.ENVIRONMENT / "bin" / "python"), server.variables({}), on_cpu=True)
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    environ = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
    return Machine(sys.executable, {**environ, **offline}, on_cpu=False)


def record_all(plan: Sequence[Served], out: Path, machine: Machine, end: float) -> int:
    """Every server in turn; one that fails is reported and does not keep the next from being recorded."""
    code = DONE
    for served in plan:
        if not missing(served, out):
            print(f"{served.name}: all there", flush=True)
        elif time.monotonic() + START_S > end:
            print(f"{served.name}: no time left", flush=True)
            code = code or NO_TIME
        else:
            try:
                code = record_server(served, out, machine, end) or code
            except (server.ServerFailedError, subprocess.SubprocessError, NothingRecordedError, OSError) as error:
                print(f"{served.name}: {error}", flush=True)
                code = FAILED
    return code


def record_server(served: Served, out: Path, machine: Machine, end: float) -> int:
    """Start one server and record what it lacks."""
    folder = out / served.name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        model, log = write_model(Path(scratch) / served.model, served.config), Path(scratch) / "vllm.log"
        port = server.free_port()
        url = f"http://127.0.0.1:{port}"
        command = [machine.python, *server.arguments(model, port), *served.flags]
        began = time.monotonic()
        print(f"{served.name}: starting", flush=True)
        with server.launched(command, machine.environ, url, log, START_DEADLINE_S) as process:
            if machine.on_cpu:
                cores.separate(process.pid)
            about = describe_server(served, machine, url, log, time.monotonic() - began)
            (folder / "server.json").write_text(json.dumps(about, indent=1) + "\n")
            for load in missing(served, out):
                if time.monotonic() + expected_s(load) > end:
                    print(f"{served.name}: no time left for {load.name}", flush=True)
                    return NO_TIME
                print(f"{served.name}: {load.name}, about {expected_s(load):.0f} s", flush=True)
                record = send(served, load, model, url, machine, Path(scratch))
                # Under its own name only when it is whole.
                unfinished = record_path(served, load, out).with_suffix(".part")
                unfinished.write_text(record)
                unfinished.rename(record_path(served, load, out))
    return DONE


def send(served: Served, load: Load, model: Path, url: str, machine: Machine, scratch: Path) -> str:
    """Send one load with vLLM's own client, and give its compact record."""
    # A seed of its own for each load: one prompt sent twice would be found in the prefix cache.
    seed = zlib.crc32(f"{served.name} {load.name}".encode()) % 2**31
    command = [machine.python, "-m", "tools.gpu_record.bench", "--backend", "openai", "--base-url", url]
    command += ["--endpoint", "/v1/completions", "--model", served.model, "--tokenizer", str(model)]
    command += ["--dataset-name", "random", "--random-input-len", str(load.prompt), "--seed", str(seed)]
    command += ["--random-output-len", str(load.output), "--random-prefix-len", str(load.prefix)]
    command += ["--random-range-ratio", str(load.spread), "--num-prompts", str(load.requests), "--ignore-eos"]
    command += ["--request-rate", str(load.rate_qps), "--burstiness", "1.0", "--disable-tqdm"]
    command += ["--save-result", "--save-detailed", "--result-dir", str(scratch), "--result-filename", "report.json"]
    limit_s = expected_s(load) * 4 + 60
    done = subprocess.run(
        command,
        env=dict(machine.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
        preexec_fn=keep_off_the_engine if machine.on_cpu else None,
    )
    report = scratch / "report.json"
    if done.returncode != 0 or not report.is_file():
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise NothingRecordedError(f"{load.name}: the client ended with exit code {done.returncode}\n{last}")
    record = compact(json.loads(report.read_text()), {**asdict(load), "requests": load.requests, "seed": seed})
    report.unlink()
    return record


def keep_off_the_engine() -> None:
    """Leave the engine's core to it."""
    os.sched_setaffinity(0, cores.for_clients())


def describe_server(served: Served, machine: Machine, url: str, log: Path, start_s: float) -> dict[str, Any]:
    """What was recorded: versions, card, flags, the cache as logged."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    said = subprocess.run(
        [machine.python, "-c", VERSIONS], env=dict(machine.environ), capture_output=True, text=True, check=True
    )
    return {
        "name": served.name,
        "model": served.model,
        "config": json.loads(served.config.read_text()),
        "flags": list(served.flags),
        "versions": json.loads(said.stdout.splitlines()[-1]),
        "card": card(),
        "kv_cache_tokens_logged": server.logged_kv_tokens(log),
        "cache_config": cache_config(metrics),
        "log": telling_lines(log),
        "start_s": round(start_s, 1),
        "recorded": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def card() -> dict[str, str]:
    """What the driver says of the card; empty without one."""
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(CARD)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    values = said.stdout.splitlines()[0].split(", ")
    return dict(zip(CARD, values, strict=False))


if __name__ == "__main__":
    main()
