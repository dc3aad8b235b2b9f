"""Whatever the fuzzer found worth keeping, on every Python and without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_met_as_promised(target):
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) > 10
    for each in inputs:
        TARGETS[target](each.read_bytes())
