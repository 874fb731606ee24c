"""Fill the generated sections of docs/step-cost.md: worked examples, and every constant with its fit error.

    python tools/step_cost_page.py                    from the constants in planner/performance/data
    python tools/step_cost_page.py --pictures FOLDER  also draw the residuals anew, from a folder of kernel tables

Sections stand between `<!-- made: name -->` and `<!-- end: name -->`; all else on the page is written by hand. The
same constants always give the same text.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import exp
from pathlib import Path
from typing import Any

from planner.catalogue.engine_defaults import engine_defaults
from planner.catalogue.hardware import gpu as find_gpu
from planner.catalogue.models import model as find_model
from planner.coefficients import StepCost
from planner.performance import Breakdown, breakdown
from planner.performance.roofline import roofline_cost
from planner.specs import EngineOptions, Gpu, Model, Quantization

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "step-cost.md"
PICTURES = ROOT / "docs" / "step-cost"
DATA = ROOT / "planner" / "performance" / "data"
FAMILIES = {"gemm": "gemm", "experts": "experts", "attention": "attention", "allreduce": "collectives"}
COLOURS = 32  # of a picture: dots, a line and grey need no more, and the files are a quarter as large
VERSION = "0.24"  # of vLLM: that of the kernel tables
DECODES, CACHED, PROMPT = 64, 1000, 4096  # the two steps of the examples
NORMAL_80 = 1.2816  # standard deviations on either side of the median that hold 80 %
NOTABLE = 0.3  # correlations of at least this size are listed
PAIR = re.compile(r"median (\d+) % p90 (\d+) %")
SHOWN = {  # the constants that say most about a kernel
    "gemm": {"mbu": "MBU", "mfu": "MFU", "t0": "t0"},
    "experts": {"mbu": "MBU", "mfu": "MFU", "t0": "t0"},
    "decode_attention": {"mbu": "MBU", "t0": "t0"},
    "prefill_attention": {"mfu": "MFU"},
    "latent_decode": {"mbu": "MBU", "mfu": "MFU"},
    "allreduce": {"alpha": "α", "share_1048576": "β"},
}
Row = dict[str, str]


@dataclass(frozen=True)
class Example:
    """One engine whose terms are shown, and how a heading names it."""

    name: str
    model: str
    gpu: str
    quantization: Quantization
    changes: Mapping[str, Any] = field(default_factory=dict)

    def also(self, name: str, **changes: object) -> Example:
        """The same with more settings changed."""
        return replace(self, name=f"{self.name}{name}", changes={**self.changes, **changes})

    def candidate(self) -> tuple[Model, Gpu, EngineOptions]:
        """What `vllm serve` would choose, on one GPU, with some settings changed; the KV cache is 16 bit."""
        gpu = find_gpu(self.gpu)
        chosen = asdict(engine_defaults(gpu, VERSION)) | {"vllm_version": VERSION}
        del chosen["provenance"]
        engine = EngineOptions(
            quantization=self.quantization,
            kv_cache_dtype="auto",
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            data_parallel_size=1,
            enable_expert_parallel=False,
            max_model_len=8192,
            enforce_eager=False,
            **chosen,
        )
        return find_model(self.model), gpu, replace(engine, **self.changes)

    def terms(self) -> Breakdown:
        """The breakdown of its step cost."""
        return breakdown(*self.candidate())


LLAMA_8B = Example("llama-3.1-8b", "llama-3.1-8b", "h100-sxm-80gb", "bf16")
LLAMA_70B = Example("llama-3.3-70b", "llama-3.3-70b", "h200-sxm-141gb", "fp8", {"tensor_parallel_size": 2})
GPT_OSS = Example("gpt-oss-120b", "gpt-oss-120b", "h100-sxm-80gb", "mxfp4", {"tensor_parallel_size": 2})
EXAMPLES = (LLAMA_8B, LLAMA_70B, GPT_OSS)
DEALT = {"data_parallel_size": 8, "enable_expert_parallel": True}
DEEPSEEK = Example(
    "deepseek-v3 in fp8_block, DP 8 with experts dealt out", "deepseek-v3", "h200-sxm-141gb", "fp8_block", DEALT
)
SMALL = Example("llama-3.1-8b in fp8 on one H200", "llama-3.1-8b", "h200-sxm-141gb", "fp8")
OLDER = ("attention projections, older tiles", "feed-forward, older tiles", "sequence")
UNALIGNED = ("attention projections, unaligned", "feed-forward, unaligned")
EXPERTS = ("router", "shared experts", "routed experts", "expert exchange", "decode attention", "prefill attention")
OTHERS: tuple[tuple[Example, tuple[str, ...], int], ...] = (  # engine, terms, tokens of the prefill
    (SMALL.also(", enforce_eager", enforce_eager=True), ("kernel launches",), PROMPT),
    (LLAMA_8B.also(", synchronous", async_scheduling=False), ("synchronous step", "sequence"), PROMPT),
    (LLAMA_70B.also(", synchronous", async_scheduling=False), ("synchronous step", "sequence"), PROMPT),
    (LLAMA_70B.also(", asynchronous vLLM 0.10", vllm_version="0.10"), OLDER, PROMPT),
    (LLAMA_70B.also(f", a prefill of {PROMPT + 1:,} tokens"), UNALIGNED, PROMPT + 1),
    (LLAMA_70B.also(", PP 2 beside TP 2", pipeline_parallel_size=2), ("pipeline sends",), PROMPT),
    (DEEPSEEK, EXPERTS, PROMPT),
)


def steps_ms(cost: StepCost, prompt: int = PROMPT) -> tuple[float, float]:
    """Milliseconds of a step of `DECODES` decodes over `CACHED` tokens each, and of one that prefills `prompt`."""
    return 1e3 * cost.step_s([CACHED] * DECODES, []), 1e3 * cost.step_s([], [(0, prompt)])


def term_ms(terms: Breakdown, name: str, prompt: int = PROMPT) -> tuple[float, float]:
    """Milliseconds of the terms of one name in both steps."""
    named = tuple(term for term in terms.terms if term.name == name)
    return steps_ms(replace(terms, terms=named).cost(), prompt)


def term_names(terms: Breakdown) -> list[str]:
    """Names of the terms of a step, in the order they are built; what precedes a step is left out."""
    return [
        name for name in dict.fromkeys(term.name for term in terms.terms) if name not in ("API server", "tokenizer")
    ]


def worked_examples() -> str:
    """Each term of each example in both steps, their sum, and the roofline."""
    found = [example.terms() for example in EXAMPLES]
    names = dict.fromkeys(name for terms in found for name in term_names(terms))
    rows = [[name, *(_ms(ms) for terms in found for ms in term_ms(terms, name))] for name in names]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    rows.append(["**step**", *(f"**{ms:.3f}**" for terms in found for ms in steps_ms(terms.cost()))])
    rows.append(
        ["naive roofline", *(_ms(ms) for example in EXAMPLES for ms in steps_ms(roofline_cost(*example.candidate())))]
    )
    head = ["term", *(f"{example.name} {step}" for example in EXAMPLES for step in ("decode", "prefill"))]
    return _table(head, rows, numbers=len(head) - 1)


def other_terms() -> str:
    """Terms that the three examples lack, each in an engine that has it."""
    rows = []
    for example, names, prompt in OTHERS:
        terms = example.terms()
        rows += [[example.name, name, *map(_ms, term_ms(terms, name, prompt))] for name in names]
    return _table(["engine", "term", "decode", "prefill"], rows, numbers=2)


def kernel_table(family: str) -> str:
    """One line a kernel, GPU and variant: rows fitted, errors, spread, the constants that say most."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in _read(f"{family}.csv"):
        groups.setdefault((row["kernel"], row["gpu"], row["variant"]), []).append(row)
    lines = []
    for (kernel, gpu, variant), rows in groups.items():
        first = rows[0]
        cells = [gpu, variant, _count(first["fitted_to"]), *_errors(first["fit_error"]), first["spread"]]
        if family == "attention":
            cells.insert(0, kernel.replace("_", " "))
        if family == "experts":
            cells.append(first["fitted_to"].rpartition("kernel ")[2])
        lines.append([*cells, _constants(kernel, rows), first["vllm_version"], first["kind"]])
    variant = {"attention": "KV cache", "allreduce": "GPUs"}.get(family, "format")
    head = ["GPU", variant, "rows", "median", "p90", "unseen median", "unseen p90", "spread"]
    head = ["kernel"] * (family == "attention") + head + ["measured as"] * (family == "experts")
    return _table([*head, "constants", "vLLM", "kind"], lines)


