from __future__ import annotations

import hashlib

import pytest

from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    DigestMismatchError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    StalledError,
    TransientError,
    TruncatedError,
    UnpinnableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.layers._resume_plan import Compare, Finish, Open, Prove, Raise, Read, ResumePlan, Skip
from imgstore.layers._stall import StallMeter
from imgstore.model import ANY, ObjectInfo
from imgstore.retry import Budget, Pause, TokenBucket

SIZE = 1000
LOST = ConnectionLostError("lost", request_id="r-1")


def info(size=SIZE, version="v1", **digests):
    return ObjectInfo("image", size, version, digests=digests)


def plan(start=0, stop=None, version=None, *, attempts=8, skip_limit=1 << 30, proof_limit=2.0, meter=None):
    return ResumePlan(
        start,
        stop,
        version,
        budget=Budget(attempts, TokenBucket()),
        meter=meter or StallMeter(15, 16384),
        skip_limit=skip_limit,
        proof_limit=proof_limit,
    )


def opened(made, reply=None, lead=0):
    assert isinstance(made.action, Open)
    assert made.opened(reply or info(), lead, 0.0) is None
    return made


def broken_at(made, offset, error=LOST):
    """Delivers up to `offset`, fails, and is past the pause."""
    if offset > made.at:
        assert made.received(offset - made.at, 0.0) is None
    made.failed(error, 0.0)
    assert isinstance(made.action, Pause)
    made.paused(0.1)
    return made


def error_of(made):
    assert isinstance(made.action, Raise)
    return made.action.error


def test_a_read_without_faults():
    made = plan(10, 110)
    assert made.action == Open(10, None)
    opened(made)
    assert made.action == Read(100)
    assert (made.at, made.end, made.attempts) == (10, 110, 1)
    assert made.received(60, 0.0) is None
    assert made.action == Read(40)
    assert made.received(40, 0.0) is None
    assert made.action == Finish()
    assert made.at == 110


def test_a_range_is_clipped_at_the_end_of_the_image():
    assert opened(plan(900, 5000)).end == SIZE


def test_an_empty_image_is_finished_at_once():
    assert opened(plan(), info(0)).action == Finish()


def test_the_first_version_served_is_pinned():
    made = broken_at(opened(plan()), 400)
    assert made.action == Open(400, "v1")
    assert made.attempts == 2


def test_the_version_asked_for_stays_pinned():
    made = broken_at(opened(plan(version="v1")), 1)
    assert made.action == Open(1, "v1")


def test_a_failure_before_the_first_reply_is_tried_again_from_the_start():
    made = plan(7, 20, "v1")
    made.failed(LOST, 0.0)
    assert made.action == Pause(0.0, 0.2)
    made.paused(0.1)
    assert made.action == Open(7, "v1")


def test_any_version_is_spliced_by_position():
    made = broken_at(opened(plan(version=ANY), info(version=None)), 400)
    assert made.action == Open(400, ANY)
    opened(made, info(version="v2"))
    assert made.action == Read(600)


def test_another_version_on_reopening_is_an_error():
    made = broken_at(opened(plan()), 400)
    error = made.opened(info(version="v2"), 0, 0.0)
    assert isinstance(error, VersionChangedError)
    assert str(error) == "the store changed the image's version in mid-read"
    made.failed(error, 0.0)
    assert error_of(made) is error
    assert error.__cause__ is None
    assert (error.offset, error.attempts) == (400, 2)


@pytest.mark.parametrize("version", [None, ANY, "v1"])
def test_another_size_on_reopening_is_an_error(version):
    served = "v1" if version == "v1" else None
    made = broken_at(opened(plan(version=version), info(version=served)), 400)
    error = made.opened(info(SIZE + 1, served), 0, 0.0)
    assert isinstance(error, VersionChangedError)
    assert "1000 to 1001" in str(error)


def test_another_digest_on_reopening_is_an_error():
    made = broken_at(opened(plan(), info(sha256="aa", md5="bb")), 400)
    error = made.opened(info(sha256="ab"), 0, 0.0)
    assert isinstance(error, VersionChangedError)
    assert str(error) == "the image's digest changed in mid-read"


