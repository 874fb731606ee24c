"""`planner economics`: what it prints, what it takes, what it refuses; the page that is made of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from planner.cli.app import cli
from planner.economics.cases import names, shipped
from planner.economics.cases.sentence import parts_of
from planner.summary.case import answer_sentence, case_text
from planner.summary.layout import WIDTH
from planner.summary.quantities import amount, value_text

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("economics_cases", ROOT / "tools" / "economics_cases.py")
assert SPEC is not None
assert SPEC.loader is not None
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["economics", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("name", names())
def test_every_shipped_case_runs_and_answers_first(name: str) -> None:
    result = run(name)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert "{" not in result.stdout
    assert result.stdout.index("How it is worked out") < result.stdout.index("\nSource")
    assert max(map(len, lines)) <= WIDTH + 4  # steps are indented once more
    assert all(step.id in result.stdout for step in shipped(name).steps)


def test_list_names_every_case_with_title_and_document() -> None:
    result = run("--list")
    assert result.exit_code == 0
    for name in names():
        row = next(line for line in result.stdout.splitlines() if line.split()[0] == name)
        assert shipped(name).title in row
        assert shipped(name).source.document[:20] in row
    assert [case["name"] for case in document("--list")["cases"]] == list(names())


def test_json_has_every_intermediate_value() -> None:
    answer = document("two-stage-search-summarizer")
    values = {
        f"{step['id']}.{item['name']}": item["value"]
        for step in answer["steps"]
        for item in [*step["inputs"], *step["outputs"]]
    }
    assert values["budget.words"] == 14050
    assert values["price.usd_per_query"] == pytest.approx(14050 / 750 * 0.02)
    assert values["cost.after_cache"] == pytest.approx(14050 / 750 * 0.02 * 0.7)
    assert values["cost.cost"] == pytest.approx(0.06556666666666668)
    assert values["budget.fan_out"] == 10
    assert answer["headline"][0] == {"output": "cost.cost", "value": values["cost.cost"], "unit": "USD/query"}
    assert answer["schema_version"] == 1


def test_set_changes_an_input_and_says_so() -> None:
    answer = document("two-stage-search-summarizer", "--set", "budget.fan_out=5", "--set", "cost.cache_hit_rate=0.5")
    assert answer["changed"] == {"budget.fan_out": "5", "cost.cache_hit_rate": "0.5"}
    assert answer["headline"][0]["value"] == pytest.approx((50 + 5 * 1400) / 750 * 0.02 * 0.5 * 0.25)
    text = run("two-stage-search-summarizer", "--set", "budget.fan_out=5").stdout
    assert "With budget.fan_out = 5." in text


def test_a_document_error_is_told_by_how_much_and_never_as_reproduced() -> None:
    text = " ".join(run("gpt3-batch128-server").stdout.split())
    error = text[text.index("printed 3 cents/1000 tokens") :].split(" server.")[0].split(" memory.")[0]
    assert "does not reproduce (9.95x)" in error
    assert ": reproduced" not in error
    billion = " ".join(run("a100-for-ten-days").stdout.split())
    assert "printed 1 billion USD, ours 108,300,000: does not reproduce (9.23x)" in billion


def test_the_optimisation_ladder_shows_the_exact_17_2_per_cent() -> None:
    assert "exactly 17.2 % of its revenue" in " ".join(run("optimisation-ladder").stdout.split())


def test_batching_is_told_as_measured_by_simulation_beside_the_claim() -> None:
    text = " ".join(run("continuous-batching").stdout.split())
    assert "Measured by simulation" in text
    assert "the document claims 10.0 %" in text


def test_a_case_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my-search.yaml"
    path.write_text(tool.OWN, encoding="utf-8")
    result = run(str(path))
    assert result.exit_code == 0, result.stderr
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.OWN in page
    assert result.stdout in page


def test_the_page_is_what_the_tool_makes() -> None:
    """Stale? python tools/economics_cases.py."""
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a CASE or a SCENARIO, or --list"),
        (["jasper-saas", "--list"], "takes neither a case nor --set"),
        (["jasper"], "case (=jasper): no such file, nor a shipped case or example; nearest: jasper-saas"),
        (["zzz"], "planner economics --list names them"),
        ([str(ROOT / "README.md")], "case file"),
        (["jasper-saas", "--seed", "3"], "--seed: is of a scenario"),
        (["jasper-saas", "--set", "sold.samples"], "must be STEP.INPUT=VALUE"),
        (["jasper-saas", "--set", "sold.samples=-1"], "sold.samples (=-1): must be > 0"),
        (["jasper-saas", "--set", "sold.usd_per_word=82 CNY/100000 words"], "give exchange_rates.CNY"),
        (["jasper-saas", "--set", "sold.smaples=2"], "nearest: samples"),
        (["jasper-saas", "--set", "samples=2"], "must be step.input, exchange_rates.CNY or days_per_month"),
        (["jasper-saas", "--set", "sold.samples={a: 1}"], "must be a number, text such as"),
        (["jasper-saas", "--set", "sold.samples=&x 1"], "anchors and aliases"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "steps: 3",
        "version: 1\nsteps: []",
        "steps: [{id: a}]",
        "\x00",
        "a: !!python/object:os.system x",
        "steps: [&a 1, *a]",
    ],
)
def test_a_file_that_is_no_case_is_refused_without_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(text)
    result = run(str(path))
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


# --- words ---


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.06556666, "USD/query", "$0.0656/query"),
        (0.02, "USD/ktoken", "$0.02/1,000 tokens"),
        (14050, "word/query", "14,050 words/query"),
        (1, "gpu", "1 GPU"),
        (44, "gpu", "44 GPUs"),
        (2.1e12, "query/year", "2.1 trillion queries/year"),
        (8.7e10, "USD/year", "$87 billion/year"),
        (124_892_800, "CNY", "124,892,800 CNY"),
        (-20, "USD/user/month", "−$20.00/user/month"),
        (3.15e23, "FLOP", "3.15e+23 FLOP"),
        (591.6, "GB", "592 GB"),
        (35.4, "gpu*s/query", "35.4 GPU·s/query"),
        (688705.2, "gpu*hour", "688,705 GPU·hours"),
        (0.2247, "/year", "0.225/year"),
        (1.5, "day", "1.5 days"),
        (0.3014, "cent/ktoken", "0.301 cents/1,000 tokens"),
        (True, "", "yes"),
        ("llama-2-13b", "", "llama-2-13b"),
        (None, "USD", "–"),
        (10, "", "10"),
    ],
)
def test_a_value_in_words(value: Any, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def test_amounts_have_no_trailing_zeros_and_no_false_ones_removed() -> None:
    assert [amount(value) for value in (0.02, 0.5, 10, 100, 1000, 0.123456, 1.0)] == [
        "0.02",
        "0.5",
        "10",
        "100",
        "1,000",
        "0.123",
        "1",
    ]


def test_an_answer_takes_numbers_or_per_cents() -> None:
    outputs = {"a.cost": (0.0123, "USD/query"), "a.share": (0.172, "")}
    parts = parts_of("{a.cost} is {a.share%}, {a.share}")
    told = [part if isinstance(part, str) else (*outputs[part.path], part.per_cent) for part in parts]
    assert answer_sentence(told) == "$0.0123/query is 17.2 %, 0.172"


def test_text_needs_nothing_but_the_document() -> None:
    """What --json prints is enough to print the text again."""
    answer = document("two-stage-search-summarizer")
    assert case_text(answer) + "\n" == run("two-stage-search-summarizer").stdout
