"""The whole loop in one terminal: plan, serve, load-test, calibrate, plan again, and see the numbers agree.

    make demo

No GPU: `planner emulate` stands in for the server, and plays a machine that is *not* what the plan supposes: its
kernels take 30 % longer and 25 ms pass in front of its engine. The load tests have to find that out. The loop is closed
if the calibrated planner then predicts a load that it was not calibrated on, and the planner's own step cost does not.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner.deployment import only_candidate
from planner.deployment.calibrated import identity, memory_settings
from planner.deployment.parts import parts_of, size
from planner.performance import breakdown
from planner.readers.calibration_file import Calibration, Coefficient, Part, Record
from planner.scenario import Scenario

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "examples" / "demo.yaml"
OUT = ROOT / "build" / "demo"
KERNELS: tuple[Part, ...] = ("step", "tokens", "sequences", "decode_attention", "prefill_attention", "prefill_step")
SLOWER, FRONTEND_S = 1.3, 0.025
# Queries/s and seed of the loads that the calibration is made from, and of the one that judges it.
LOADS = {"light": (1.5, 1), "busy": (5.0, 2)}
JUDGE = (3.5, 3)
SECONDS, WARMUP_S = 18, 3
FIGURES = {"ttft_ms.p50": "TTFT p50 [ms]", "tpot_ms.p50": "TPOT p50 [ms]", "e2e_ms.p50": "E2E p50 [ms]"}
AGREE = 0.10
READY = re.compile(r"planner emulate: (http://\S+)")
READY_DEADLINE_S = 60.0


def main() -> None:
    """Run the loop; exits 1 where the numbers do not agree."""
    begun = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    calibration = OUT / "calibration.json"

    title("1. plan: what the planner believes before anything was measured")
    before = planned()
    say(before)

    title("2. serve: the emulator plays a slower machine than the plan supposes")
    with emulator() as url:
        title("3. load-test it, twice")
        records = [tested(url, name, *load)[1] for name, load in LOADS.items()]

        title("4. calibrate on what was recorded")
        print(planner("calibrate", *map(str, records), "--out", str(calibration)), flush=True)

        title("5. plan again, with what was measured")
        after = planned(calibration)
        say(after)

        title(f"6. does it hold? {JUDGE[0]:g} queries/s, a load that the calibration has not seen")
        measured, record = tested(url, "judge", *JUDGE)
    good = compared(measured, record, calibration)

    verdict = "ok" if good else "FAILED, the numbers do not agree"
    print(f"\nrecords and calibration: {OUT.relative_to(ROOT)}")
    print(f"demo: {verdict}, {time.monotonic() - begun:.0f} s")
    sys.exit(0 if good else 1)


def title(text: str) -> None:
    """A heading."""
    print(f"\n--- {text} ---\n", flush=True)


def planner(*words: str) -> str:
    """What a verb prints; a verb that fails ends the demo with what it said."""
    done = subprocess.run([sys.executable, "-m", "planner", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(f"demo: FAILED, planner {words[0]} ended with {done.returncode}")
    return done.stdout


def planned(calibration: Path | None = None) -> dict[str, Any]:
    """The plan of the demo's scenario."""
    extra = () if calibration is None else ("--set", f"calibration={calibration}")
    document: dict[str, Any] = json.loads(planner("plan", str(SCENARIO), "--json", *extra))
    return document


def say(plan: dict[str, Any]) -> None:
    """The answer in three lines."""
    fleet, peak = plan["fleet"], plan["at_peak"]
    print(f"{fleet['gpus']} × {fleet['hardware']} for {plan['scenario']['traffic']['peak_qps']:g} queries/s, ", end="")
    print(f"${1000 * plan['cost']['usd_per_query']:.4f} per thousand queries")
    print(f"at the peak: TTFT p95 {peak['ttft_ms']['p95']:.0f} ms, TPOT p95 {peak['tpot_ms']['p95']:.1f} ms")
    print(f"the kernels: {peak['confidence']['kernel_path']}", flush=True)


