"""The suites that prove a store, for pytest or for `run_suite`."""

from __future__ import annotations

from imgstore.testing.conformance._base import Suite, needs
from imgstore.testing.conformance.read import ReadSuite
from imgstore.testing.conformance.runner import Report, run_suite

__all__ = ["ReadSuite", "Report", "Suite", "needs", "run_suite"]
