"""docs/faults.md: every row of the matrix, and behind each a test that exists, an issue, or a limit."""

from __future__ import annotations

import ast
import collections
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "faults.md"

SIZES = {"A": 34, "B": 14, "C": 13, "D": 19, "E": 15, "F": 9, "G": 15, "H": 12, "I": 11}
ROWS = [f"{letter}{number}" for letter, size in SIZES.items() for number in range(1, size + 1)]

# Rows of several readers of one transfer, of files, or of other stores than web and memory.
ELSEWHERE = {"A32", "B4", "B10", "B11", "B12", "B14"}
READS = {row for row in ROWS if row[0] in "AB"} - ELSEWHERE
READS |= {"G1", "G3", "G5", "G6", "G7", "G8", "G9", "G12", "I1", "I2", "I11"}

LINE = re.compile(r"\| ([A-I][0-9]+) \| ([^|]+) \| ([^|]+) \|")
TEST = re.compile(r"`((?:unit|conformance|faults|real)/[\w/]+\.py)::(test_\w+)`")
LATER = re.compile(r"issue [0-9]+|later: [a-z ]+")
LIMIT = re.compile(r"\[limits\.md#([a-z-]+)\]\(limits\.md#\1\)")
NAMED = re.compile(r"test_((?:[a-i][0-9]+_)+)")


def rows(text):
    """Gives each line of the table as row and references."""
    lines = [line for line in text.splitlines() if re.match(r"\| [A-Z]+[0-9]", line)]
    found = [LINE.fullmatch(line) for line in lines]
    broken = [line for line, match in zip(lines, found, strict=True) if match is None]
    assert broken == []
    return [(match[1], match[3].split("<br>")) for match in found if match]


@functools.cache
def functions(path):
    """Gives the names of the test functions in a file, read and not run."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def problems(text, limits):
    """Gives what is wrong with the table `text`, beside the page `limits`."""
    found = rows(text)
    times = collections.Counter(row for row, _ in found)
    wrong = [f"row {row} stands there {times[row]} times" for row in ROWS if times[row] != 1]
    wrong += [f"{row} is no row of the matrix" for row in times if row not in ROWS]
    anchors = set(re.findall(r"^## ([a-z-]+)$", limits, re.MULTILINE))
    named = set()
    for row, references in found:
        tested = False
        for reference in references:
            if match := TEST.fullmatch(reference):
                path = ROOT / "tests" / match[1]
                tested = True
                named.add((row, match[1], match[2]))
                if not path.is_file() or match[2] not in functions(path):
                    wrong.append(f"{row}: there is no test {match[1]}::{match[2]}")
            elif match := LIMIT.fullmatch(reference):
                if match[1] not in anchors:
                    wrong.append(f"{row}: limits.md has no {match[1]}")
            elif not LATER.fullmatch(reference):
                wrong.append(f"{row}: {reference!r} is no test, issue or limit")
        if row in READS and not tested:
            wrong.append(f"{row} concerns a single read and has no test")
    return wrong + [f"{row}: {path}::{name} is not in the table" for row, path, name in named_tests() - named]


@functools.cache
def named_tests():
    """Gives the row, path and name of each test that names a row."""
    found = set()
    for path in (ROOT / "tests" / "faults").glob("test_rows_*.py"):
        for name in functions(path):
            match = NAMED.match(name)
            assert match, f"{path.name}::{name} names no row"
            for row in match[1].strip("_").upper().split("_"):
                found.add((row, f"faults/{path.name}", name))
    return found


@pytest.fixture(scope="module")
def table():
    return TABLE.read_text()


@pytest.fixture(scope="module")
def limits():
    return (ROOT / "docs" / "limits.md").read_text()


def test_the_table_holds(table, limits):
    assert len(ROWS) == 142
    assert problems(table, limits) == []


def test_every_limit_has_a_command_and_each_test_in_it_exists(limits):
    sections = re.split(r"^## ", limits, flags=re.MULTILINE)[1:]
    assert 1 <= len(sections) <= 7
    for section in sections:
        commands = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
        assert commands, section
        for path, part in re.findall(r"pytest (\S+) -k (\w+)", "\n".join(commands)):
            assert any(part in name for name in functions(ROOT / path)), (path, part)


BROKEN = {
    "a row is missing": (r"^\| C7 .*\n", "", "row C7 stands there 0 times"),
    "a row stands there twice": (r"^(\| C7 .*\n)", r"\1\1", "row C7 stands there 2 times"),
    "a row is none of the matrix": (r"^\| I11 ", "| I12 ", "I12 is no row"),
    "a test is gone": (r"::test_a1_a_cut_is", "::test_a1_a_cat_is", "there is no test"),
    "a file is gone": (r"faults/test_rows_b\.py", "faults/test_rows_z.py", "there is no test"),
    "a test is left out": (r"<br>`[^`]*::test_a17_[^`]*`", "", "is not in the table"),
    "a limit is gone": (r"limits\.md#netem", "limits.md#nothing", "limits.md has no nothing"),
    "a read is put off": (
        r"^\| A1 \| ([^|]*) \| .* \|$",
        r"| A1 | \1 | issue 6 |",
        "A1 concerns a single read",
    ),
    "a row says nothing": (
        r"^\| F1 \| ([^|]*) \| .* \|$",
        r"| F1 | \1 | soon |",
        "is no test, issue or limit",
    ),
}


@pytest.mark.parametrize("pattern,replacement,complaint", BROKEN.values(), ids=BROKEN)
def test_and_is_seen_to_be_wrong_where_it_is(table, limits, pattern, replacement, complaint):
    altered, count = re.subn(pattern, replacement, table, flags=re.MULTILINE)
    assert count
    assert any(complaint in problem for problem in problems(altered, limits))
