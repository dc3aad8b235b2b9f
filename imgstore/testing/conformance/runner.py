"""Runs a suite without pytest: for a driver's own tool, and to try the suites on planted faults."""

from __future__ import annotations

import unittest
from dataclasses import dataclass, field

from imgstore.testing.conformance._base import Suite


@dataclass(slots=True)
class Report:
    """What became of each case: None where it passed, else the error; `left_out` says why one did not run."""

    outcomes: dict[str, BaseException | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def red(self) -> list[str]:
        """The names of the cases that failed."""
        return [name for name, error in self.outcomes.items() if error is not None]

    def __str__(self) -> str:
        return (
            f"{len(self.outcomes)} cases ran, {len(self.red)} failed, {len(self.left_out)} were left out\n"
            + "".join(f"  {name}: {self.outcomes[name]}\n" for name in self.red)
        )


def run_suite(cls: type[Suite]) -> Report:
    """Runs every case of `cls` in this thread, as pytest would, and goes on after one that fails."""
    report = Report(left_out=dict(cls.left_out))
    for name in cls.cases():
        suite = cls()
        suite.setup_method()
        try:
            getattr(suite, name)()
            report.outcomes[name] = None
        except unittest.SkipTest as exc:
            report.left_out[name] = str(exc)
        except Exception as exc:  # noqa: BLE001  # whatever a faulty driver raises fails its case
            report.outcomes[name] = exc
        finally:
            suite.teardown_method()
    cls.teardown_class()
    return report
