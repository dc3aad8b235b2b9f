"""Sizes, rates and times as people write and read them."""

from __future__ import annotations

import pytest

from imgstore.cli.amounts import parse_seconds, parse_size, show_count, show_seconds, show_size, show_time


@pytest.mark.parametrize(
    "text, size",
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1k", 1024),
        ("10M", 10 << 20),
        ("10 MiB", 10 << 20),
        ("10mib", 10 << 20),
        ("10MB", 10_000_000),
        ("1.5G", 3 << 29),
        ("1.5GiB", 3 << 29),
        ("0.5KiB", 512),
        ("2.T", 2 << 40),
        ("3P", 3 << 50),
        (" 7 ", 7),
        ("0.1MB", 100_000),
        ("9" * 30, 10**30 - 1),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size
    assert isinstance(parse_size(text), int)


@pytest.mark.parametrize(
    "text", ["", "M", "10X", "-1", "1e3", "1,5G", "10MM", "nan", "inf", "0x10", "\u0661", "1K2", "+1"]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="a size is a number"):
        parse_size(text)


def test_what_is_negative_says_where_bytes_count_from():
    with pytest.raises(ValueError, match="from 0 up; bytes count from the start of the image"):
        parse_size(" -512 ")
    with pytest.raises(ValueError, match="a time is a number of seconds from 0 up"):
        parse_seconds("-0.5")


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (1_000_000_000.9, "2001-09-09 01:46:40 UTC"),
        (1e18, "1000000000000000000 s after 1970"),
    ],
)
def test_points_in_time(seconds, shown):
    assert show_time(seconds) == shown


@pytest.mark.parametrize("text", ["1.5", "0.3K", "1.00000000001G"])
def test_no_part_of_a_byte(text):
    with pytest.raises(ValueError, match="no whole number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    "text, seconds", [("15", 15), ("0.5", 0.5), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)]
)
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "1e9", "nan", "inf", "1:30"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="a time is a number of seconds"):
        parse_seconds(text)


@pytest.mark.parametrize(
    "count, shown",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (200 << 20, "200.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 50, "5000.0 PiB"),
    ],
)
def test_shown_sizes(count, shown):
    assert show_size(count) == shown


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (9, "9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599, "59 min 59 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_shown_times(seconds, shown):
    assert show_seconds(seconds) == shown


def test_shown_counts():
    assert [show_count(each, "resume") for each in (0, 1, 2)] == ["0 resumes", "1 resume", "2 resumes"]
