"""The load test's Jobs: what they are told is a run that works, tried here with the same arguments."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulator_process import emulator
from manifest_plans import ROOT, container, document, facts, objects

from planner.manifests.loadtest import (
    LOCUSTFILE,
    MASTER_PORT,
    chosen_scenario,
    master_arguments,
    worker_arguments,
    workers,
)
from planner.readers.recordings import read_own
from planner.records import RequestRow, decode_line
from planner.scenario import Scenario

PATIENCE_S = 90


def test_the_scenario_is_the_plan_s_with_what_was_chosen():
    made = yaml.safe_load(objects()["ConfigMap/fleet-loadtest"]["data"]["scenario.yaml"])
    scenario = Scenario.from_dict(made)
    assert ("llama-3.3-70b",) == scenario.model
    assert (("h200-sxm-141gb",), (2,), ("fp8",)) == (
        scenario.hardware,
        scenario.engine.tensor_parallel_size,
        scenario.engine.quantization,
    )
    assert {} == scenario.choices(), "nothing is left to choose"
    assert 21 == scenario.fleet.replicas
    whole = Scenario.from_dict(document()["scenario"])
    assert (whole.traffic, whole.query, whole.slo) == (scenario.traffic, scenario.query, scenario.slo)


def test_a_calibration_file_stays_behind():
    assert "calibration" not in chosen_scenario(facts(scenario=document()["scenario"] | {"calibration": "c.json"}))


WORKERS = [(21_062.0, 3, "8,000 tokens a second each"), (None, 2, "not known"), (100.0, 2, "never one alone")]


@pytest.mark.parametrize(("tokens", "count", "because"), WORKERS)
def test_as_many_workers_as_no_core_is_half_busy(tokens, count, because):
    assert count == workers(facts(at_peak__output_throughput=tokens)), because


def test_jobs_agree_on_their_number_and_on_how_they_meet():
    made = objects()
    master, sending = (made[f"Job/fleet-loadtest-{name}"] for name in ("master", "worker"))
    words = container(master)["args"]
    assert workers(facts()) == sending["spec"]["parallelism"] == int(words[words.index("--expect-workers") + 1])
    assert "fleet-loadtest-master" == container(sending)["args"][-1]
    service = made["Service/fleet-loadtest-master"]["spec"]
    assert (MASTER_PORT, True) == (service["ports"][0]["port"], service["publishNotReadyAddresses"])
    assert "http://fleet:8000" == words[words.index("--host") + 1]
    assert 0 == master["spec"]["backoffLimit"]


def test_the_container_file_puts_the_locustfile_where_the_jobs_look_for_it():
    assert ["locust", "-f", LOCUSTFILE] == container(objects()["Job/fleet-loadtest-worker"])["command"]
    assert f"COPY loadtests/locustfile.py {LOCUSTFILE}" in (ROOT / "deploy" / "Containerfile").read_text()


def test_the_rendered_arguments_make_a_valid_run(tmp_path):
    """A master and as many workers as rendered, against an emulated server; the scenario and the length made small.

    The locustfile is a copy in a folder of its own, as in the image, and the workers are given no scenario.
    """
    plan = facts("demo")
    small = chosen_scenario(plan) | {"model": "qwen3-0.6b", "traffic": {"peak_qps": 20.0}}
    (tmp_path / "scenario.yaml").write_text(json.dumps(small))
    locustfile = shutil.copy(ROOT / "loadtests" / "locustfile.py", tmp_path / "locustfile.py")
    port = _free_port()
    records = tmp_path / "run.jsonl"
    with emulator(str(tmp_path / "scenario.yaml"), "--served-model-name", "meta-llama/Llama-3.1-8B") as server:
        words = master_arguments(plan, server.url, str(tmp_path / "scenario.yaml"), str(records))
        words[words.index("--duration-s") + 1] = "2"
        # This machine may be busy: the test is of the arguments, not of the client's speed.
        words += ["--send-lag-limit-ms", "60000", "--cpu-limit", "1", "--master-bind-host", "127.0.0.1"]
        meet = ["--master-port", str(port)]
        log = (tmp_path / "workers.log").open("wb")
        senders = [_locust(locustfile, [*worker_arguments("127.0.0.1"), *meet], log) for _ in range(workers(plan))]
        try:
            master = _locust(locustfile, [*words, "--master-bind-port", str(port)], subprocess.PIPE)
            output, _ = master.communicate(timeout=PATIENCE_S)
            codes = [sender.wait(PATIENCE_S) for sender in senders]
        finally:
            for process in senders:
                process.kill()
                process.wait()
            log.close()
    assert (0, [0, 0]) == (master.returncode, codes), output
    recording = read_own(Path(records))
    assert recording.end is not None
    assert ("complete", [], 0) == (recording.end.reason, recording.end.invalid, recording.end.unsent), output
    lines = [decode_line(line, number) for number, line in enumerate(records.read_bytes().splitlines(), 1)]
    rows = [line for line in lines if isinstance(line, RequestRow)]
    assert len(rows) >= 20
    assert {""} == {row.error for row in rows}


def _locust(locustfile: str, words: list[str], output: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), *words]
    folder = Path(locustfile).parent
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True, cwd=folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