def overheads() -> str:
    """Every overhead with its 80 % interval and what it rests on."""
    lines = []
    for row in _read("overheads.csv"):
        value, sd = float(row["value"]), float(row["log_sd"])
        unit = "" if row["unit"] == "1" else f" {row['unit'].replace('us', 'µs')}"
        high = min(value * exp(NORMAL_80 * sd), float(row["most"] or "inf"))
        interval = f"{value * exp(-NORMAL_80 * sd):.3g} to {high:.3g}{unit}"
        rests = row["fitted_to"] if row["kind"] == "fitted" else row["source"]
        lines.append([f"`{row['quantity']}`", f"{value:.4g}{unit}", interval, row["kind"], rests])
    return _table(["overhead", "value", "80 % interval", "kind", "fitted to, or why"], lines)


def overhead_errors() -> str:
    """How far the rows that were fitted are off, and those of a configuration that was left out."""
    fitted = next(row for row in _read("overheads.csv") if row["kind"] == "fitted")
    lines = []
    for part in fitted["fit_error"].split("; "):
        (median, p90), (unseen, unseen_p90) = PAIR.findall(part)
        lines.append([part.split()[0], *(f"{value} %" for value in (median, p90, unseen, unseen_p90))])
    table = _table(["figure", "median", "p90", "left out: median", "left out: p90"], lines, numbers=4)
    where = fitted["fitted_gpus"].replace(" ", ", ")
    return f"{fitted['source']}: {fitted['fitted_to']}, vLLM {fitted['vllm_version']}, on {where}.\n\n{table}"


