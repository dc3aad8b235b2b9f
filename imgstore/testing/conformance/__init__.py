"""The suites that prove a store, for pytest or for `run_suite`."""

from __future__ import annotations

from imgstore.testing.conformance._base import Suite, needs
from imgstore.testing.conformance.extent import ExtentSuite
from imgstore.testing.conformance.layer import LayerSuite
from imgstore.testing.conformance.listing import ListSuite
from imgstore.testing.conformance.read import ReadSuite
from imgstore.testing.conformance.runner import Report, run_suite
from imgstore.testing.conformance.upload import UploadSuite
from imgstore.testing.conformance.write import WriteSuite

__all__ = [
    "ExtentSuite",
    "LayerSuite",
    "ListSuite",
    "ReadSuite",
    "Report",
    "Suite",
    "UploadSuite",
    "WriteSuite",
    "needs",
    "run_suite",
]
