"""Each error has its exit status."""

from __future__ import annotations

import pytest

from imgstore import errors
from imgstore.cli.status import exit_status

STATUSES = {
    "ImgstoreError": 1,
    "ConfigError": 2,
    "UnsafeLocationError": 9,
    "ManifestError": 4,
    "StoreError": 1,
    "TransientError": 6,
    "ConnectionLostError": 6,
    "TimedOutError": 6,
    "StalledError": 6,
    "ThrottledError": 6,
    "UnavailableError": 6,
    "TruncatedError": 6,
    "BadReplyError": 6,
    "PermanentError": 1,
    "NotFoundError": 3,
    "AlreadyExistsError": 10,
    "PermissionDeniedError": 7,
    "AuthenticationError": 7,
    "TlsError": 1,
    "RangeNotSatisfiableError": 2,
    "VersionChangedError": 5,
    "UnpinnableError": 1,
    "DigestMismatchError": 4,
    "ProtocolViolationError": 1,
    "NoSpaceError": 8,
    "StorageIOError": 1,
    "InUseError": 11,
    "LockedError": 11,
    "SourceChangedError": 5,
    "UploadLostError": 1,
    "ConflictError": 10,
    "UnsupportedError": 1,
    "RetriesExhaustedError": 6,
    "DeadlineExceededError": 6,
    "OperationCancelledError": 130,
}


def test_no_error_is_forgotten():
    known = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.ImgstoreError)
    }
    assert set(STATUSES) == known


@pytest.mark.parametrize("name, status", STATUSES.items())
def test_the_status(name, status):
    assert exit_status(getattr(errors, name)("x")) == status


@pytest.mark.parametrize(
    "error, status",
    [(KeyboardInterrupt(), 130), (ValueError(), 1), (BrokenPipeError(), 1), (MemoryError(), 1)],
)
def test_the_status_of_others(error, status):
    assert exit_status(error) == status
