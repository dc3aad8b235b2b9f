"""`python -m benchmarks`: imgstore beside what else there is, and beside its own limits."""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.harness import ROOT, Bench, BrokenRunError, tell

SCENARIOS = (
    "http",
    "parallel",
    "verified",
    "s3",
    "swift",
    "rbd",
    "filesystem",
    "sparse",
    "hashing",
    "random_reads",
    "layers",
    "memory",
    "startup",
)
FOLDER = Path(__file__).parent
_NAMES = f"scenarios to run: {', '.join(SCENARIOS)} (all)"
_ABOUT = (__doc__ or "").partition(": ")[2]
_ROUNDS = 9  # fewer, and the interval of a median is the whole range of what was seen
_UNITS = {"K": 10, "M": 20, "G": 30}


def main() -> int:
    """Runs the scenarios that were asked for; gives the exit status."""
    options = _options(sys.argv[1:])
    # As pip leaves it, which installed what we compare with: start-up is no time to compile in.
    compileall.compile_dir(ROOT / "imgstore", quiet=1)
    found: dict[str, Any] = {}
    for name in options.names or SCENARIOS:
        try:
            found[name] = _run(name, options)
        except BrokenRunError as exc:
            tell(f"benchmarks: {name}: {exc}")
            return 1
    if options.save:
        _save(found)
    print(json.dumps(found, indent=1) if options.json else report.page(found))
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_ABOUT)
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], metavar="NAME", help=_NAMES)
    parser.add_argument("--rounds", type=int, default=15, help="of each comparison (15)")
    parser.add_argument("--size", type=_size, default=1 << 30, help="of the image, such as 128M (1G)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of contenders and of random places")
    parser.add_argument("--disk", type=Path, default=ROOT, help="where the files on disk go (this folder)")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="where tmpfs is (/dev/shm)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--save", action="store_true", help="put them into results.json and RESULTS.md")
    options = parser.parse_args(argv)
    if options.save and options.rounds < _ROUNDS:
        parser.error(f"{options.rounds} rounds prove too little to be saved; take {_ROUNDS} rounds or more")
    return options


def _size(text: str) -> int:
    shift = _UNITS.get(text[-1:].upper(), 0)
    return int(text[:-1] if shift else text) << shift


def _run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    scenario = importlib.import_module(f"benchmarks.{name}")
    load = machine.load()
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.disk) as disk,
        tempfile.TemporaryDirectory(prefix="imgstore-bench-", dir=options.memory) as memory,
    ):
        bench = Bench(options.size, options.rounds, options.seed, Path(disk), Path(memory), scenario=name)
        scenario.run(bench)
    return {
        "when": time.strftime("%Y-%m-%d"),
        "machine": machine.described(),
        "load": load,
        "size": options.size,
        "rounds": options.rounds,
        "seed": options.seed,
        "results": [report.plain(each) for each in bench.results[name]],
    }


def _save(found: dict[str, Any]) -> None:
    """Replaces the results of the scenarios that ran; those of others stay, each with its own machine."""
    kept = FOLDER / "results.json"
    old = json.loads(kept.read_text()) if kept.exists() else {}
    both = {name: found.get(name) or old[name] for name in SCENARIOS if name in found or name in old}
    kept.write_text(f"{json.dumps(both, indent=1)}\n")
    (FOLDER / "RESULTS.md").write_text(report.page(both))


if __name__ == "__main__":
    sys.exit(main())