def test_a_digest_more_or_less_on_reopening_is_none():
    made = broken_at(opened(plan(), info(sha256="aa")), 400)
    opened(made, info(sha512="cc"))
    assert made.action == Read(600)


def test_not_found_on_reopening_is_final_and_says_where():
    made = broken_at(opened(plan()), 400)
    gone = NotFoundError("gone")
    made.failed(gone, 0.0)
    assert error_of(made) is gone
    assert gone.offset == 400


def test_a_permanent_error_at_first_is_final():
    made = plan()
    denied = PermissionDeniedError("no")
    made.failed(denied, 0.0)
    assert error_of(made) is denied
    assert (denied.offset, denied.attempts) == (0, 1)


def test_a_permanent_error_is_final_whatever_it_says_of_itself():
    made = plan()
    denied = PermissionDeniedError("no", retryable=True)
    made.failed(denied, 0.0)
    assert error_of(made) is denied


def test_an_unsatisfiable_range_at_first_stays_what_it_is():
    made = plan(5000)
    made.failed(RangeNotSatisfiableError("behind"), 0.0)
    assert isinstance(error_of(made), RangeNotSatisfiableError)


def test_an_unsatisfiable_range_on_reopening_is_a_change():
    made = broken_at(opened(plan()), 400)
    cause = RangeNotSatisfiableError("behind")
    made.failed(cause, 0.0)
    assert isinstance(error_of(made), VersionChangedError)
    assert error_of(made).__cause__ is cause


def test_a_transient_error_that_cannot_be_retried_is_final():
    made = opened(plan(), info(None, None))
    made.received(10, 0.0)
    unproven = TruncatedError("no proof of the end", retryable=False)
    made.failed(unproven, 0.0)
    assert error_of(made) is unproven


@pytest.mark.parametrize(
    "last, final",
    [
        (LOST, RetriesExhaustedError),
        (TruncatedError("short"), RetriesExhaustedError),
        (BadReplyError("liar"), ProtocolViolationError),
        (TransientError("x"), RetriesExhaustedError),
    ],
)
def test_when_no_try_is_left(last, final):
    made = opened(plan(attempts=2))
    made.received(10, 0.0)
    broken_at(made, 10)
    made.failed(last, 0.0)
    error = error_of(made)
    assert type(error) is final
    assert error.__cause__ is last
    assert (error.offset, error.attempts) == (10, 2)
    assert str(last) in str(error)
    assert "2 tries in a row" in str(error)


def test_the_providers_request_id_is_carried():
    made = plan(attempts=1)
    made.failed(LOST, 0.0)
    assert error_of(made).request_id == "r-1"


def test_truncation_of_an_image_of_unknown_size_stays_what_it_is():
    made = opened(plan(attempts=1), info(None))
    short = TruncatedError("cut")
    made.failed(short, 0.0)
    assert error_of(made) is short


def test_another_failure_of_an_image_of_unknown_size_is_exhaustion():
    made = opened(plan(attempts=1), info(None))
    made.failed(LOST, 0.0)
    assert isinstance(error_of(made), RetriesExhaustedError)


def test_truncation_before_any_reply_is_exhaustion():
    made = plan(attempts=1)
    made.failed(TruncatedError("cut"), 0.0)
    assert isinstance(error_of(made), RetriesExhaustedError)


def test_only_delivered_bytes_are_progress():
    made = plan(100_000, None, attempts=2)
    opened(made, info(1 << 20), lead=100_000)
    assert made.action == Skip()
    made.received(100_000, 0.0)
    assert made.action == Read((1 << 20) - 100_000)
    assert made.refetched == 100_000
    broken_at(made, 100_000)
    made.failed(LOST, 0.0)
    assert isinstance(error_of(made), RetriesExhaustedError)


