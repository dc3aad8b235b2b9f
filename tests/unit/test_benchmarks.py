"""The benchmarks' own arithmetic: rounds, ratios, verdicts, pages. Nothing here is timed."""

import itertools
import json
import os
import random

import pytest

from benchmarks import __main__ as command
from benchmarks import images, ratios, report
from benchmarks.harness import Bench, Comparison, Contender, Cost, Figure
from benchmarks.ratios import Ratio, interval, paired


def test_ratios_are_of_the_same_round():
    slow_rounds = [1.0, 9.0, 1.0, 5.0, 2.0, 30.0, 1.0, 1.0, 4.0]
    ratio = paired([each * 0.5 for each in slow_rounds], slow_rounds)
    assert ratio == Ratio(0.5, 0.5, 0.5)


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no round"):
        interval([])


def test_the_interval_is_that_of_the_median():
    drawn = random.Random(4)
    seen = [drawn.gauss(0.8, 0.1) for _ in range(15)]
    found = interval(seen)
    assert found.low < found.median < found.high
    assert {found.low, found.median, found.high} <= set(seen)
    # for 15 values the 4th and the 12th are the order statistics of a 96.5 % interval of the median
    ordered = sorted(seen)
    assert ordered[2] <= found.low <= ordered[4]
    assert ordered[10] <= found.high <= ordered[12]


def test_the_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(ratios, "RESAMPLES", 1000)
    drawn = random.Random(5)
    trials = [interval([drawn.gauss(1.0, 0.2) for _ in range(11)], seed=each) for each in range(60)]
    held = sum(each.low <= 1.0 <= each.high for each in trials)
    assert 52 <= held <= 60


def test_one_seed_gives_one_interval():
    seen = [0.7, 1.3, 0.9, 1.1, 0.8, 1.6, 0.75, 1.2, 0.95, 1.05]
    assert interval(seen, seed=3) == interval(seen, seed=3)


@pytest.mark.parametrize(
    "low, high, limit, verdict",
    [
        (0.8, 0.99, 1.0, "ahead"),
        (0.8, 1.0, 1.0, "level"),
        (1.0, 1.2, 1.0, "level"),
        (1.01, 1.2, 1.0, "behind"),
        (1.01, 1.19, 1.2, "ahead"),
        (1.1, 1.3, 1.2, "level"),
        (1.21, 1.3, 1.2, "behind"),
    ],
)
def test_verdicts(low, high, limit, verdict):
    assert Ratio(1.0, low, high).verdict(limit) == verdict


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: None)
    return Bench(1 << 20, 9, 1, tmp_path, tmp_path, scenario="pairs")


def test_every_contender_runs_once_a_round_and_is_checked(bench, capsys):
    log = []
    contenders = [Contender(name, lambda name=name: log.append(name) or Cost(1.0, 1.0)) for name in "abc"]
    found = bench.compare("x", "", contenders, prepare=lambda: log.append("<"), check=lambda: log.append(">"))
    runs = [log[at : at + 3] for at in range(0, len(log), 3)]
    assert all((before, after) == ("<", ">") for before, _, after in runs)
    rounds = [{name for _, name, _ in runs[at : at + 3]} for at in range(0, len(runs), 3)]
    assert rounds == [{"a", "b", "c"}] * 10
    assert len({tuple(name for _, name, _ in runs[at : at + 3]) for at in range(0, len(runs), 3)}) > 1
    assert {name: len(costs) for name, costs in found.costs.items()} == {"a": 9, "b": 9, "c": 9}
    assert bench.results == {"pairs": [found]}


def test_the_round_that_fills_caches_counts_for_nothing(bench):
    walls = itertools.count(100.0, -10.0)
    found = bench.compare("x", "", [Contender("a", lambda: Cost(next(walls), 0.0))])
    assert [each.wall for each in found.costs["a"]] == [90.0 - 10 * each for each in range(9)]


def test_what_fails_its_check_ends_the_comparison(bench):
    def check():
        raise AssertionError("another image")

    with pytest.raises(AssertionError, match="another image"):
        bench.compare("x", "", [Contender("a", lambda: Cost(1.0, 1.0))], check=check)
    assert bench.results == {}


COMPARISON = Comparison(
    "libraries",
    "One GET.",
    [Contender("ours", Cost), Contender("curl", Cost), Contender("bare loop", Cost, limit=1.2)],
    {
        "ours": [Cost(1.0, 0.5)] * 9,
        "curl": [Cost(2.0, 1.0)] * 9,
        "bare loop": [Cost(0.5, 0.5)] * 9,
    },
)


