"""The gate of tools/mutation can fail, and the safety lines are all missed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutation.gate import Gate
from tools.mutation.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
MODULE = """\
def clipped(value, most):
    if value > most:
        return most
    return value


def doubled(value):
    return value * 2
"""
TESTS = """\
from planted import clipped, doubled

def test_it():
    assert [clipped(3, 5), clipped(5, 5), clipped(7, 5)] == [3, 5, 5]
"""
LISTED = """
[[survivor]]
module = "planted.py"
scope = "clipped"
code = "value > most"
change = "GtE for Gt"
reason = "both sides are equal then"

[[survivor]]
module = "planted.py"
scope = "clipped"
code = "value > most"
change = "LtE for Gt"
reason = "it is dead, and only the list does not know"
"""
SAFETY = """
[[line]]
name = "kept"
module = "planted.py"
pattern = 'if value > most:'
replacement = "if False:"
tests = ["test_planted.py"]

[[line]]
name = "missed by nobody"
module = "planted.py"
pattern = 'if value > most:'
replacement = "if value >= most:"
tests = ["test_planted.py"]

[[line]]
name = "gone"
module = "planted.py"
pattern = 'something else'
replacement = ""
tests = ["test_planted.py"]

[[line]]
name = "unclear"
module = "planted.py"
pattern = 'value'
replacement = ""
tests = ["test_planted.py"]
"""


def gate(*arguments):
    """Runs the gate as its user does: without it, a child would be born into a process full of threads."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "tools.mutation", *map(str, arguments)],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture
def planted(tmp_path):
    """A tree with one module, and what the gate says of it."""
    tree, data = tmp_path / "tree", tmp_path / "data"
    tree.mkdir()
    data.mkdir()

    def run(*arguments, modules='"planted.py" = ["test_planted.py"]', **tests):
        (tree / "planted.py").write_text(MODULE)
        (tree / "test_planted.py").write_text(TESTS)
        for name, text in tests.items():
            (tree / f"{name}.py").write_text(text)
        (data / "modules.toml").write_text(modules)
        (data / "survivors.toml").write_text(LISTED)
        (data / "safety.toml").write_text(SAFETY)
        return gate("--root", tree, "--data", data, *arguments)

    return run


@pytest.mark.wide
def test_a_line_that_no_test_looks_at_fails_the_gate(planted):
    ran = planted("planted.py")
    assert ran.returncode == 1
    assert "lives and is not listed: planted.py:8 doubled: value * 2  [Div for Mult]" in ran.stderr
    assert re.search(r"planted.py: \d\d\.\d% of the mutants die; 95% must", ran.stderr)
    assert "[GtE for Gt]" not in ran.stderr + ran.stdout
    assert "listed, but gone: planted.py:0 clipped: value > most  [LtE for Gt]" in ran.stdout


@pytest.mark.wide
def test_tests_that_look_at_every_line_pass_it(planted):
    module = TESTS.replace("import clipped, doubled", "import clipped")
    ran = planted("planted.py", planted="def clipped(a, b):\n    return min(a, b)\n", test_planted=module)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.wide
def test_tests_that_prove_nothing_fail_it(planted):
    ran = planted(
        "planted.py", "other.py",
        modules='"planted.py" = ["test_red.py"]\n"other.py" = ["test_planted.py"]',
        other="VALUE = 1\n", test_red=TESTS.replace("[3, 5, 5]", "[3, 5, 7]"),
    )  # fmt: skip
    assert ran.returncode == 1
    assert "planted.py: unchanged, yet red in test_red.py" in ran.stderr
    assert "other.py: never imported by test_planted.py" in ran.stderr


@pytest.mark.wide
def test_a_safety_line_that_nobody_misses_or_that_is_gone_fails_it(planted):
    ran = planted("--safety")
    assert ran.returncode == 1
    assert "FAILED missed by nobody: survived without it" in ran.stderr
    assert "FAILED gone: 'something else' is 0 times in planted.py" in ran.stderr
    assert "FAILED unclear: 'value' is 5 times in planted.py" in ran.stderr
    assert "kept" not in ran.stderr