def test_64_kib_delivered_refund_the_tries():
    made = opened(plan(attempts=2), info(1 << 20))
    for offset in range(1, 10):
        opened(broken_at(made, offset * 65536), info(1 << 20))
    assert made.attempts == 10


def test_the_end_refunds_the_tries():
    bucket = TokenBucket()
    made = plan()
    made._budget = Budget(8, bucket)
    opened(broken_at(opened(made), 500))
    assert bucket.tokens == 495
    made.received(500, 0.0)
    assert bucket.tokens == 500


def test_what_comes_before_the_offset_is_skipped_step_by_step():
    made = opened(plan(300, 400), lead=300)
    assert made.action == Skip()
    made.received(299, 0.0)
    assert made.action == Skip()
    made.received(1, 0.0)
    assert made.action == Read(100)
    assert made.refetched == 300
    assert made.at == 300


@pytest.mark.parametrize("lead, allowed", [(99, True), (100, True), (101, False)])
def test_the_skip_limit(lead, allowed):
    made = plan(500, skip_limit=100)
    error = made.opened(info(), lead, 0.0)
    assert (error is None) is allowed
    if error is not None:
        assert isinstance(error, BadReplyError)
        made.failed(error, 0.0)
        assert isinstance(made.action, Pause)
        assert made.info is None


def test_without_version_and_digest_the_prefix_is_read_again_and_compared():
    made = broken_at(opened(plan(100), info(version=None)), 400)
    assert made.action == Open(100, None)
    opened(made, info(version=None))
    assert made.action == Prove(300)
    made.received(200, 0.0)
    assert made.action == Prove(100)
    made.received(100, 0.0)
    assert made.action == Compare()
    assert made.proved(equal=True) is None
    assert made.action == Read(600)
    assert (made.at, made.refetched) == (400, 300)


def test_a_prefix_that_reads_differently_is_a_change():
    made = opened(broken_at(opened(plan(), info(version=None)), 400), info(version=None))
    made.received(400, 0.0)
    error = made.proved(equal=False)
    assert isinstance(error, VersionChangedError)


def test_skipping_comes_before_proving():
    made = broken_at(opened(plan(100), info(version=None), lead=100), 100)
    made = broken_at(opened(made, info(version=None)), 400)
    opened(made, info(version=None), lead=100)
    assert made.action == Skip()
    made.received(100, 0.0)
    assert made.action == Prove(300)


def test_nothing_delivered_needs_no_proof():
    made = broken_at(opened(plan(), info(version=None)), 0)
    opened(made, info(version=None))
    assert made.action == Read(SIZE)


def test_a_break_in_a_proof_begins_the_proof_again():
    made = opened(broken_at(opened(plan(), info(version=None)), 400), info(version=None))
    made.received(399, 0.0)
    made.failed(LOST, 0.0)
    made.paused(0.1)
    assert made.action == Open(0, None)
    opened(made, info(version=None))
    assert made.action == Prove(400)


@pytest.mark.parametrize("proof_limit, allowed", [(0.4, True), (0.399, False), (0, False)])
def test_a_proof_within_its_limit(proof_limit, allowed):
    made = opened(plan(proof_limit=proof_limit), info(version=None))
    made.received(400, 0.0)
    made.failed(LOST, 0.0)
    if allowed:
        assert isinstance(made.action, Pause)
    else:
        assert isinstance(error_of(made), UnpinnableError)
        assert error_of(made).__cause__ is LOST
        assert error_of(made).offset == 400


def test_what_was_read_again_before_counts_against_the_limit():
    made = opened(plan(proof_limit=1.0), info(version=None))
    for at in (500, 500):
        opened(broken_at(made, at), info(version=None))
        made.received(500, 0.0)
        made.proved(equal=True)
    made.failed(LOST, 0.0)
    assert isinstance(error_of(made), UnpinnableError)
    assert made.refetched == 1000


def test_the_limit_of_a_proof_is_none_where_nothing_needs_proof():
    made = opened(plan(900, 910, proof_limit=0), lead=900)
    made.received(900, 0.0)
    made.received(5, 0.0)
    made.failed(LOST, 0.0)
    assert isinstance(made.action, Pause)