def correlations() -> str:
    """Pairs whose correlation is at least `NOTABLE` in size, the largest first."""
    rows = [row for row in _read("correlations.csv") if abs(float(row["correlation"])) >= NOTABLE]
    rows.sort(key=lambda row: -abs(float(row["correlation"])))
    lines = [[f"`{row['quantity']}`", f"`{row['with']}`", f"{float(row['correlation']):+.2f}"] for row in rows]
    return _table(["overhead", "with", "correlation"], lines, numbers=1)


def relatives() -> str:
    """Whose constants stand in for whom, why, and how much wider the band is."""
    lines = []
    for row in _read("relatives.csv"):
        kernels = "all" if row["kernel"] == "*" else row["kernel"]
        why = (row["spread"], row["reason"], row["errs"] or "–", row["kind"])
        lines.append([row["gpu"], kernels, row["relative"], *why])
    return _table(["GPU", "kernels", "relative", "added spread", "why this one", "errs", "kind"], lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "worked examples": worked_examples,
    "other terms": other_terms,
    **{family: partial(kernel_table, family) for family in FAMILIES},
    "overheads": overheads,
    "overhead errors": overhead_errors,
    "correlations": correlations,
    "relatives": relatives,
}


def filled(page: str, name: str) -> str:
    """The page with one section made anew; ValueError where its markers do not stand there once."""
    start, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->\n"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"markers of section {name!r} must stand in {PAGE.name} once")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{SECTIONS[name]()}\n\n{end}{rest.partition(end)[2]}"


def draw(folder: Path) -> None:
    """Fit each family to the tables and draw predicted ÷ measured; constants stay as they are."""
    from PIL import Image

    sys.path.insert(0, str(ROOT))
    from tools.kernel_fits.common import residual_plot

    for family, module in FAMILIES.items():
        target = PICTURES / f"{family}.png"
        residual_plot(importlib.import_module(f"tools.kernel_fits.{module}").fit(folder), "", target)
        with Image.open(target) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(target, optimize=True)


def main() -> None:
    """Draw where asked, then fill every section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="kernel tables to draw the residuals from")
    arguments = parser.parse_args()
    if arguments.pictures:
        draw(arguments.pictures)
    page = PAGE.read_text(encoding="utf-8")
    for name in SECTIONS:
        page = filled(page, name)
    PAGE.write_text(page, encoding="utf-8")


def _read(name: str) -> list[Row]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _ms(value: float) -> str:
    return f"{value:.3f}" if value else "–"


def _count(fitted_to: str) -> str:
    """The number of rows that a selection begins with."""
    found = re.match(r"\d+( of \d+)?", fitted_to)
    return re.sub(r"\d+", lambda digits: f"{int(digits[0]):,}", found[0]) if found else "–"


def _errors(fit_error: str) -> list[str]:
    """Median and p90 of the rows fitted, then of shapes or sizes that were left out for the purpose."""
    pairs = [f"{value} %" for pair in PAIR.findall(fit_error) for value in pair]
    return [*pairs, *["–"] * (4 - len(pairs))]


def _constants(kernel: str, rows: list[Row]) -> str:
    values = {row["quantity"]: f"{float(row['value']):.3g}{' µs' * (row['unit'] == 'us')}" for row in rows}
    return ", ".join(f"{label} {values[quantity]}" for quantity, label in SHOWN[kernel].items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table, its last `numbers` columns aligned right."""
    rules = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *rows))


if __name__ == "__main__":
    main()