@pytest.mark.wide
def test_an_endless_mutant_is_ended_and_what_it_started_too(tmp_path):
    (tmp_path / "planted.py").write_text("")
    (tmp_path / "test_planted.py").write_text("def test_it():\n    import planted\n")
    program = f"""
import pathlib, sys
from tools.mutation.harness import Harness, Job
loop = compile("import subprocess\\nsubprocess.run(['sleep', '60'])", "planted.py", "exec")
good = compile("", "planted.py", "exec")
jobs = [Job(n, "planted.py", ("test_planted.py",), each, 2.0) for n, each in enumerate([loop, good])]
outcomes = Harness(pathlib.Path({str(tmp_path)!r}), 2).run(jobs)
print(sorted((each.job.subject, each.verdict) for each in outcomes))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout == "[(0, 'endless'), (1, 'survived')]\n", ran.stderr


@pytest.mark.wide
@pytest.mark.timeout(300)  # seconds where the machine is idle; fifty runs of tests where it is not
def test_each_safety_line_is_missed():
    ran = gate("--safety")
    assert ran.returncode == 0, ran.stderr


def test_the_safety_lines_are_those_of_the_fault_matrix():
    names = " ".join(line.name for line in Gate(ROOT).safety_lines)
    asked = (
        "If-Match is sent",
        "ETag of the reply",
        "Content-Range is",
        "length on the disk",
        "Content-Length",
    )
    for word in (*asked, "file is synced", "folder is synced", "jitter", "tokens"):
        assert word in names


def test_each_survivor_is_listed_with_its_reason():
    examined = Gate(ROOT)
    assert all(mutant.module in examined.modules for mutant in examined.listed)
    assert all(len(reason) > 20 for reason in examined.listed.values())


def test_the_report_counts_by_what_was_last_said_and_fails_for_what_is_not_listed(tmp_path):
    module = "imgstore/clock.py"
    all_of_it = list(mutants((ROOT / module).read_text(), module))
    names = ("scope", "code", "change", "nth", "line")
    said = [{**{name: getattr(each, name) for name in names}, "verdict": "killed"} for each in all_of_it]
    gone = {**said[0], "code": "what is not there any more"}
    earlier, later = tmp_path / "earlier.json", tmp_path / "later.json"
    doubted = [{**each, "verdict": "survived"} for each in said[:2]]
    earlier.write_text(json.dumps([{"module": module, "mutants": [gone, *doubted, *said[3:]]}]))
    later.write_text(json.dumps([{"module": module, "mutants": said[:1]}]))
    ran = subprocess.run(
        [sys.executable, "tools/soak.py", "mutants", "--to", tmp_path, "--from", earlier, later],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (1, "")
    report = (tmp_path / "mutants.md").read_text()
    assert re.search(r"^20\d\d-\d\d-\d\d, Python 3\.", report, re.MULTILINE)
    assert f"| {module} | {len(all_of_it)} | {1 - 2 / len(all_of_it):.1%} | 2 |" in report
    assert (report.count("NOT LISTED"), report.count("NOT RUN")) == (1, 1)


def changes(source):
    return {(each.code, each.change) for each in mutants(source, "m.py")}


@pytest.mark.parametrize(
    "line, made",
    [
        ("return a < b", {"LtE for Lt", "GtE for Lt", "returns None"}),
        ("return a == b", {"NotEq for Eq", "returns None"}),
        ("a = 0 <= b < 9", {"Lt for LtE (1)", "Gt for LtE (1)", "LtE for Lt (2)", "GtE for Lt (2)",
                            "plus 1", "minus 1", "removed"}),
        ("return a and b", {"Or for And", "without operand 1", "without operand 2", "returns None"}),
        ("return not a", {"without Not", "returns None"}),
        ("a += b", {"Sub for Add", "removed"}),
        ("a.b = b * c", {"Div for Mult", "removed"}),
        ("f(a, b=c)", {"without b=", "removed"}),
        ("a = min(a, b)", {"max for min", "removed"}),
        ("a = b[c:d]", {"without lower bound", "without upper bound", "removed"}),
        ("a = 'text'", {"another text", "removed"}),
        ("a = True", {"False", "removed"}),
        ("raise KeyError(a) from b", {"removed", "without cause", "another error"}),
        ("while a: break", {"negated", "the other jump", "removed"}),
        ("if f(): g()", {"negated", "removed"}),
        ("with a: b()", {"without with", "removed"}),
        ("try: b()\n    finally: c()", {"without finally", "removed"}),
        ("try: b()\n    except A: c()", {"catches nothing", "removed"}),
        ("return", set()),
    ],
)  # fmt: skip
def test_what_is_made_of_a_line(line, made):
    assert {change for _, change in changes(f"def f(a, b, c, d):\n    {line}\n")} == made


@pytest.mark.parametrize(
    "source",
    [
        "import a\nfrom b import c\n",
        '"""A docstring."""\n',
        "def f(a: 'int' = None) -> 'str': ...\n",
        "class A(Protocol):\n    def f(self): return 1\n",
        "class A:\n    def __repr__(self): return 'A'\n",
        "__slots__ = ('a', 'b')\n",
        "A: TypeAlias = 'B | None'\n",
        "if TYPE_CHECKING:\n    a = 1\n",
        "@decorated(1)\ndef f(): ...\n",
        "a = f'only text'\n",
    ],
)
def test_what_no_test_can_see_is_left_alone(source):
    assert changes(source) == set()


def test_messages_are_left_alone_but_not_what_an_error_carries():
    made = changes("def f(a):\n    raise OSError(f'{a + 1} is wrong', key=a, offset=a + 2)\n")
    assert {change for _, change in made} == {
        "removed", "another error", "without key=", "without offset=", "Sub for Add", "plus 1", "minus 1",
    }  # fmt: skip
    assert ("a + 1", "Sub for Add") not in made


def test_the_same_words_twice_are_told_apart():
    twice = [
        each.nth for each in mutants("def f(a):\n    g(a)\n    g(a)\n", "m.py") if each.change == "removed"
    ]
    assert twice == [1, 2]
