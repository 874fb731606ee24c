"""Good scenarios: what is read, what is filled in, what is written out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import ScenarioError
from planner.scenario import (
    ClosedArrivals,
    GammaArrivals,
    Joint,
    Lognormal,
    RateCard,
    Scenario,
    TraceArrivals,
    dotted_keys,
    json_schema,
)
from planner.specs import Limit

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))
MINIMAL = """\
version: 1
model: llama-3.1-8b
traffic: {peak_qps: 10}
query: {stages: [{name: answer, prompt_tokens: 1000, output_tokens: 100}]}
"""


def from_text(text: str, folder: Path) -> Scenario:
    path = folder / "my-fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return Scenario.load(path)


@pytest.fixture
def minimal(tmp_path: Path) -> Scenario:
    return from_text(MINIMAL, tmp_path)


def test_defaults_are_the_documented_ones(minimal: Scenario) -> None:
    assert minimal.name == "my-fleet"
    assert minimal.model == ("llama-3.1-8b",)
    assert minimal.hardware is None
    engine = minimal.engine
    assert (("auto",), ("auto",)) == (engine.quantization, engine.kv_cache_dtype)
    assert ((1,), (1,), (1,), (False,)) == (
        engine.tensor_parallel_size,
        engine.pipeline_parallel_size,
        engine.data_parallel_size,
        engine.enable_expert_parallel,
    )
    assert engine.max_model_len is engine.max_num_seqs is engine.block_size is engine.gpu_memory_utilization is None
    assert engine.vllm_version is None
    assert minimal.traffic.arrivals == "poisson"
    assert minimal.traffic.day == (1.0,) * 24
    assert minimal.traffic.max_in_flight is minimal.traffic.timeout_s is None
    stage = minimal.query.stages[0]
    assert (stage.calls, stage.samples, stage.turns, stage.shared_prefix) == (1, 1, 1, None)
    assert minimal.query.response_cache is minimal.revenue is None
    fleet = minimal.fleet
    assert (None, ("least_loaded",), 0, None) == (fleet.replicas, fleet.routing, fleet.spare_replicas, fleet.max_gpus)
    assert (fleet.min_replicas, fleet.gpus_per_node, fleet.startup_s) == (1, 8, 300.0)
    prices = minimal.prices
    assert prices.gpu_hour_usd is None
    assert (prices.compute_share, prices.retrieval_usd_per_query) == (1.0, 0.0)
    assert minimal.slo == ()
    assert minimal.demand == "open"
    assert minimal.choices() == {}


def test_the_search_example_is_read_key_by_key() -> None:
    scenario = Scenario.load(Path(__file__).parent.parent / "examples" / "ai-search.yaml")
    assert scenario.choices() == {
        "hardware": ("h100-sxm-80gb", "h200-sxm-141gb"),
        "engine.quantization": ("bf16", "fp8"),
        "engine.tensor_parallel_size": (1, 2, 4, 8),
    }
    stage = scenario.query.stages[0]
    assert isinstance(stage.prompt_tokens, Lognormal)
    assert (stage.prompt_tokens.lognormal.mean, stage.prompt_tokens.lognormal.cv) == (1800, 0.6)
    assert stage.shared_prefix is not None
    assert (stage.shared_prefix.tokens, stage.shared_prefix.groups, stage.shared_prefix.zipf) == (400, 1, 0)
    assert scenario.query.response_cache is not None
    assert scenario.query.response_cache.hit_rate == 0.3
    assert scenario.slo == (Limit("ttft", "p99", 99.0, 1000.0), Limit("tpot", "p99", 99.0, 50.0))
    assert scenario.prices.gpu_hour_usd == RateCard(rate_card="on-demand")
    assert scenario.revenue is not None
    assert scenario.revenue.ads.usd_per_query == 0.0449
    assert sum(scenario.traffic.day) == pytest.approx(17.83)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_survive_a_round_trip(path: Path) -> None:
    scenario = Scenario.load(path)
    written = json.loads(json.dumps(scenario.as_dict()))
    again = Scenario.from_dict(written, scenario.base)
    assert again == scenario
    assert again.as_dict() == scenario.as_dict()


def test_there_are_the_five_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert {"ai-search", "two-stage-search", "moe-vs-dense", "chat-closed-loop", "trace-azure"} <= names


def test_ad_factors_that_were_not_given_stay_out_of_a_round_trip(minimal: Scenario) -> None:
    scenario = minimal.with_values({"revenue": {"ads": {"ecpm_usd": 18, "ads_per_query": 2}}})
    again = Scenario.from_dict(scenario.as_dict())
    assert again.revenue is not None
    assert {"ecpm_usd": 18.0, "ads_per_query": 2.0} == again.revenue.ads.model_dump(exclude_unset=True)
    assert (None, None) == (again.revenue.ads.fill, again.revenue.ads.publisher_share)


ROUND_TRIPS = [
    ("traffic.arrivals", {"gamma": {"burstiness": 0.5}}),
    ("traffic.arrivals", "constant"),
    ("engine.tensor_parallel_size", [1, 2]),
    ("engine.enforce_eager", [True, False]),
    ("engine.vllm_version", "0.24.1"),
    ("query.stages[0].prompt_tokens", {"uniform": [10, 20]}),
    ("query.stages[0].turns", 4),
    ("query.stages[0].prompt_tokens", {"normal": {"mean": 10, "sd": 2, "min": 5, "max": 20}}),
    ("query.stages[0].prompt_tokens", {"histogram": {"file": "a.csv", "column": "n"}}),
    ("slo", {"p99.9_e2e_ms": "<=12.5", "mean_itl_ms": "<=30"}),
    ("fleet.routing", ["random", "round_robin"]),
    ("prices.gpu_hour_usd", 2.5),
    ("revenue", {"ads": {"usd_per_query": 0.04}}),
    ("revenue", {"ads": {"ecpm_usd": 18.0, "ads_per_query": 2.0}}),
    ("revenue", {"ads": {"ecpm_usd": 18.0, "ads_per_query": 2.0, "fill": 0.8, "publisher_share": 0.7}}),
]


@pytest.mark.parametrize(("key", "value"), ROUND_TRIPS, ids=[f"{key}-{value}" for key, value in ROUND_TRIPS])
def test_a_value_is_written_as_it_was_read(key: str, value: Any, minimal: Scenario) -> None:
    scenario = minimal.with_values({key: value})
    written = scenario.as_dict()
    for step in key.replace("[0]", ".0").split("."):
        written = written[int(step) if step.isdigit() else step]
    assert written == value
    assert Scenario.from_dict(scenario.as_dict(), scenario.base) == scenario


# --- YAML ---

SCALARS = [
    ("1e3", 1000.0, "YAML 1.1 would read text"),
    ("40", 40.0, "whole number"),
    ("0.5", 0.5, "fraction"),
    (".5", 0.5, "no leading zero"),
    ("010", 10.0, "not octal"),
    ("+2.5E+1", 25.0, "signs"),
]


@pytest.mark.parametrize(("text", "value", "because"), SCALARS, ids=[row[0] for row in SCALARS])
def test_numbers_are_read_as_a_person_means_them(text: str, value: float, because: str, tmp_path: Path) -> None:
    scenario = from_text(MINIMAL.replace("peak_qps: 10", f"peak_qps: {text}"), tmp_path)
    assert scenario.traffic.peak_qps == value, because


def test_words_that_yaml_would_turn_into_something_else_stay_words(tmp_path: Path) -> None:
    for word in ("no", "on", "2024-01-01", "1:30", "1_000"):
        assert from_text(MINIMAL + f"name: {word}\n", tmp_path).name == word


def test_a_count_may_be_written_with_an_exponent(minimal: Scenario) -> None:
    scenario = minimal.with_values({"traffic.peak_qps": "null", "traffic.arrivals": "{offline: {requests: 1e6}}"})
    assert scenario.as_dict()["traffic"]["arrivals"] == {"offline": {"requests": 1_000_000}}


def test_a_key_without_a_value_is_absent(tmp_path: Path) -> None:
    scenario = from_text(MINIMAL + "fleet:\n  max_gpus:\nprices:\n", tmp_path)
    assert scenario.fleet.max_gpus is None
    assert scenario.prices.gpu_hour_usd is None


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert Scenario.load(path).traffic.peak_qps == 10


# --- service levels ---

SLO = [
    ("p99_ttft_ms", "<=500", Limit("ttft", "p99", 99.0, 500.0)),
    ("p50_tpot_ms", "<= 40", Limit("tpot", "p50", 50.0, 40.0)),
    ("p99.9_e2e_ms", " <=1e4 ", Limit("e2e", "p99.9", 99.9, 10_000.0)),
    ("mean_itl_ms", "<=.5", Limit("itl", "mean", None, 0.5)),
]


@pytest.mark.parametrize(("key", "text", "limit"), SLO, ids=[row[0] for row in SLO])
def test_a_service_level_is_read_into_its_parts(key: str, text: str, limit: Limit, minimal: Scenario) -> None:
    scenario = minimal.with_values({f"slo.{key}": text})
    assert scenario.slo == (limit,)
    assert limit.key == key


# --- changing ---


def test_values_are_set_by_dotted_key_and_read_as_yaml(minimal: Scenario) -> None:
    scenario = minimal.with_values(
        {
            "traffic.peak_qps": "40",
            "query.stages[0].prompt_tokens": "{lognormal: {mean: 900, cv: 0.5}}",
            "hardware": "h100-sxm-80gb",
            "engine.tensor_parallel_size": "[1, 2]",
            "fleet.max_gpus": 16,
        }
    )
    assert scenario.traffic.peak_qps == 40
    assert isinstance(scenario.query.stages[0].prompt_tokens, Lognormal)
    assert scenario.hardware == ("h100-sxm-80gb",)
    assert scenario.engine.tensor_parallel_size == (1, 2)
    assert scenario.fleet.max_gpus == 16
    assert (minimal.traffic.peak_qps, minimal.hardware) == (10, None)
    assert scenario.base == minimal.base


def test_the_last_name_of_a_key_will_do_where_it_is_the_only_one(minimal: Scenario) -> None:
    scenario = minimal.with_values({"peak_qps": "7", "replicas": "3", "max_num_seqs": "[64, 128]"})
    assert (scenario.traffic.peak_qps, scenario.fleet.replicas) == (7, 3)
    assert scenario.engine.max_num_seqs == (64, 128)


def test_setting_below_a_scalar_replaces_it_and_null_removes(minimal: Scenario) -> None:
    scenario = minimal.with_values({"peak_qps": "null", "traffic.arrivals.closed.concurrency": "8"})
    assert scenario.traffic.peak_qps is None
    assert isinstance(scenario.traffic.arrivals, ClosedArrivals)
    assert scenario.traffic.arrivals.closed.concurrency == 8


def test_all_settings_are_made_before_any_is_checked(minimal: Scenario) -> None:
    trace = "{trace: {format: azure}}"
    with pytest.raises(ScenarioError, match="sets its own rate"):
        minimal.with_values({"traffic.arrivals": trace})
    assert minimal.with_values({"traffic.arrivals": trace, "peak_qps": "null"}).demand == "trace"


# --- shapes ---

DEMANDS = [
    ("poisson", "open"),
    ({"gamma": {"burstiness": 2}}, "open"),
    ({"closed": {"concurrency": 4}}, "closed"),
    ({"offline": {"requests": 4}}, "offline"),
    ({"trace": {"format": "mooncake"}}, "trace"),
]


@pytest.mark.parametrize(("arrivals", "demand"), DEMANDS, ids=[row[1] + str(row[0]) for row in DEMANDS])
def test_arrivals_say_what_drives_the_load(arrivals: Any, demand: str, minimal: Scenario) -> None:
    values: dict[str, Any] = {"traffic.arrivals": arrivals}
    if demand != "open":
        values["peak_qps"] = None
    assert minimal.with_values(values).demand == demand


def test_attributes_are_the_keys_of_the_file(minimal: Scenario) -> None:
    gamma = minimal.with_values({"traffic.arrivals": {"gamma": {"burstiness": 0.5}}}).traffic.arrivals
    assert isinstance(gamma, GammaArrivals)
    assert gamma.gamma.burstiness == 0.5
    recorded = minimal.with_values(
        {"peak_qps": None, "traffic.arrivals": {"trace": {"file": "t.csv", "format": "azure", "speedup": 2}}}
    ).traffic.arrivals
    assert isinstance(recorded, TraceArrivals)
    assert (recorded.trace.file, recorded.trace.format, recorded.trace.speedup) == ("t.csv", "azure", 2.0)


def test_with_a_trace_a_stage_needs_only_its_name_and_may_be_absent() -> None:
    head = {"version": 1, "model": "m", "traffic": {"arrivals": {"trace": {"format": "azure"}}}}
    assert Scenario.from_dict(head).query.stages == ()
    assert Scenario.from_dict(head | {"query": {"stages": [{"name": "a"}]}}).query.stages[0].prompt_tokens is None


def test_a_joint_stands_in_the_prompt_and_may_be_repeated_in_the_output(minimal: Scenario) -> None:
    joint = {"joint": {"file": "a.csv", "columns": ["in", "out"]}}
    for output in (None, joint):
        values = {"query.stages[0].prompt_tokens": joint, "query.stages[0].output_tokens": output}
        assert isinstance(minimal.with_values(values).query.stages[0].prompt_tokens, Joint)


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path, minimal: Scenario) -> None:
    assert minimal.base == tmp_path
    assert minimal.resolve("data/a.csv") == tmp_path / "data" / "a.csv"
    assert minimal.resolve("/data/a.csv") == Path("/data/a.csv")
    assert "base" not in minimal.as_dict()


def test_a_scenario_cannot_be_changed_in_place(minimal: Scenario) -> None:
    with pytest.raises(ValueError, match="frozen"):
        minimal.name = "other"


# --- JSON Schema ---


def test_the_json_schema_completes_every_key_and_forbids_others() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert set(schema["required"]) == {"version", "model"}
    for name, section in {"": schema, **schema["$defs"]}.items():
        if section.get("type") == "object":
            assert section["additionalProperties"] is False, name
    tensor_parallel = schema["$defs"]["Engine"]["properties"]["tensor_parallel_size"]["anyOf"]
    assert {"type": "integer", "minimum": 1, "maximum": 1024} in tensor_parallel
    assert [item["type"] for item in tensor_parallel] == ["integer", "array"]


def test_dotted_keys_name_every_place_a_value_may_stand() -> None:
    keys = dotted_keys()
    assert {
        "engine.num_gpu_blocks_override",
        "traffic.arrivals.closed.requests_per_client",
        "query.stages[].prompt_tokens.lognormal.cv",
        "query.response_cache.hit_rate",
        "revenue.ads.publisher_share",
        "prices.gpu_hour_usd.rate_card",
    } <= set(keys)
    assert len(keys) == len(set(keys))
