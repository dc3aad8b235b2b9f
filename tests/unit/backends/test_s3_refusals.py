"""What the codes and statuses of S3 mean, and botocore's own errors."""

from __future__ import annotations

import botocore.exceptions as theirs
import pytest

from imgstore.backends._http_range import Reply
from imgstore.backends.s3.refusals import CODES, STALE, refused, translated
from imgstore.errors import (
    AuthenticationError,
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    ThrottledError,
    TimedOutError,
    TransientError,
    UnavailableError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from tests import canary

NOW = 1_000_000_000.0
MEANINGS = {
    ("NoSuchKey", 404): NotFoundError,
    ("", 404): NotFoundError,
    ("NoSuchBucket", 404): PermanentError,
    ("NoSuchUpload", 404): UploadLostError,
    ("NoSuchVersion", 404): VersionChangedError,
    ("PreconditionFailed", 412): VersionChangedError,
    ("", 412): VersionChangedError,
    ("InvalidRange", 416): RangeNotSatisfiableError,
    ("AccessDenied", 403): PermissionDeniedError,
    ("", 403): PermissionDeniedError,
    ("SignatureDoesNotMatch", 403): AuthenticationError,
    ("InvalidAccessKeyId", 403): AuthenticationError,
    ("ExpiredToken", 400): AuthenticationError,
    ("RequestTimeTooSkewed", 403): AuthenticationError,
    ("", 401): AuthenticationError,
    ("SlowDown", 503): ThrottledError,
    ("SlowDown", 429): ThrottledError,
    ("", 429): ThrottledError,
    ("InternalError", 500): UnavailableError,
    ("InternalError", 200): UnavailableError,
    ("", 200): UnavailableError,
    ("", 503): UnavailableError,
    ("ConditionalRequestConflict", 409): UnavailableError,
    ("RequestTimeout", 400): UnavailableError,
    ("BadDigest", 400): BadReplyError,
    ("EntityTooSmall", 400): PermanentError,
    ("QuotaExceeded", 403): NoSpaceError,
    ("", 507): NoSpaceError,
    ("NotImplemented", 501): UnsupportedError,
    ("InvalidObjectState", 403): UnsupportedError,
    ("KMS.DisabledException", 400): PermanentError,
    ("MethodNotAllowed", 405): UnsupportedError,
    ("", 301): PermanentError,
    ("", 307): PermanentError,
    ("SomethingNew", 400): PermanentError,
    ("SomethingNew", 502): UnavailableError,
}


def reply(status, *fields):
    return Reply(1, status, (("x-amz-request-id", "R1"), *fields))


@pytest.mark.parametrize("code,status", MEANINGS, ids=[f"{c or 'none'}-{s}" for c, s in MEANINGS])
def test_codes_and_statuses(code, status):
    error = refused(reply(status), code, now=NOW)
    kind = MEANINGS[code, status]
    assert isinstance(error, kind)
    assert isinstance(error, TransientError) is issubclass(kind, TransientError)
    assert error.request_id == "R1"


def test_every_code_says_what_it_means():
    for code, (kind, _) in CODES.items():
        error = refused(reply(400), code, now=NOW)
        assert type(error) is kind
        assert code in str(error)


def test_retry_after_is_told():
    assert refused(reply(503, ("Retry-After", "7")), "SlowDown", now=NOW).retry_after == 7.0


def test_codes_after_which_keys_are_asked_for_again_are_known():
    assert set(CODES) >= STALE
    assert all(issubclass(CODES[code][0], AuthenticationError) for code in STALE)


@pytest.mark.parametrize(
    "exc,kind",
    [
        (theirs.NoCredentialsError(), AuthenticationError),
        (theirs.PartialCredentialsError(provider="p", cred_var="v"), AuthenticationError),
        (theirs.CredentialRetrievalError(provider="p", error_msg=canary.PASSWORD), AuthenticationError),
        (theirs.ProfileNotFound(profile="p"), ConfigError),
        (theirs.ParamValidationError(report=canary.PASSWORD), ConfigError),
        (theirs.NoRegionError(), ConfigError),
        (theirs.UnknownServiceError(service_name=canary.PASSWORD, known_service_names="x"), PermanentError),
        (ConnectionResetError(104, "reset"), ConnectionLostError),
        (TimeoutError(), TimedOutError),
    ],
)
def test_other_exceptions(exc, kind):
    error = translated(exc)
    assert isinstance(error, kind)
    assert not canary.found(f"{error!r} {error.__cause__!r}")


def test_every_name_in_the_table_is_one_of_botocores():
    import botocore.parsers

    from imgstore.backends.s3.refusals import _BOTOCORE

    for name in _BOTOCORE:
        assert hasattr(theirs, name) or hasattr(botocore.parsers, name), name
