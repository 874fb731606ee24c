"""GPUs of the catalogue: every promised name, aliases, and published figures kept apart from assumed ones."""

import pytest

from planner.catalogue.hardware import gpu, gpu_names, gpu_provenance, hardware_table
from planner.errors import UnknownNameError
from planner.units import GIB

PROMISED = [
    "v100-sxm-32gb",
    "a10g-24gb",
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "l4-24gb",
    "l40s-48gb",
    "rtx-4090-24gb",
    "rtx-pro-6000-96gb",
    "h100-pcie-80gb",
    "h100-sxm-80gb",
    "h200-sxm-141gb",
    "b200-sxm-180gb",
    "b300-sxm-288gb",
    "gb200",
    "mi300x-192gb",
    "mi325x-256gb",
    "mi355x-288gb",
    "tpu-v4",
    "cpu",
]


def test_every_promised_name_is_there():
    assert set(PROMISED) <= set(gpu_names())


FIGURES = [
    ("h100-sxm-80gb", "memory_bytes", 80 * GIB, "datasheet"),
    ("h100-sxm-80gb", "memory_bandwidth", 3.35e12, "datasheet"),
    ("h100-sxm-80gb", "bf16_flops", 989e12, "dense, not the sparse 1979"),
    ("h100-sxm-80gb", "fp8_flops", 1978e12, "dense"),
    ("h100-sxm-80gb", "link_bandwidth", 450e9, "one direction of NVLink's 900 GB/s"),
    ("h100-pcie-80gb", "bf16_flops", 756.5e12, "the PCIe form is another GPU"),
    ("l40s-48gb", "fp8_flops", 733e12, "dense; 1466 is sparse"),
    ("a100-sxm-40gb", "memory_bandwidth", 1.555e12, "the 80 GB card has 2.039"),
    ("b200-sxm-180gb", "fp4_flops", 9000e12, "dense"),
    ("b300-sxm-288gb", "int8_flops", 153.5e12, "Blackwell Ultra gave up int8"),
    ("v100-sxm-32gb", "bf16_flops", 125e12, "its fp16 rate"),
    ("mi300x-192gb", "fp8_flops", 2615e12, "dense"),
    ("mi355x-288gb", "fp4_flops", 10066e12, "dense"),
    ("tpu-v4", "bf16_flops", 275e12, "per chip"),
    ("gb200", "gpus_per_node", 4, "a compute tray"),
]


@pytest.mark.parametrize(("name", "figure", "value", "because"), FIGURES)
def test_a_figure_is_the_published_one(name, figure, value, because):
    assert value == getattr(gpu(name), figure), because


ABSENT = [
    ("a100-sxm-80gb", "fp8_flops", "Ampere has no fp8"),
    ("h100-sxm-80gb", "fp4_flops", "Hopper has no fp4"),
    ("v100-sxm-32gb", "int8_flops", "no int8 tensor cores"),
    ("b60-24gb", "fp8_flops", "falls back on bf16"),
    ("a10g-24gb", "power_w", "not in the sources"),
]


@pytest.mark.parametrize(("name", "figure", "because"), ABSENT)
def test_an_unpublished_figure_is_none_never_zero(name, figure, because):
    assert getattr(gpu(name), figure) is None, because


@pytest.mark.parametrize("name", gpu_names())
def test_no_figure_is_zero_or_negative(name):
    figures = [value for value in vars(gpu(name)).values() if isinstance(value, int | float)]
    assert len(figures) >= 5
    assert all(value > 0 for value in figures)


ALIASES = [
    ("h100", "h100-sxm-80gb"),
    ("h100-sxm", "h100-sxm-80gb"),
    ("H100-SXM-80GB", "h100-sxm-80gb"),
    ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
    ("h100-pcie", "h100-pcie-80gb"),
    ("h200", "h200-sxm-141gb"),
    ("b200", "b200-sxm-180gb"),
    ("l4", "l4-24gb"),
    ("a100-80gb", "a100-sxm-80gb"),
    ("mi300x", "mi300x-192gb"),
]


@pytest.mark.parametrize(("alias", "name"), ALIASES)
def test_an_alias_finds_the_gpu(alias, name):
    assert name == gpu(alias).name


def test_no_alias_means_two_gpus():
    table = hardware_table()
    names = [*table["name"], *(alias for cell in table["aliases"].dropna() for alias in cell.split(";"))]
    assert sorted(set(names)) == sorted(names)


UNKNOWN = [
    ("a100", "a100-sxm-40gb, a100-sxm-80gb", "two memory sizes: the name alone does not choose"),
    ("h100-sxm-90gb", "h100-sxm-80gb", "nearest"),
    ("h100-nvl", "h100-pcie-80gb, h100-sxm-80gb", "another form, whose figures are not in the sources"),
]


@pytest.mark.parametrize(("name", "offered", "because"), UNKNOWN)
def test_an_unknown_gpu_offers_the_nearest_and_takes_none(name, offered, because):
    with pytest.raises(UnknownNameError) as refused:
        gpu(name)
    assert offered in str(refused.value.nearest), because


def test_a_figure_is_published_or_assumed_but_not_both():
    table = hardware_table()
    assumable = [column for column in table if column.endswith("_assumed")]
    assert len(assumable) == 6
    for column in assumable:
        both = table[column].notna() & table[column.removesuffix("_assumed")].notna()
        assert not both.any(), column


def test_provenance_tells_datasheet_from_assumption():
    h100 = gpu_provenance(gpu("h100"))
    assert [row.kind for row in h100] == ["datasheet"]
    host = gpu_provenance(gpu("cpu"))
    assert {"assumed"} == {row.kind for row in host}
    assert "hardware.cpu.memory_bytes" in [row.what for row in host]


def test_every_row_names_source_and_date():
    table = hardware_table()
    assert table["source"].notna().all()
    assert table["date"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
