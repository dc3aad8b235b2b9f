"""Files of up to a million chunks, and those made to cost: each in bounded time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.large import CASES, LIMIT

ROOT = Path(__file__).parents[2]
SECONDS = 60  # the slowest takes a fifth of it on an idle core
SPARE = 24  # MiB beside the digests: what the parsers and the allocator keep, and the locations


@pytest.mark.wide
@pytest.mark.parametrize("case", CASES)
def test_large_file_costs_what_its_digests_do(case):
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.large", case],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = re.fullmatch(r"([0-9.]+) (\d+) (.*)\n", run.stdout)
    if (count := re.search(r"of (\d+) chunks", case)) is not None:
        assert told[3] == f"{count[1]} chunks"
        digests = int(count[1]) * 32 >> 20
    else:
        assert told[3].startswith("ManifestError: ")
        digests = LIMIT >> 21  # half at most of what is read are digests
    assert int(told[2]) < digests * 9 // 8 + SPARE
    assert float(told[1]) < SECONDS
