"""What a user waits before anything happens."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import Bench, program
from benchmarks.programs import IMGSTORE

_IMPORT = "import time; began = time.perf_counter(); import imgstore; print(time.perf_counter() - began)"


def run(bench: Bench) -> None:
    imports, helps = [], []
    for number in range(bench.rounds + 1):
        told = subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True)
        helped = program([*IMGSTORE, "--help"])
        if number:  # the first writes what the next ones find compiled
            imports.append(float(told.stdout) * 1000)
            helps.append(helped.wall * 1000)
    bench.figure("import imgstore", "In a fresh interpreter.", "ms", imports, 50.0)
    bench.figure(
        "imgstore --help", "From start to end, the interpreter's own start included.", "ms", helps, 200.0
    )
