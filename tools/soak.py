"""What `make soak` runs: every mutant, a million schedules of faults, all kills; writes docs/results.

python tools/soak.py [mutants | schedules | kills]

`mutants --from FILE...` reports earlier runs of `python -m tools.mutation MODULE... --json FILE`, of the
mutants that there are today; what a later file says of one counts.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.mutation.gate import survivors  # noqa: E402 -- behind the path that makes it importable
from tools.mutation.harness import DEAD  # noqa: E402
from tools.mutation.mutants import Mutant  # noqa: E402
from tools.mutation.mutants import mutants as made  # noqa: E402

NOT_RUN = "not run"
# A machine that soaks is used for other things meanwhile.
_NICE = ("nice", "-n", "15")
_KILLED = """Counted by `strace -c`, killed by `strace --inject=CALL:signal=KILL:when=N` before the call was
made, N = 1, 2, 3... for each call by name. After each kill the name held the old image or the new one, whole;
the change, made again, succeeded; nothing else was left. The one call that may be missing is what the process
waited in when it was to begin."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["mutants", "schedules", "kills"], help="default: all")
    parser.add_argument("--from", dest="earlier", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--count", type=int, default=1_000_000, help="schedules to play (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "results", help="the folder of results")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    status = 0
    if options.what in {None, "mutants"}:
        status |= mutants(options.earlier, options.jobs, options.to)
    if options.what in {None, "schedules"}:
        status |= schedules(options.count, options.jobs, options.to)
    if options.what in {None, "kills"}:
        status |= kills(options.to)
    return status


def mutants(earlier: list[Path], jobs: int, results: Path) -> int:
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
        verdicts = _verdicts(earlier)
    reasons = survivors()
    (results / "mutants.md").write_text(_report(verdicts, reasons))
    return status or int(any(each not in reasons or verdicts[each] == NOT_RUN for each in _alive(verdicts)))


def _verdicts(files: list[Path]) -> dict[Mutant, str]:
    """Gives the end of each mutant of the modules that `files` tell of."""
    told = {}
    for part in (part for each in files for part in json.loads(each.read_text())):
        for each in part["mutants"]:
            verdict = each.pop("verdict")
            told[Mutant(part["module"], **each)] = verdict
    modules = sorted({each.module for each in told})
    today = (each for module in modules for each in made((ROOT / module).read_text(), module))
    return {each: told.get(each, NOT_RUN) for each in today}


def schedules(count: int, jobs: int, results: Path) -> int:
    """Plays `count` schedules and keeps what was printed; gives the status."""
    command = [*_NICE, sys.executable, "tools/schedules.py", str(count), "--jobs", str(jobs)]
    run = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    print(run.stdout, flush=True)
    lines = ["# Seeded schedules", "", _when(), "", f"`python tools/schedules.py {count}`:", ""]
    lines += ["```", run.stdout.strip(), "```", ""]
    (results / "schedules.md").write_text("\n".join(lines))
    return run.returncode


def kills(results: Path) -> int:
    """Kills each change at each of its system calls and keeps the table; gives the status."""
    command = [*_NICE, sys.executable, "-m", "pytest", "-q", "tests/real/test_kills.py"]
    run = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    print(run.stdout, flush=True)
    table = [line for line in run.stdout.splitlines() if line.startswith("|")]
    lines = ["# Kills", "", _when(), "", "`python tools/soak.py kills`, by `tests/real/test_kills.py`:", ""]
    lines += [*table, "", _KILLED, ""]
    (results / "kills.md").write_text("\n".join(lines))
    return run.returncode


def _report(verdicts: dict[Mutant, str], reasons: dict[Mutant, str]) -> str:
    lines = ["# Mutants", "", _when(), "", "`python tools/soak.py mutants`, by `tools/mutation`:", ""]
    lines += ["| module | mutants | killed | alive |", "|---|---:|---:|---:|"]
    alive = sorted(_alive(verdicts), key=lambda each: (each.module, each.line))
    for module in sorted({each.module for each in verdicts}):
        count = sum(each.module == module for each in verdicts)
        lines.append(_row(module, count, sum(each.module == module for each in alive)))
    lines += [_row("all", len(verdicts), len(alive)), "", "## What lives, and why", ""]
    for each in alive:
        nth = f" (#{each.nth})" if each.nth > 1 else ""
        where = f"{each.module}, {each.scope or 'module'}"
        reason = "NOT RUN" if verdicts[each] == NOT_RUN else reasons.get(each, "NOT LISTED")
        lines.append(f"- {where}: `{each.code}`{nth}: {each.change}. {reason}")
    return "\n".join(lines) + "\n"


def _row(name: str, count: int, alive: int) -> str:
    killed = 1 - alive / count if count else 1.0
    return f"| {name} | {count} | {killed:.1%} | {alive} |"


def _alive(verdicts: dict[Mutant, str]) -> list[Mutant]:
    return [each for each, verdict in verdicts.items() if verdict not in DEAD]


def _when() -> str:
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
