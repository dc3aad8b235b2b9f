"""The suites see what they are there to see: each planted fault turns exactly one case red."""

from __future__ import annotations

import pytest

from imgstore.testing import run_suite
from imgstore.testing.bad_drivers import GOOD, PLANTED, proof
from tests.thinning import thinned


def test_there_are_enough():
    assert len(PLANTED) >= 18
    assert len({planted.name for planted in PLANTED}) == len(PLANTED)


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.name)
def test_the_drivers_they_are_made_of_are_green(good):
    report = run_suite(proof(good))
    assert not report.red, report
    assert set(report.left_out) <= {"test_unreachable_place_fails_at_first_use"}


@pytest.mark.parametrize("planted", thinned(PLANTED, 3), ids=lambda planted: planted.name)
def test_planted_fault_is_red_in_its_case_only(planted):
    report = run_suite(proof(planted))
    assert report.red == [planted.case], report