def test_a_comparison_is_told_with_all_its_rounds():
    ours, curl, bare = report.plain(COMPARISON)["contenders"]
    assert (ours["wall"], ours["cpu"], "ratio" in ours) == ([1.0] * 9, [0.5] * 9, False)
    assert (curl["ratio"], curl["cpu_ratio"], curl["verdict"]) == ([0.5] * 3, [0.5] * 3, "ahead")
    assert (bare["ratio"], bare["limit"], bare["verdict"]) == ([2.0] * 3, 1.2, "behind")


def test_the_table_tells_the_ratio_first():
    lines = report.table([report.plain(COMPARISON)]).splitlines()
    assert lines[0] == "**libraries.** One GET."
    assert lines[-3:] == [
        "| ours | | | | 1.000 | 0.500 | |",
        "| curl | **0.50** | 0.50 to 0.50 | ahead | 2.000 | 1.000 | 0.50 |",
        "| bare loop | **2.00** | 2.00 to 2.00 | behind of 1.2 | 0.500 | 0.500 | 1.00 |",
    ]


@pytest.mark.parametrize(
    "values, limit, end",
    [
        ([1.0, 5.0, 90.0], 5.0, "| **5.00** | 1.00 | 90.00 | 5 | met |"),
        ([1.0, 5.1, 90.0], 5.0, "| **5.10** | 1.00 | 90.00 | 5 | **missed** |"),
        ([1.0], None, "| **1.00** | 1.00 | 1.00 |  |  |"),
    ],
)
def test_a_figure_meets_its_limit_by_its_median(values, limit, end):
    row = report.table([report.plain(Figure("layers", "Added.", "us", values, limit))]).splitlines()[2]
    assert row == f"| layers | us {end}"


RAN = {
    "when": "2026-01-31",
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "memory": "24 GiB",
        "kernel": "6.1",
        "system": "Debian",
        "python": "3.11",
        "commit": "abc1234",
        "versions": {"curl": "7"},
    },
    "load": 0.25,
    "size": 1 << 30,
    "rounds": 9,
    "seed": 1,
    "results": [report.plain(COMPARISON), report.plain(Figure("layers", "Added.", "us", [1.0], 5.0))],
}


def test_the_page_describes_the_machine():
    page = report.page({"http": RAN})
    assert "## http" in page
    assert "2026-01-31, commit abc1234; images of 1024 MiB, 9 rounds, seed 1; load 0.25 before." in page
    assert "A CPU, 2 cores, 24 GiB, Debian, 6.1, Python 3.11." in page
    assert page.index("| curl |") < page.index("| layers |")


def test_saved_results_of_other_scenarios_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    command._save({"startup": RAN, "http": RAN})
    command._save({"startup": {**RAN, "when": "2026-02-01"}})
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [(name, each["when"]) for name, each in kept.items()] == [
        ("http", "2026-01-31"),
        ("startup", "2026-02-01"),
    ]
    assert (tmp_path / "RESULTS.md").read_text() == report.page(kept)


def test_too_few_rounds_are_not_saved(capsys):
    with pytest.raises(SystemExit):
        command._options(["startup", "--rounds", "8", "--save"])
    assert "9 rounds" in capsys.readouterr().err
    assert command._options(["startup", "--rounds", "8"]).rounds == 8


@pytest.mark.parametrize(
    "text, size", [("128M", 128 << 20), ("1g", 1 << 30), ("64K", 64 << 10), ("512", 512)]
)
def test_sizes(text, size):
    assert command._options(["--size", text]).size == size


def test_content_is_the_same_whether_zeros_are_holes_or_written(tmp_path):
    thin, thick = tmp_path / "thin", tmp_path / "thick"
    expected = images.sparse(thin, 8 << 20, 2 << 20, seed=1)
    thick.write_bytes(thin.read_bytes())
    assert images.content(thick) == images.content(thin) == expected
    assert images.allocated(thin) < images.allocated(thick)
    with open(thick, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert images.content(thick) != expected
    os.truncate(thin, 9 << 20)
    assert images.content(thin) != expected


def test_content_tells_where_the_data_is(tmp_path):
    for name, place in (("here", 1), ("there", 2)):
        with open(tmp_path / name, "wb") as file:
            file.seek(place << 20)
            file.write(b"data" * 1024)
            file.truncate(4 << 20)
    assert images.content(tmp_path / "here") != images.content(tmp_path / "there")
