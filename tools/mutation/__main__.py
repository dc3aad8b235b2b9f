"""`python -m tools.mutation`: runs the gate over all modules or some, and says what it found."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.mutation.gate import HERE, Findings, Gate, snapshot
from tools.mutation.harness import DEAD
from tools.mutation.mutants import Mutant


def main() -> int:
    """Gives the exit status: 0 if enough mutants died and each that lives is listed."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        gate = Gate(snapshot(options.root, Path(folder)), options.data, parallel=options.jobs)
        problems = gate.prove(gate.safety_lines) if not options.modules else []
        modules = [] if options.safety else options.modules or list(gate.modules)
        wanted = _not_killed(options.again) if options.again else None
        results = [_examined(gate, each, wanted) for each in modules]
    for found, _ in results:
        problems += found.problems
    if options.json:
        options.json.write_text(json.dumps([each for _, each in results], indent=1) + "\n")
    total = sum(len(found.outcomes) for found, _ in results)
    alive = sum(len(found.survivors) for found, _ in results)
    print(f"{len(gate.safety_lines)} safety lines, {total} mutants, {alive} alive")
    for problem in problems:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="as in modules.toml; default: all, and the safety lines")
    parser.add_argument("--safety", action="store_true", help="the safety lines alone")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--json", type=Path, help="writes every mutant and its end to this file")
    parser.add_argument("--again", type=Path, help="all but what died by this file of an earlier --json")
    parser.add_argument("--root", type=Path, default=HERE.parent.parent, help="the tree to examine")
    parser.add_argument("--data", type=Path, default=HERE, help="where modules.toml and the other lists are")
    return parser.parse_args()


def _not_killed(earlier: Path) -> Callable[[Mutant], bool]:
    killed = {
        Mutant(part["module"], each["scope"], each["code"], each["change"], each["nth"])
        for part in json.loads(earlier.read_text())
        for each in part["mutants"]
        if each["verdict"] in DEAD
    }
    return lambda mutant: mutant not in killed


def _examined(
    gate: Gate, module: str, wanted: Callable[[Mutant], bool] | None
) -> tuple[Findings, dict[str, Any]]:
    began = time.monotonic()
    mutants: list[dict[str, Any]] = []
    found = Findings(module)
    for each in gate.examine(module, wanted):
        if isinstance(each, Findings):
            found = each
        else:
            mutants.append(_described(each.job.subject, each.verdict))
    seconds = time.monotonic() - began
    print(f"{module}: {len(mutants)} mutants, {found.killed:.1%} killed, {seconds:.0f} s", flush=True)
    for mutant in gate.gone(found):
        print(f"  listed, but gone: {mutant}")
    return found, {"module": module, "seconds": round(seconds, 1), "mutants": mutants}


def _described(mutant: Mutant, verdict: str) -> dict[str, Any]:
    names = ("line", "scope", "code", "change", "nth")
    return {name: getattr(mutant, name) for name in names} | {"verdict": verdict}


if __name__ == "__main__":
    sys.exit(main())
