"""What the errors of librados and librbd mean."""

import errno

import pytest

from imgstore import errors
from imgstore.backends.rbd.failures import failure, number_of


def foreign(module, number=None):
    """Gives an exception as the bindings raise it; they are not needed for it."""
    kind = type("SomeError", (Exception,), {"__module__": module})
    exc = kind("said")
    if number is not None:
        exc.errno = number
    return exc


TABLE = [
    (errno.ENOENT, errors.NotFoundError),
    (errno.EEXIST, errors.AlreadyExistsError),
    (errno.EPERM, errors.PermissionDeniedError),
    (errno.EACCES, errors.PermissionDeniedError),
    (errno.EBUSY, errors.InUseError),
    (errno.ENOTEMPTY, errors.InUseError),
    (errno.EROFS, errors.InUseError),
    (errno.ENOSPC, errors.NoSpaceError),
    (errno.EDQUOT, errors.NoSpaceError),
    (errno.EIO, errors.StorageIOError),
    (errno.EOPNOTSUPP, errors.UnsupportedError),
    (errno.ENOSYS, errors.UnsupportedError),
    (errno.ETIMEDOUT, errors.TimedOutError),
    (errno.EAGAIN, errors.UnavailableError),
    (errno.EINTR, errors.UnavailableError),
    (errno.ESHUTDOWN, errors.ConnectionLostError),
    (errno.ENOTCONN, errors.ConnectionLostError),
    (errno.ECONNREFUSED, errors.ConnectionLostError),
    (errno.ECONNRESET, errors.ConnectionLostError),
    (errno.EPIPE, errors.ConnectionLostError),
    (errno.EHOSTUNREACH, errors.ConnectionLostError),
    (errno.ENETUNREACH, errors.ConnectionLostError),
    (errno.EINVAL, errors.PermanentError),
    (errno.EDOM, errors.PermanentError),
]


@pytest.mark.parametrize("module", ["rados", "rbd"])
@pytest.mark.parametrize("number, kind", TABLE)
def test_every_errno_has_its_meaning(module, number, kind):
    for signed in (number, -number):
        exc = foreign(module, signed)
        error = failure(exc)
        assert type(error) is kind
        assert error.errno == number
        assert error.__cause__ is exc
        assert "said" not in str(error)


@pytest.mark.parametrize(
    "exc", [foreign("rbd"), foreign("rados", 0), ValueError("x"), OSError(errno.ENOENT, "x")]
)
def test_what_is_not_known_is_no_weather(exc):
    error = failure(exc)
    assert type(error) is errors.PermanentError
    assert error.__cause__ is exc
    assert number_of(exc) == 0


def test_an_error_of_ours_comes_back_unchanged():
    error = errors.StalledError("x")
    assert failure(error) is error
