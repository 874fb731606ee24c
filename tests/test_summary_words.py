"""Single numbers in words, and lines that stay on the page."""

from __future__ import annotations

import pytest

from planner.summary.layout import WIDTH, bars, columns, paragraph, table
from planner.summary.words import gpu_name, limit_name, milliseconds, number, percent, price, usd, with_limit_names

# --- single numbers ---


@pytest.mark.parametrize(
    ("value", "text", "because"),
    [
        (0.0012, "$0.00120", "three significant digits below a dollar"),
        (0.0437, "$0.0437", "no more digits than that"),
        (0.00999999, "$0.0100", "rounding carries into the next place"),
        (0.0000004321, "$0.000000432", "a small price is never printed as zero"),
        (3.2e-12, "$3.20e-12", "what is smaller still has an exponent"),
        (0.9999, "$1.00", "rounded to a dollar it has cents"),
        (2.985, "$2.98", "cents from one dollar on"),
        (1234.5, "$1,234.50", "thousands are separated"),
        (1234567.8, "$1,234,568", "no cents on large sums"),
        (-0.0021, "−$0.00210", "the sign stands before the dollar"),
        (0.0, "$0", "a true zero"),
        (None, "–", "absent is not zero"),
    ],
)
def test_dollars_keep_the_digits_that_decide(value, text, because):
    assert text == usd(value), because


@pytest.mark.parametrize(
    ("write", "value", "text", "because"),
    [
        (price, 4.245, "$4.245", "a unit price is exact, since it multiplies something"),
        (price, 0.09, "$0.09", "also below a dollar"),
        (price, 2.5, "$2.50", "two decimals where they are exact"),
        (price, 0.157894737, "$0.1579", "four significant digits below a dollar"),
        (number, 7_702_560.0, "7,702,560", "whole numbers are whole"),
        (number, 46.123, "46.1", "three significant digits"),
        (number, 0.3289, "0.329", "also below one"),
        (number, -2.5, "−2.50", "a real minus"),
        (number, 2.5e18, "2.50e+18", "digits that no longer help are not printed"),
        (milliseconds, 812.3, "812 ms", "no decimals from 100 ms on"),
        (milliseconds, 13.02, "13.0 ms", "three significant digits below"),
        (milliseconds, 50.0, "50 ms", "a limit as it was written"),
        (milliseconds, 1076155.4, "1,076,155 ms", "saturated waits stay readable"),
        (milliseconds, None, "–", "absent"),
        (percent, 0.0267, "2.7 %", "one decimal"),
        (percent, 0.9998, "99.98 %", "nearly all is not all"),
        (percent, 0.999961, "> 99.99 %", "however nearly"),
        (percent, 0.00012, "0.012 %", "nearly none is not none"),
        (percent, 1.0, "100 %", "all"),
        (percent, -31.5, "−3,150 %", "a margin far below zero"),
        (limit_name, "p99.9_ttft_ms", "p99.9 TTFT", "any percentile"),
        (limit_name, "mean_itl_ms", "mean ITL", "and the mean"),
        (limit_name, "saturation", "saturation", "what is no limit keeps its words"),
        (gpu_name, "h100-pcie-80gb", "H100 PCIe 80 GB", "as printed on the box"),
        (gpu_name, "rtx-pro-6000-96gb", "RTX PRO 6000 96 GB", "a number in the name is no memory"),
        (gpu_name, "tpu-v4", "TPU v4", "a generation stays small"),
    ],
)
def test_a_value_reads_as_people_write_it(write, value, text, because):
    assert text == write(value), because


@pytest.mark.parametrize(
    ("text", "said", "because"),
    [
        ("p99_ttft_ms 1,031 > 1,000", "p99 TTFT 1,031 > 1,000 ms", "the unit stood in the key"),
        ("misses mean_e2e_ms inf > 8,000", "misses mean E2E unbounded > 8,000 ms", "queries that never finish"),
        ("saturated: more arrives", "saturated: more arrives", "no limit is named"),
    ],
)
def test_limits_within_a_reason_read_as_people_say_them(text, said, because):
    assert said == with_limit_names(text), because


# --- layout ---


def test_a_table_too_wide_wraps_its_widest_column():
    lines = table([["left", "word " * 60, "1"], ["l", "short", "22"]], "<<>")
    assert max(columns(line) for line in lines) <= WIDTH
    assert lines[0].startswith("  left  word word")
    assert lines[0].endswith("   1")


def test_a_cut_is_marked():
    lines = table([["source", "word " * 60]], "<<", most_lines=2)
    assert 2 == len(lines)
    assert lines[1].endswith("word…")


def test_wide_characters_count_twice():
    assert 8 == columns("搜索引擎")
    assert all(columns(line) <= WIDTH for line in paragraph("搜" * 120))


@pytest.mark.parametrize(
    ("values", "line", "because"),
    [
        ([0, 4, 8], "▁▅█", "the largest is full"),
        ([3, 3, 3], "███", "bars start at zero, so an even day is full"),
        ([0, 0], "▁▁", "nothing at all"),
    ],
)
def test_bars_are_shares_of_the_largest(values, line, because):
    assert line == bars(values), because


def test_no_line_ends_between_a_number_and_its_unit():
    """Wherever the line ends: some characters more stand before it each time."""
    for before in range(60, 100, 3):
        lines = paragraph(f"{'x' * before} (the limit is 40.3 %), 12 ms after 3 h of 5 replicas, and so on and on")
        assert not [line for line in lines if line.lstrip().startswith(("%", "ms", "h "))]
        assert " ".join(lines).endswith("(the limit is 40.3 %), 12 ms after 3 h of 5 replicas, and so on and on")
