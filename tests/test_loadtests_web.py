"""The load test behind Locust's web page: started by its button, again and again, its statistics on the page."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.fault_server import FAST, fault_server
from tests.loadtest_process import LOCUSTFILE, PATIENCE_S, command, read_lines, started, write_scenario


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def ask(url: str, form: dict[str, str] | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


def wait_until_up(url: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            ask(url)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("the web page does not come up")


def run_once(page: str, written: Path, requests: int, **form: str) -> dict[str, int]:
    """Press start and wait for the end; the numbers of the page's entries, by type."""
    assert ask(f"{page}/swarm", form | {"requests": str(requests)})["success"]
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if written.is_file() and b'"record":"end"' in written.read_bytes():
            entries = ask(f"{page}/stats/requests")["stats"]  # the page keeps its answer for two seconds
            numbers = {entry["method"] or entry["name"]: entry["num_requests"] for entry in entries}
            if numbers.get("Aggregated") == requests:
                return numbers
        time.sleep(0.2)
    raise AssertionError("the run does not end")


def web_command(scenario: str, url: str, records: Path, port: int, *options: str) -> list[str]:
    arguments = [part for part in command(scenario, url, records) if part not in ("--headless", "--only-summary")]
    assert LOCUSTFILE in arguments
    return [*arguments, "--web-host", "127.0.0.1", "--web-port", str(port), *options]


def test_the_start_button_runs_the_schedule_and_again(tmp_path: Path) -> None:
    records, port = tmp_path / "r.jsonl", free_port()
    page = f"http://127.0.0.1:{port}"
    with fault_server(*FAST) as server:
        arguments = web_command(write_scenario(tmp_path), server.url, records, port, "--warmup-s", "0")
        with started(arguments) as process:
            wait_until_up(page)
            first = run_once(page, records, 15, host=server.url)
            second = tmp_path / "r-2.jsonl"
            again = run_once(page, second, 10, host=server.url, records=str(tmp_path / "elsewhere"))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert first == {"POST": 15, "TTFT": 15, "TPOT": 15, "ITL": 75, "send lag": 15, "Aggregated": 15}
    assert again["Aggregated"] == 10
    assert len(read_lines(records)) == 15 + 2
    assert len(read_lines(second)) == 10 + 2, "a second run gets a file of its own, where the first is"
    assert not (tmp_path / "elsewhere").exists(), "the page may not choose files"
    assert len(re.findall(r"^VALID$", errors, re.M)) == 2


def test_the_stop_button_ends_a_run_with_a_summary(tmp_path: Path) -> None:
    records, port = tmp_path / "r.jsonl", free_port()
    page = f"http://127.0.0.1:{port}"
    with fault_server(*FAST) as server:
        arguments = web_command(write_scenario(tmp_path), server.url, records, port, "--duration-s", "600")
        with started(arguments) as process:
            wait_until_up(page)
            ask(f"{page}/swarm", {"host": server.url})
            while not records.is_file() or records.read_bytes().count(b"\n") < 20:
                time.sleep(0.1)
                assert process.poll() is None
            assert ask(f"{page}/stop", {})["success"]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    lines = read_lines(records)
    assert "INVALID: interrupted" in errors
    assert process.returncode == 130, errors
    assert len(lines) > 20


def test_a_key_goes_to_no_server_that_the_page_names(tmp_path: Path) -> None:
    records, port = tmp_path / "r.jsonl", free_port()
    page = f"http://127.0.0.1:{port}"
    with fault_server(*FAST) as server, fault_server(*FAST) as thief:
        arguments = web_command(write_scenario(tmp_path), server.url, records, port, "--requests", "5")
        with started(arguments, OPENAI_API_KEY="sk-secret") as process:
            wait_until_up(page)
            ask(f"{page}/swarm", {"host": thief.url})
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        stolen = thief.log()
    assert stolen == []
    assert "the API key goes to no server but the command line's --host" in errors
    assert "sk-secret" not in errors
    assert not records.exists()


def test_the_page_listens_on_this_machine_alone_unless_told_otherwise(tmp_path: Path) -> None:
    """127.0.0.2 is this machine too: who listens on all addresses answers there."""
    for variables, answers, because in (
        ({}, False, "the page has no password"),
        ({"LOCUST_WEB_HOST": "*"}, True, "whoever wants all addresses says so"),
    ):
        port = free_port()
        arguments = web_command(write_scenario(tmp_path), "http://127.0.0.1:9", tmp_path / "r.jsonl", port)
        place = arguments.index("--web-host")
        with started([*arguments[:place], *arguments[place + 2 :]], **variables):
            wait_until_up(f"http://127.0.0.1:{port}")
            with socket.socket() as client:
                client.settimeout(5)
                assert (client.connect_ex(("127.0.0.2", port)) == 0) == answers, because
