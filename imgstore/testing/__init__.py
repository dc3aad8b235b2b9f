"""The public test kit: what a driver author proves a store with."""

from __future__ import annotations

from imgstore.testing.conformance import (
    ExtentSuite,
    LayerSuite,
    ListSuite,
    ReadSuite,
    Report,
    Suite,
    UploadSuite,
    WriteSuite,
    needs,
    run_suite,
)

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
