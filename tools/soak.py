"""What `make soak` runs: every mutant, and a million schedules of faults; writes docs/results.

python tools/soak.py [mutants | schedules]

`mutants --from FILE...` reports earlier runs of `python -m tools.mutation MODULE... --json FILE`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
# A machine that soaks is used for other things meanwhile.
_NICE = ("nice", "-n", "15")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["mutants", "schedules"], help="default: both")
    parser.add_argument("--from", dest="earlier", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--count", type=int, default=1_000_000, help="schedules to play (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    status = 0
    if options.what in {None, "mutants"}:
        status |= mutants(options.earlier, options.jobs)
    if options.what in {None, "schedules"}:
        status |= schedules(options.count, options.jobs)
    return status


def mutants(earlier: list[Path], jobs: int) -> int:
    """Runs the gate, unless told of `earlier` runs, and reports; gives its status."""
    with tempfile.TemporaryDirectory() as folder:
        status = 0
        if not earlier:
            earlier = [Path(folder, "mutants.json")]
            status = subprocess.run(
                [*_NICE, sys.executable, "-m", "tools.mutation", "--jobs", str(jobs), "--json", *earlier],
                cwd=ROOT,
                check=False,
            ).returncode
        parts = [part for each in earlier for part in json.loads(each.read_text())]
    (RESULTS / "mutants.md").write_text(_report(sorted(parts, key=lambda part: part["module"])))
    unlisted = [each for part in parts for each in _alive(part) if "reason" not in each]
    return status or bool(unlisted)


def schedules(count: int, jobs: int) -> int:
    """Plays `count` schedules and keeps what was printed; gives the status."""
    command = [*_NICE, sys.executable, "tools/schedules.py", str(count), "--jobs", str(jobs)]
    run = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    print(run.stdout, flush=True)
    lines = ["# Seeded schedules", "", _when(), "", f"`python tools/schedules.py {count}`:", ""]
    lines += ["```", run.stdout.strip(), "```", ""]
    (RESULTS / "schedules.md").write_text("\n".join(lines))
    return run.returncode


def _report(parts: list[dict[str, Any]]) -> str:
    lines = ["# Mutants", "", _when(), "", "`python tools/soak.py mutants`, by `tools/mutation`:", ""]
    lines += ["| module | mutants | killed | alive |", "|---|---:|---:|---:|"]
    lines += [_row(part["module"], len(part["mutants"]), len(_alive(part))) for part in parts]
    total = sum(len(part["mutants"]) for part in parts)
    alive = sum(len(_alive(part)) for part in parts)
    lines += [_row("all", total, alive), "", "## What lives, and why", ""]
    for part in parts:
        for each in _alive(part):
            nth = f" (#{each['nth']})" if each["nth"] > 1 else ""
            scope = each["scope"] or "module"
            change = f"`{each['code']}`{nth}: {each['change']}"
            lines.append(f"- {part['module']}, {scope}: {change}. {each.get('reason', 'NOT LISTED')}")
    return "\n".join(lines) + "\n"


def _row(name: str, count: int, alive: int) -> str:
    killed = 1 - alive / count if count else 1.0
    return f"| {name} | {count} | {killed:.1%} | {alive} |"


def _alive(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in part["mutants"] if each["verdict"] == "survived"]


def _when() -> str:
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