@contextmanager
def emulator() -> Iterator[str]:
    """A server that behaves as the hidden truth; stopped whatever happens."""
    truth = OUT / "truth.json"
    truth.write_text(slower_machine().model_dump_json(indent=2), encoding="utf-8")
    command = [sys.executable, "-m", "planner", "emulate", str(SCENARIO)]
    command += ["--port", "0", "--set", f"calibration={truth}"]
    log = OUT / "emulator.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not (ready := READY.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"demo: FAILED, the emulator did not start: {log.read_text().strip()}")
            time.sleep(0.1)
        print(log.read_text().strip(), flush=True)
        yield ready[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def slower_machine() -> Calibration:
    """The truth that the emulator plays, in the form of a calibration file."""
    candidate = only_candidate(Scenario.load(SCENARIO), "the demo")
    parts = parts_of(breakdown(candidate.model, candidate.gpu, candidate.options), candidate)
    coefficients = []
    for part, cost in parts.items():
        reference, at = size(cost, part)
        factor = SLOWER if part in KERNELS else FRONTEND_S / reference if part == "frontend" else 1.0
        coefficients.append(
            Coefficient(
                part=part,
                status="calibrated",
                factor=factor,
                low=factor,
                high=factor,
                reference=reference,
                reference_at=at,
                seconds=factor * reference,
                largest_share=0.0,
            )
        )
    exact = ((0.0,) * len(coefficients),) * len(coefficients)
    return Calibration(
        schema_version=1,
        date="2026-11-22",
        deployment=identity(candidate),
        memory=memory_settings(candidate.options),
        coefficients=tuple(coefficients),
        covariance=exact,
        misfit_log_sd=0.0,
        records=(Record(file="made up", sha256="", format="none", requests=1, answered=1, duration_s=0.0),),
    )


def tested(url: str, name: str, qps: float, seed: int) -> tuple[dict[str, Any], Path]:
    """One load test: its answer and its records."""
    records = OUT / f"{name}.jsonl"
    words = ["loadtest", str(SCENARIO), "--host", url, "--json", "--out", str(records), "--seed", str(seed)]
    words += ["--duration", str(SECONDS), "--warmup", str(WARMUP_S), "--set", f"traffic.peak_qps={qps:g}"]
    answer: dict[str, Any] = json.loads(planner(*words))
    print(f"{name}, {qps:g} queries/s: {answer['requests']} requests, ", end="")
    print(", ".join(f"{label} {value(answer, key):.1f}" for key, label in FIGURES.items()), end="")
    print(f"; the plan's own: TPOT p50 {value(answer['simulated'], 'tpot_ms.p50'):.1f}", flush=True)
    return answer, records


def compared(measured: dict[str, Any], records: Path, calibration: Path) -> bool:
    """Print measured beside predicted; whether calibrated predictions agree and the planner's own step cost was off."""
    words = ("validate", "--records", str(records), "--json", "--set", f"calibration={calibration}")
    calibrated = json.loads(planner(*words))
    print(f"{'':<16}{'measured':>10}{'before':>10}{'error':>8}{'calibrated':>12}{'error':>8}")
    good, off = True, False
    for key, label in FIGURES.items():
        seen, naive, told = value(measured, key), value(measured["simulated"], key), predicted(calibrated, key)
        print(f"{label:<16}{seen:>10.1f}{naive:>10.1f}{naive / seen - 1:>8.1%}{told:>12.1f}{told / seen - 1:>8.1%}")
        good &= abs(told / seen - 1) <= AGREE
        off |= abs(naive / seen - 1) > AGREE
    print(f"calibrated figures must agree within {AGREE:.0%}, and the uncalibrated ones must not all do so")
    return good and off


def predicted(document: dict[str, Any], key: str) -> float:
    """A simulated figure of `planner validate --records`."""
    (run,) = document["runs"]
    return float(run["figures"][key]["simulated"])


def value(document: dict[str, Any], key: str) -> float:
    """A figure by its dotted name."""
    name, _, statistic = key.partition(".")
    return float(document[name][statistic])


if __name__ == "__main__":
    main()
