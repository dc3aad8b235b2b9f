"""The public test kit: what a driver author proves a store with."""

from __future__ import annotations

from imgstore.testing.conformance import ReadSuite, Suite, needs, run_suite

__all__ = ["ReadSuite", "Suite", "needs", "run_suite"]
