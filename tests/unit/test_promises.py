"""The ledger of promises: what it prints, what it refuses, and that no promise is forgotten."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.promises import ELSEWHERE, PROMISES, Figure, Ledger, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "promises.md"

MEASURED = "| bytes sent, of the size | **1.01** | 1.02 | `unit/a.py::test_b`<br>`unit/c.py::test_d` |"


def report(nodeid, *measured, when="teardown", failed=False):
    properties = [("promise", list(each)) for each in measured]
    return SimpleNamespace(nodeid=nodeid, when=when, failed=failed, user_properties=properties)


def test_a_figure_beyond_its_bound_fails(promise):
    with pytest.raises(AssertionError, match=r"P3: bytes sent: 1\.5, and at most 1\.02"):
        promise("P3", "bytes sent", 1.5, 1.02)


def test_the_worst_counts_and_counts_are_summed():
    ledger = Ledger()
    for nodeid, figure in (("tests/unit/a.py::test_b[1]", 1.0), ("tests/unit/c.py::test_d", 1.01)):
        ledger.pytest_runtest_logreport(report(nodeid, ("P3", "bytes sent, of the size", figure, 1.02)))
        ledger.pytest_runtest_logreport(report(nodeid, ("P13", "kills", 40, None)))
    assert ledger.figures["P13", "kills"] == Figure(80, None, {"unit/a.py::test_b", "unit/c.py::test_d"})
    assert f"| P3 | {PROMISES['P3']} {MEASURED}" in ledger.lines()


@pytest.mark.parametrize("wrong", [{"when": "call"}, {"failed": True}])
def test_only_a_test_that_is_over_and_passed_is_told_of(wrong):
    ledger = Ledger()
    ledger.pytest_runtest_logreport(report("tests/unit/a.py::test_b", ("P3", "bytes", 1, 2), **wrong))
    assert ledger.figures == {}


def test_every_promise_has_a_line(tmp_path):
    write(tmp_path / "page.md", Ledger())
    text = (tmp_path / "page.md").read_text()
    assert re.findall(r"^\| (P\d+) ", text, re.MULTILINE) == list(PROMISES)


def test_p20_the_page_measures_every_promise_but_those_it_says():
    missing = re.findall(r"^\| (P\d+) .*not measured", PAGE.read_text(), re.MULTILINE)
    assert missing == []
    assert set(re.findall(r"^\| (P\d+) ", PAGE.read_text(), re.MULTILINE)) == set(PROMISES)
    for test in re.findall(r"`((?:unit|faults|real|conformance)/[\w/]+\.py)::(\w+)`", PAGE.read_text()):
        path, name = test
        assert f"def {name}(" in (PAGE.parents[1] / "tests" / path).read_text(), test
    assert set(ELSEWHERE) <= set(PROMISES)
