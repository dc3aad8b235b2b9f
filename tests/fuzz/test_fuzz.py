"""The coverage-guided fuzzer finds nothing in the readers, and would find what there was.

A minute in CI, where chance is the same each time: a change is not stopped by what was there before. Some
seconds elsewhere, ten minutes each in `make soak`, by another chance. Within 512 MiB of address space.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import in_ci
from tests.fuzz.targets import BAD, TARGETS

pytest.importorskip("atheris", reason="atheris has wheels for x86_64 and Python 3.11 to 3.13 only")

ROOT = Path(__file__).parents[2]
# All targets together: a minute.
SECONDS = 60 // len(TARGETS) if in_ci() else 3
SEED = 1 if in_ci() else 0


def fuzz(target, seconds, keep, seed=0):
    command = [sys.executable, "-m", "tests.fuzz.run", target]
    command += ["--seconds", str(seconds), "--keep", str(keep), "--seed", str(seed)]
    return subprocess.run(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def passes(target, seconds, keep, seed=0):
    run = fuzz(target, seconds, keep, seed)
    assert run.returncode == 0, run.stdout[-4000:]
    assert list(keep.iterdir()) == []
    runs, cover = re.search(r"Done (\d+) runs", run.stdout), re.search(r"INITED cov: (\d+)", run.stdout)
    assert int(runs[1]) > 50 * seconds, run.stdout[-4000:]
    # the corpus was read, by code with instruments in it
    assert int(cover[1]) > 100, run.stdout[-4000:]


@pytest.mark.wide
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzer_finds_nothing(target, tmp_path):
    passes(target, SECONDS, tmp_path, SEED)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzer_finds_nothing_in_ten_minutes(target, tmp_path):
    passes(target, 600, tmp_path)


@pytest.mark.wide
@pytest.mark.parametrize("target,error", [("planted", "KeyError: 'planted'"), ("hoarding", "MemoryError")])
def test_fuzzer_finds_what_was_planted(target, error, tmp_path):
    """One input of 2^32 is found by what the code does with those before it; a gigabyte by the limit."""
    assert target in BAD
    run = fuzz(target, 60, tmp_path, seed=1)
    assert run.returncode != 0
    assert error in run.stdout
    assert len(list(tmp_path.iterdir())) == 1