def test_only_what_was_delivered_of_a_range_has_to_be_proven():
    made = opened(plan(800, 900, proof_limit=0.51), info(version=None))
    made.received(51, 0.0)
    made.failed(LOST, 0.0)
    assert isinstance(made.action, Pause)


def test_the_limit_of_a_proof_is_measured_by_the_length_of_the_read():
    made = opened(plan(800, 900, proof_limit=0.5), info(version=None))
    made.received(51, 0.0)
    made.failed(LOST, 0.0)
    assert isinstance(error_of(made), UnpinnableError)


def test_a_digest_known_before_the_first_byte_makes_a_proof_needless():
    made = opened(plan(), info(version=None, sha256="AA"))
    assert made.digest == ("sha256", "aa")
    assert not made.needs_proof
    assert broken_at(made, 400).action == Open(400, None)


@pytest.mark.parametrize(
    "start, stop, usable",
    [(0, SIZE, True), (0, SIZE + 1, True), (0, SIZE - 1, False), (1, None, False), (1, SIZE, False)],
)
def test_a_digest_helps_only_a_read_of_the_whole_image(start, stop, usable):
    made = opened(plan(start, stop), info(version=None, sha256="aa"))
    assert (made.digest is not None) is usable
    assert made.needs_proof is not usable


def test_the_strongest_digest_is_taken_and_unknown_ones_left():
    made = opened(plan(), info(md5="1", sha512="2", sha256="3", crc32c="4"))
    assert made.digest == ("sha512", "2")
    assert opened(plan(), info(crc32c="4")).digest is None
    assert all(name in hashlib.algorithms_available for name in ("sha512", "sha256", "md5"))


@pytest.mark.parametrize("name", ["sha512", "sha384", "sha256", "blake2b", "sha1", "md5"])
def test_each_digest_that_can_be_computed_is_used(name):
    assert opened(plan(), info(**{name: "AB"})).digest == (name, "ab")


def test_a_digest_that_this_machine_refuses_is_left(monkeypatch):
    monkeypatch.setattr(hashlib, "algorithms_available", {"sha256"})
    assert opened(plan(), info(sha512="2", sha256="3")).digest == ("sha256", "3")


def test_a_mismatch_names_the_algorithm():
    made = opened(plan(), info(sha512="aa"))
    error = made.mismatch()
    assert isinstance(error, DigestMismatchError)
    assert "have the sha512 that" in str(error)
    assert (error.offset, error.attempts) == (0, 1)


def test_an_image_of_unknown_size_ends_where_the_store_proves_it():
    made = opened(plan(), info(None, None))
    assert made.action == Read(None)
    made.received(700, 0.0)
    assert made.action == Read(None)
    made.received(0, 0.0)
    assert made.action == Finish()
    assert made.end == 700


@pytest.mark.parametrize("start, stop", [(0, 100), (1, None), (5, 10)])
@pytest.mark.parametrize("version", [None, "v1", ANY])
def test_a_range_of_an_image_of_unknown_size_is_refused(start, stop, version):
    made = plan(start, stop, version)
    error = made.opened(info(None, "v1"), 0, 0.0)
    assert isinstance(error, UnsupportedError)
    assert "length" in str(error)
    made.failed(error, 0.0)
    assert error_of(made) is error


def test_an_unprovable_end_is_final_only_where_the_size_is_unknown():
    def cut():
        error = TruncatedError("a plain close")
        error.unprovable = True
        return error

    made = opened(plan(), info(None))
    made.received(10, 0.0)
    made.failed(cut(), 0.0)
    assert isinstance(error_of(made), TruncatedError)
    made = opened(plan())
    made.received(10, 0.0)
    made.failed(cut(), 0.0)
    assert isinstance(made.action, Pause)


def test_a_size_that_is_not_told_again_is_remembered():
    made = broken_at(opened(plan()), 700)
    opened(made, info(None))
    assert made.action == Read(300)


