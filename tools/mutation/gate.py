"""The gate: which mutants lived, which of them are listed with a reason, and whether that will do.

At least 95 in a hundred mutants of each module die, and each that lives is listed in `survivors.toml` with
its reason: that no test could tell it from the module as it is, or why none does.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.mutation.harness import BROKEN, SURVIVED, Harness, Job, Outcome
from tools.mutation.mutants import Mutant, mutants

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

LEAST_KILLED = 0.95
HERE = Path(__file__).parent
# A mutant that is slower than the module itself by this much runs in circles.
_SLOWER, _GRACE = 10, 5.0
_NOT_COPIED = (".*", "*.egg-info", "build", "dist")


@dataclass(frozen=True)
class SafetyLine:
    """One line that keeps bytes exact or durable, and what a careless change would leave of it."""

    name: str
    module: str
    pattern: str
    replacement: str
    tests: tuple[str, ...]

    def mutant(self, source: str) -> Mutant:
        """Gives the module without it. Raises: LookupError where the pattern is not there exactly once."""
        found = list(re.finditer(self.pattern, source, re.MULTILINE))
        if len(found) != 1:
            raise LookupError(f"{self.name}: {self.pattern!r} is {len(found)} times in {self.module}")
        line = source.count("\n", 0, found[0].start()) + 1
        changed = re.sub(self.pattern, self.replacement, source, flags=re.MULTILINE)
        program = compile(changed, self.module, "exec", dont_inherit=True)
        code = found[0].group().strip()
        return Mutant(self.module, self.name, code, "safety line", line=line, program=program)


@dataclass
class Findings:
    """What the mutants of one module came to."""

    module: str
    outcomes: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def survivors(self) -> list[Mutant]:
        lived = [each.job.subject for each in self.outcomes if each.verdict == SURVIVED]
        return sorted(lived, key=lambda mutant: mutant.line)

    @property
    def killed(self) -> float:
        """The share of mutants that died, of 1."""
        return 1 - len(self.survivors) / len(self.outcomes) if self.outcomes else 1.0


class Gate:
    """Reads the lists of `data` and runs the mutants of the tree `root` against its tests."""

    def __init__(self, root: Path, data: Path = HERE, *, parallel: int = 2) -> None:
        self.root = root
        self.modules: dict[str, tuple[str, ...]] = {
            module: tuple(tests) for module, tests in _read(data / "modules.toml").items()
        }
        self.listed = survivors(data)
        self.safety_lines = [
            SafetyLine(**each | {"tests": tuple(each["tests"])})
            for each in _read(data / "safety.toml").get("line", [])
        ]
        self._harness = Harness(root, parallel)

    def mutants(self, module: str) -> list[Mutant]:
        return list(mutants(self._source(module), module, str(self.root / module)))

    def examine(
        self, module: str, wanted: Callable[[Mutant], bool] | None = None
    ) -> Iterator[Outcome | Findings]:
        """Runs the `wanted` mutants of `module`; gives each outcome as it comes, and the findings last.

        The share that must die is asked of all of them only.
        """
        findings = Findings(module)
        tests = self.modules[module]
        limit, problem = self._unchanged(module, tests)
        if problem:
            findings.problems.append(problem)
            yield findings
            return
        jobs = (
            Job(each, module, tests, each.program, limit)
            for each in self.mutants(module)
            if wanted is None or wanted(each)
        )
        for outcome in self._harness.run(jobs):
            findings.outcomes.append(outcome)
            yield outcome
        if wanted is None and findings.killed < LEAST_KILLED:
            share = f"{findings.killed:.1%} of the mutants die; {LEAST_KILLED:.0%} must"
            findings.problems.append(f"{module}: {share}")
        findings.problems += self._judged(findings)
        yield findings

    def prove(self, lines: Sequence[SafetyLine]) -> list[str]:
        """Runs the tests of each safety line without it; gives what is wrong: a line that nobody misses."""
        problems: list[str] = []
        jobs: list[Job] = []
        limits = {
            where: self._unchanged(*where) for where in sorted({(line.module, line.tests) for line in lines})
        }
        problems += [problem for _, problem in limits.values() if problem]
        for line in lines:
            limit, problem = limits[line.module, line.tests]
            try:
                program = line.mutant(self._source(line.module)).program
            except LookupError as exc:
                problems.append(str(exc))
                continue
            if not problem:
                jobs.append(Job(line, line.module, line.tests, program, limit))
        for outcome in self._harness.run(jobs):
            if outcome.verdict in {SURVIVED, BROKEN}:
                problems.append(f"{outcome.job.subject.name}: {outcome.verdict} without it\n{outcome.output}")
        return problems

    def unlisted(self, findings: Findings) -> list[Mutant]:
        return [each for each in findings.survivors if each not in self.listed]

    def gone(self, findings: Findings) -> list[Mutant]:
        """Gives the listed survivors of the module that are dead now, or no mutants any more."""
        alive = set(findings.survivors)
        return [each for each in self.listed if each.module == findings.module and each not in alive]

    def _source(self, module: str) -> str:
        return (self.root / module).read_text()

    def _unchanged(self, module: str, tests: tuple[str, ...]) -> tuple[float, str | None]:
        """Runs the tests on the module as it is; gives the time limit of a mutant, or what is wrong."""
        program = compile(self._source(module), str(self.root / module), "exec", dont_inherit=True)
        job = Job(None, module, tests, program, 120.0)
        (outcome,) = self._harness.run([job])
        if outcome.verdict != SURVIVED:
            why = "never imported by" if outcome.verdict == BROKEN else "unchanged, yet red in"
            return 0.0, f"{module}: {why} {', '.join(tests)}\n{outcome.output}"
        return outcome.seconds * _SLOWER + _GRACE, None

    def _judged(self, findings: Findings) -> Iterator[str]:
        for outcome in findings.outcomes:
            if outcome.verdict == BROKEN:
                yield f"{outcome.job.subject}: the tests could not be run\n{outcome.output}"
        for mutant in self.unlisted(findings):
            yield f"lives and is not listed: {mutant}"


def survivors(data: Path = HERE) -> dict[Mutant, str]:
    """Gives the listed survivors, each with its reason. Raises: ValueError where one has none."""
    listed = {}
    for each in _read(data / "survivors.toml").get("survivor", []):
        reason = each.pop("reason").strip()
        if not reason:
            raise ValueError(f"a survivor without a reason: {each}")
        listed[Mutant(**each)] = reason
    return listed


def snapshot(tree: Path, target: Path) -> Path:
    """Copies what tests need of `tree`, so that nobody's editing changes what a long run examines."""

    def copied(source: str, destination: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # an editor's, or a test's, gone meanwhile
            shutil.copy2(source, destination)

    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    return Path(shutil.copytree(tree, target / "tree", ignore=ignored, copy_function=copied))


def _read(path: Path) -> Mapping[str, Any]:
    return tomllib.loads(path.read_text()) if path.exists() else {}
