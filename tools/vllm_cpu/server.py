"""One real vLLM on loopback: started, waited for, kept to its own CPU cores, stopped with all its processes.

    python -m tools.vllm_cpu.server [--model cpu-tiny-moe] [--port 8000] [-- --max-num-seqs 4]

prints the address and serves until Ctrl-C. `make vllm-cpu` prepares what it needs.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tools.vllm_cpu import cores

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".vllm-cpu"
DENSE, MOE = "cpu-tiny", "cpu-tiny-moe"
KV_CACHE_GIB = 1
CPU_FLAGS = ("--enforce-eager", "--max-num-seqs", "32")
START_DEADLINE_S = 300.0
STOP_DEADLINE_S = 30.0
ORPHANS_S = 5.0  # that the engine may outlive the API server by
KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")


class ServerFailedError(RuntimeError):
    """The server did not come up, or left processes behind; the message ends with its log's last lines."""


@dataclass(frozen=True)
class VllmServer:
    """A running server: where it listens, the name it serves the model under, and where its log is."""

    url: str
    model: str
    log: Path
    process: subprocess.Popen[bytes]
    client_cores: frozenset[int]

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds, as the server logged it."""
        return logged_kv_tokens(self.log)


@contextmanager
def serve(
    model: str = DENSE,
    flags: Sequence[str] = (),
    *,
    log: Path,
    environment: Path = ENVIRONMENT,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
    deadline_s: float = START_DEADLINE_S,
) -> Iterator[VllmServer]:
    """A server of `model` (a name below `environment`/models, or a folder) that is ready to answer.

    `flags` go to vLLM after ours and win over them. `environ` adds to the server's variables. On leaving, every
    process that the server started is gone.
    """
    folder = model_folder(model, environment)
    chosen = port if port is not None else free_port()
    command = [str(environment / "bin" / "python"), *arguments(folder, chosen), *CPU_FLAGS, *flags]
    url = f"http://127.0.0.1:{chosen}"
    with launched(command, variables(environ or {}), url, log, deadline_s) as process:
        cores.separate(process.pid)
        yield VllmServer(url, folder.name, log, process, cores.for_clients())


@contextmanager
def launched(
    command: Sequence[str], environ: Mapping[str, str], url: str, log: Path, deadline_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of any kind as a session of its own: ready inside, gone with all its processes outside."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    try:
        wait_until_ready(url, process, log, deadline_s)
        yield process
    finally:
        stop(process)


def model_folder(model: str, environment: Path) -> Path:
    """The folder of a model given by name or by path."""
    for folder in (environment / "models" / model, Path(model)):
        if (folder / "config.json").is_file():
            return folder.resolve()
    raise FileNotFoundError(f"no config.json in {environment / 'models' / model} or {model}: run `make vllm-cpu`")


def arguments(folder: Path, port: int) -> list[str]:
    """The interpreter's arguments that serve `folder`; the served name is the folder's, so that no path leaks out."""
    # The package's own `vllm` command looks for a distribution named vllm, which vllm-cpu is not.
    module = ["-m", "vllm.entrypoints.openai.api_server"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    served = ["--model", str(folder), "--served-model-name", folder.name]
    return [*module, *address, *served, "--load-format", "dummy"]


def variables(more: Mapping[str, str]) -> dict[str, str]:
    """The server's environment variables: ours without an API key, offline, on the engine's core; then `more`."""
    ours = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": str(cores.for_engine()),
    }
    return {**ours, **settings, **more}


def logged_kv_tokens(log: Path) -> int:
    """What the log's line "… KV cache size: N tokens" says."""
    found = KV_TOKENS.findall(log.read_text(errors="replace"))
    if not found:
        raise ServerFailedError(f"{log}: no line says 'KV cache size: … tokens'")
    return int(found[-1].replace(",", ""))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> None:
    """Return when /health answers 200; raise when the process ends or the time is up."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServerFailedError(f"vLLM ended with exit code {process.returncode} before it was ready\n{tail(log)}")
        with suppress(OSError, urllib.error.URLError), opener.open(f"{url}/health", timeout=2):
            return
        time.sleep(0.25)
    raise ServerFailedError(f"vLLM was not ready within {deadline_s:g} s\n{tail(log)}")


def tail(log: Path, lines: int = 20) -> str:
    """The log's last lines."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and every process of its session; ask first, insist later."""
    # The API server alone is asked, which ends its engine in order.
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_DEADLINE_S)
        if session_ended(process.pid, ORPHANS_S):
            return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_DEADLINE_S)
    if not session_ended(process.pid, STOP_DEADLINE_S):
        raise ServerFailedError(f"processes {cores.session_processes(process.pid)} of vLLM would not end")


def session_ended(session: int, within_s: float) -> bool:
    """Whether a session has no living process left, now or soon."""
    end = time.monotonic() + within_s
    while cores.session_processes(session):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DENSE, help=f"{DENSE} (default), {MOE}, or a folder with a config.json")
    parser.add_argument("--port", type=int, help="default: one that is free")
    parser.add_argument("--log", type=Path, default=ENVIRONMENT / "server.log", help="default: %(default)s")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="default: .vllm-cpu of this checkout")
    parser.add_argument("flags", nargs="*", help="vLLM's own flags, after --")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with serve(
            chosen.model, chosen.flags, log=chosen.log, environment=chosen.environment, port=chosen.port
        ) as server:
            print(f"{server.url}  model {server.model}  {server.kv_tokens} KV tokens  log {server.log}", flush=True)
            code = server.process.wait()
            sys.exit(f"vLLM ended with exit code {code}\n{tail(server.log)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ServerFailedError) as error:
        sys.exit(str(error))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a request to end as Ctrl-C, so that the server is stopped too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