def test_an_end_that_the_digest_proves_finishes_the_read_and_refunds_it():
    bucket = TokenBucket()
    made = plan()
    made._budget = Budget(8, bucket)
    opened(broken_at(opened(made, info(None, sha256="aa")), 700), info(None))
    assert bucket.tokens == 495
    made.completed()
    assert made.action == Finish()
    assert (made.at, made.end) == (700, 700)
    assert bucket.tokens == 500


def test_a_size_learnt_on_reopening_is_taken():
    made = broken_at(opened(plan(), info(None)), 700)
    opened(made, info(1000))
    assert made.action == Read(300)


def test_an_image_of_unknown_size_that_ends_within_the_proof_has_changed():
    made = opened(broken_at(opened(plan(), info(None, None)), 700), info(None, None))
    made.received(600, 0.0)
    assert isinstance(made.received(0, 0.0), VersionChangedError)


def test_the_proof_of_an_unknown_size_is_measured_by_what_was_delivered():
    made = opened(plan(proof_limit=1.0), info(None, None))
    opened(broken_at(made, 700), info(None, None))
    made.received(1, 0.0)
    made.failed(LOST, 0.0)
    assert isinstance(error_of(made), UnpinnableError)


def test_a_stream_below_the_floor_is_to_be_dropped():
    made = opened(plan(meter=StallMeter(10, 100)))
    assert made.received(1, 5.0) is None
    error = made.received(1, 5.0)
    assert isinstance(error, StalledError)
    made.failed(error, 0.0)
    assert isinstance(made.action, Pause)
    assert made.at == 2


def test_the_last_byte_is_never_a_stall():
    made = opened(plan(meter=StallMeter(10, 1000)))
    assert made.received(SIZE, 20.0) is None
    assert made.action == Finish()


def test_pauses_failures_and_openings_count_towards_a_stall():
    made = plan(meter=StallMeter(10, 1000))
    made.failed(LOST, 2.0)
    made.paused(2.0)
    assert made.opened(info(), 0, 1.0) is None
    assert isinstance(made.received(1, 5.0), StalledError)


def test_each_stream_is_judged_by_what_was_waited_on_itself():
    made = opened(plan(meter=StallMeter(10, 10)))
    assert made.received(200, 9.0) is None
    made.failed(LOST, 0.0)
    made.paused(100.0)
    opened(made)
    assert made.received(1, 4.0) is None
    assert isinstance(made.received(1, 1.0), StalledError)


def test_a_stall_while_skipping_or_proving_counts_too():
    made = opened(plan(900, meter=StallMeter(10, 100)), lead=900)
    assert isinstance(made.received(1, 10.0), StalledError)
    made = plan(meter=StallMeter(10, 100))
    opened(broken_at(opened(made, info(version=None)), 400), info(version=None))
    assert isinstance(made.received(1, 10.0), StalledError)


def test_a_stall_at_the_last_byte_of_a_proof_is_found_when_it_is_proven():
    made = plan(meter=StallMeter(10, 100))
    opened(broken_at(opened(made, info(version=None)), 400), info(version=None))
    assert made.received(400, 20.0) is None
    assert isinstance(made.proved(equal=True), StalledError)


def test_a_proof_that_was_quick_is_no_stall():
    made = plan(meter=StallMeter(10, 100))
    opened(broken_at(opened(made, info(version=None)), 400), info(version=None))
    made.received(400, 1.0)
    assert made.proved(equal=True) is None


def test_bytes_skipped_are_no_proof_and_do_not_count_against_its_limit():
    made = plan(500, 600, proof_limit=1.0)
    opened(made, info(version=None), lead=500)
    made.received(500, 0.0)
    made.received(100 - 1, 0.0)
    made.failed(LOST, 0.0)
    assert isinstance(made.action, Pause)
    assert made.refetched == 500


def test_a_range_whose_size_is_not_told_again_goes_on():
    made = broken_at(opened(plan(5, 10)), 7)
    opened(made, info(None))
    assert made.action == Read(3)
