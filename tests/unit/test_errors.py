"""The errors: their tree, their fields, and that they survive every way to another process."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import threading

import pytest

from imgstore import errors
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    ImgstoreError,
    ManifestError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    PermissionDeniedError,
    RetriesExhaustedError,
    StalledError,
    StorageIOError,
    StoreError,
    ThrottledError,
    TimedOutError,
    TransientError,
    UnsafeLocationError,
    redact_url,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ImgstoreError)]
FIELDS = {"key": "k", "store": "s", "offset": 7, "attempts": 3, "request_id": "r-1"}

# By the name in DESIGN.md: its parent among ours, the standard class beside it, and its errno.
TREE = {
    "ConfigError": ("ImgstoreError", ValueError, None),
    "UnsafeLocationError": ("ImgstoreError", ValueError, None),
    "ManifestError": ("ImgstoreError", ValueError, None),
    "StoreError": ("ImgstoreError", OSError, errno.EIO),
    "TransientError": ("StoreError", None, errno.EAGAIN),
    "ConnectionLostError": ("TransientError", ConnectionError, errno.ECONNRESET),
    "TimedOutError": ("TransientError", TimeoutError, errno.ETIMEDOUT),
    "StalledError": ("TransientError", TimeoutError, errno.ETIMEDOUT),
    "ThrottledError": ("TransientError", None, errno.EAGAIN),
    "UnavailableError": ("TransientError", None, errno.EAGAIN),
    "TruncatedError": ("TransientError", None, errno.EIO),
    "BadReplyError": ("TransientError", None, errno.EPROTO),
    "PermanentError": ("StoreError", None, errno.EIO),
    "NotFoundError": ("PermanentError", FileNotFoundError, errno.ENOENT),
    "AlreadyExistsError": ("PermanentError", FileExistsError, errno.EEXIST),
    "PermissionDeniedError": ("PermanentError", PermissionError, errno.EACCES),
    "AuthenticationError": ("PermanentError", None, errno.EACCES),
    "TlsError": ("PermanentError", None, errno.EPROTO),
    "RangeNotSatisfiableError": ("PermanentError", None, errno.EINVAL),
    "VersionChangedError": ("PermanentError", None, errno.ESTALE),
    "UnpinnableError": ("PermanentError", None, errno.ENOTSUP),
    "DigestMismatchError": ("PermanentError", None, errno.EBADMSG),
    "ProtocolViolationError": ("PermanentError", None, errno.EPROTO),
    "NoSpaceError": ("PermanentError", None, errno.ENOSPC),
    "StorageIOError": ("PermanentError", None, errno.EIO),
    "InUseError": ("PermanentError", None, errno.EBUSY),
    "LockedError": ("PermanentError", None, errno.EBUSY),
    "SourceChangedError": ("PermanentError", None, errno.ESTALE),
    "UploadLostError": ("PermanentError", None, errno.ENOENT),
    "ConflictError": ("PermanentError", None, errno.EEXIST),
    "UnsupportedError": ("PermanentError", None, errno.ENOTSUP),
    "RetriesExhaustedError": ("PermanentError", None, errno.EIO),
    "DeadlineExceededError": ("PermanentError", None, errno.ETIMEDOUT),
    "OperationCancelledError": ("PermanentError", None, errno.ECANCELED),
}
RESUMABLE = {
    NoSpaceError,
    RetriesExhaustedError,
    DeadlineExceededError,
    OperationCancelledError,
}


def test_the_tree_is_complete():
    assert {kind.__name__ for kind in ALL} == {*TREE, "ImgstoreError"}
    assert all(kind.__doc__ for kind in ALL)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not ImgstoreError])
def test_place_in_the_tree_and_errno(kind):
    parent, standard, code = TREE[kind.__name__]
    assert kind.__bases__ == tuple(each for each in (getattr(errors, parent), standard) if each)
    assert getattr(kind("x"), "errno", None) == code


@pytest.mark.parametrize("kind", ALL)
def test_retryable_and_resumable(kind):
    error = kind("x")
    transient = issubclass(kind, TransientError)
    assert error.retryable is (transient or kind is RetriesExhaustedError)
    assert error.resumable is (transient or kind in RESUMABLE)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("value", [True, False])
def test_retryable_and_resumable_can_be_said(kind, value):
    error = kind("x", retryable=value, resumable=value)
    assert (error.retryable, error.resumable) == (value, value)


@pytest.mark.parametrize("kind", ALL)
def test_fields_message_and_text(kind):
    error = kind("what was wrong", **FIELDS)
    assert {name: getattr(error, name) for name in FIELDS} == FIELDS
    assert error.args == ("what was wrong",)
    assert (str(error), error.message) == ("what was wrong", "what was wrong")
    assert repr(error) == (
        f"{kind.__name__}('what was wrong', key='k', store='s', offset=7, attempts=3, request_id='r-1')"
    )
    if issubclass(kind, StoreError):
        assert error.strerror == "what was wrong"


@pytest.mark.parametrize("kind", ALL)
def test_without_fields(kind):
    error = kind()
    assert {getattr(error, name) for name in FIELDS} == {None}
    assert (str(error), repr(error)) == ("", f"{kind.__name__}('')")
    assert repr(kind("x", offset=0)) == f"{kind.__name__}('x', offset=0)"


def pickled(protocol):
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("way", [*map(pickled, range(2, 6)), copy.copy])
def test_everything_survives_pickling(kind, way):
    error = kind("x", **FIELDS, retryable=True, resumable=False)
    error.__cause__ = ConnectionLostError("inner", offset=3)
    again = way(error)
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert (str(again), repr(again)) == (str(error), repr(error))
    assert getattr(again, "errno", None) == getattr(error, "errno", None)
    assert getattr(again, "strerror", None) == getattr(error, "strerror", None)
    assert type(again.__cause__) is ConnectionLostError
    assert vars(again.__cause__) == vars(error.__cause__)


def test_fields_of_their_own_survive_pickling():
    error = ThrottledError("slow down", retry_after=2.5)
    assert pickle.loads(pickle.dumps(error)).retry_after == 2.5
    error = DigestMismatchError("bad", chunks=[3, 5])
    assert error.chunks == pickle.loads(pickle.dumps(error)).chunks == (3, 5)
    error = StorageIOError("full", errno=errno.EMFILE)
    assert error.errno == pickle.loads(pickle.dumps(error)).errno == errno.EMFILE


def test_fields_that_were_set_later_survive_pickling():
    error = NotFoundError("x")
    error.key, error.offset, error.errno = "later", 9, errno.ESTALE
    again = pickle.loads(pickle.dumps(error))
    assert (again.key, again.offset, again.errno) == ("later", 9, errno.ESTALE)


def test_the_defaults_of_own_fields():
    assert TransientError("x").retry_after is None
    assert DigestMismatchError("x").chunks == ()


class ForeignError(Exception):
    def __init__(self, reply, code):
        super().__init__(f"{code} from {reply}")


def with_lock():
    error = OSError(5, "EIO")
    error.reply = threading.Lock()
    return error


@pytest.mark.parametrize(
    "cause, kind, text",
    [
        (ValueError("x", 1, b"y"), ValueError, "('x', 1, b'y')"),
        (OSError(5, "EIO"), OSError, "[Errno 5] EIO"),
        (ForeignError("peer", 404), Exception, "ForeignError: 404 from peer"),
        (ValueError(threading.Lock), Exception, f"ValueError: {threading.Lock}"),
        (ValueError("x", threading.Lock), Exception, f"ValueError: ('x', {threading.Lock})"),
        (with_lock(), Exception, "OSError: [Errno 5] EIO"),
    ],
)
def test_a_cause_of_somebody_else_s_is_kept_or_told(cause, kind, text):
    error = ConnectionLostError("cut")
    error.__cause__ = cause
    again = pickle.loads(pickle.dumps(error)).__cause__
    assert (type(again), str(again)) == (kind, text)


def test_a_chain_of_causes_survives_pickling():
    inner, middle, outer = ValueError("x"), ConnectionLostError("y"), RetriesExhaustedError("z")
    outer.__cause__, middle.__cause__ = middle, inner
    again = pickle.loads(pickle.dumps(outer))
    assert [str(again), str(again.__cause__), str(again.__cause__.__cause__)] == ["z", "y", "x"]


def test_without_a_cause():
    assert pickle.loads(pickle.dumps(NotFoundError("x"))).__cause__ is None


def test_they_are_caught_as_what_python_knows():
    with pytest.raises(FileNotFoundError):
        raise NotFoundError("x")
    with pytest.raises(FileExistsError):
        raise AlreadyExistsError("x")
    with pytest.raises(PermissionError):
        raise PermissionDeniedError("x")
    for kind in (TimedOutError, StalledError):
        with pytest.raises(TimeoutError):
            raise kind("x")
    for kind in (ConfigError, UnsafeLocationError, ManifestError):
        with pytest.raises(ValueError, match="x"):
            raise kind("x")
    assert not issubclass(ConfigError, OSError)
    assert not issubclass(PermanentError, TransientError)


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://host/path", "https://host/path"),
        ("https://host:8443/a/b", "https://host:8443/a/b"),
        ("https://user:word@host:1/a", "https://host:1/a"),
        ("https://user@host/a", "https://host/a"),
        ("https://u:p@ss@host/a", "https://host/a"),
        ("https://host/a?sig=x&y=z", "https://host/a?..."),
        ("https://host/a#token", "https://host/a"),
        ("https://host/a?", "https://host/a"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("/path/only", "/path/only"),
        ("https://[::1/a?sig=x", "<url>"),
        ("https://user:pa/ss@host/a", "<url>"),
        ("https://user:12/3@host/a", "<url>"),
        ("https://user:0/3host/a", "<url>"),
        ("user:word@host/a", "<url>"),
        ("", ""),
    ],
)
def test_what_may_be_secret_in_a_url_is_left_out(url, shown):
    assert redact_url(url) == shown
