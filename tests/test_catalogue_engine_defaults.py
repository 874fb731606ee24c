"""What `vllm serve` chooses by itself, by GPU and version."""

import pytest

from planner.catalogue.engine_defaults import engine_defaults, known_versions, nearest_version
from planner.catalogue.hardware import gpu
from planner.errors import ScenarioError

BATCHES = [
    ("b200", "0.32", 16384, 1024, "at least 160 GiB"),
    ("mi300x", "0.32", 16384, 1024, "at least 160 GiB"),
    ("h100", "0.32", 8192, 1024, "at least 70 GiB"),
    ("h200", "0.32.0", 8192, 1024, "141 GiB are fewer than 160"),
    ("rtx-pro-6000", "0.32", 8192, 1024, "memory decides, not the class of card"),
    ("a100-80gb", "0.32", 2048, 256, "80 GiB, but an A100"),
    ("l40s", "0.32", 2048, 256, "below 70 GiB"),
    ("cpu", "0.32", 2048, 128, "the CPU back end"),
    ("b200", "0.27", 8192, 1024, "the 160 GiB step came with 0.28"),
    ("b200", "0.28", 16384, 1024, "the 160 GiB step came with 0.28"),
]


@pytest.mark.parametrize(("name", "version", "tokens", "seqs", "because"), BATCHES)
def test_batch_sizes_follow_memory_and_version(name, version, tokens, seqs, because):
    defaults = engine_defaults(gpu(name), version)
    assert (tokens, seqs) == (defaults.max_num_batched_tokens, defaults.max_num_seqs), because


def test_cpu_ranks_multiply_the_batch_and_gpu_ranks_do_not():
    assert engine_defaults(gpu("cpu"), "0.32", world_size=4).max_num_batched_tokens == 4 * 2048
    assert engine_defaults(gpu("h100"), "0.32", world_size=4).max_num_batched_tokens == 8192


OTHERS = [
    ("0.32", 0.92, True, "as read"),
    ("0.20", 0.92, True, "the first with 0.92"),
    ("0.19", 0.90, True, "logged by a run of 0.19.0"),
    ("0.14", 0.90, True, "asynchronous scheduling became the default"),
    ("0.13", 0.90, False, "still an option"),
    ("0.10.2", 0.90, False, "still an option"),
]


@pytest.mark.parametrize(("version", "utilization", "async_scheduling", "because"), OTHERS)
def test_memory_share_and_async_scheduling_follow_the_version(version, utilization, async_scheduling, because):
    defaults = engine_defaults(gpu("h100"), version)
    assert utilization == defaults.gpu_memory_utilization, because
    assert async_scheduling == defaults.async_scheduling, because
    assert (
        defaults.block_size,
        defaults.enable_prefix_caching,
        defaults.enable_chunked_prefill,
    ) == (16, True, True)


def test_the_cpu_back_end_is_synchronous_with_blocks_of_128():
    defaults = engine_defaults(gpu("cpu"), "0.32")
    assert (defaults.async_scheduling, defaults.block_size) == (False, 128)


NEAREST = [
    ("0.32", "0.32", True, "known"),
    ("0.25.1", "0.25", True, "a patch release of a known minor one"),
    ("0.33", "0.32", False, "newer than known"),
    ("1.0", "0.32", False, "newer than known"),
    ("0.9.2", "0.10", False, "0.9 comes before 0.10, whatever the decimals say"),
    ("0.1", "0.10", False, "older than known"),
]


@pytest.mark.parametrize(("requested", "known", "exact", "because"), NEAREST)
def test_an_unknown_version_takes_the_nearest_and_says_so(requested, known, exact, because):
    assert (known, exact) == nearest_version(requested), because


@pytest.mark.parametrize("bad", ["", "latest", "0", "0.", "v0.32", "0.32.0.1", "-1.2", "0.3e2", "9" * 50 + ".1"])
def test_a_malformed_version_is_refused(bad):
    with pytest.raises(ScenarioError, match=r"^engine\.vllm_version"):
        nearest_version(bad)


def test_versions_are_in_order_and_end_with_the_newest_known():
    versions = known_versions()
    assert versions[-1] == "0.32"
    assert sorted(versions, key=lambda version: int(version.split(".")[1])) == versions


def test_every_argument_has_a_provenance_row_and_guesses_are_told_from_readings():
    rows = engine_defaults(gpu("h100"), "0.32").provenance
    assert {"datasheet"} == {row.kind for row in rows}
    assert "engine.max_num_seqs" in [row.what for row in rows]
    assert len(rows) == 7
    assert {"inherited"} == {row.kind for row in engine_defaults(gpu("h100"), "0.25").provenance}
    unknown = engine_defaults(gpu("h100"), "0.40").provenance
    assert {"inherited"} == {row.kind for row in unknown}
    assert all("0.40" in row.source for row in unknown)
