"""What the service's refusals mean: one table of its codes, and the table of statuses behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from imgstore.backends._http.failures import failure
from imgstore.backends._http.status import refusal, retry_after
from imgstore.backends._http_range import Reply
from imgstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BadReplyError,
    ConfigError,
    ImgstoreError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    StoreError,
    ThrottledError,
    TransientError,
    UnavailableError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.store import unknown


class NoBucketError(PermanentError):
    """There is no such bucket: which is no missing image, and may be mended where buckets are to be made."""


# S3 API Reference, "Error responses", and what radosgw, Swift and MinIO add. The service's own message is
# never repeated: it may quote a key or a signature.
CODES: Final[Mapping[str, tuple[type[StoreError], str]]] = {
    "AccessDenied": (PermissionDeniedError, "refuses this caller"),
    "AccountProblem": (PermissionDeniedError, "has locked this account"),
    "AllAccessDisabled": (PermissionDeniedError, "has locked this bucket"),
    "AuthorizationHeaderMalformed": (AuthenticationError, "wants another region in the signature"),
    "BadDigest": (BadReplyError, "received other bytes than were sent"),
    "BucketAlreadyOwnedByYou": (AlreadyExistsError, "has the bucket already"),
    "BucketAlreadyExists": (PermissionDeniedError, "says that somebody else has the bucket"),
    "ConditionalRequestConflict": (UnavailableError, "saw another change of the object at the same time"),
    "EntityTooLarge": (UnsupportedError, "takes no object or part so large"),
    "EntityTooSmall": (PermanentError, "takes no part so small, but as the last"),
    "ExpiredToken": (AuthenticationError, "says that the session token has expired"),
    "IncompleteBody": (BadReplyError, "received fewer bytes than were sent"),
    "InternalError": (UnavailableError, "failed"),
    "InvalidAccessKeyId": (AuthenticationError, "does not know the access key"),
    "InvalidBucketName": (PermanentError, "takes no bucket of that name"),
    "InvalidDigest": (BadReplyError, "received a checksum that is none"),
    "InvalidObjectState": (UnsupportedError, "has archived the object; restore it first"),
    "InvalidPart": (UploadLostError, "does not hold a part as it was put"),
    "InvalidRange": (RangeNotSatisfiableError, "has no bytes at that offset"),
    "InvalidToken": (AuthenticationError, "does not accept the session token"),
    "MethodNotAllowed": (UnsupportedError, "does not allow this method"),
    "NoSuchBucket": (NoBucketError, "has no such bucket"),
    "NoSuchKey": (NotFoundError, "has no such image"),
    "NoSuchUpload": (UploadLostError, "no longer knows the upload"),
    "NoSuchVersion": (VersionChangedError, "no longer has that version of the image"),
    "NotImplemented": (UnsupportedError, "does not know this operation or header"),
    "OperationAborted": (UnavailableError, "saw another change at the same time"),
    "PermanentRedirect": (PermanentError, "has the bucket in another region or at another endpoint"),
    "PreconditionFailed": (VersionChangedError, "no longer holds that version of the image"),
    "QuotaExceeded": (NoSpaceError, "has no room left within the quota"),
    "RequestExpired": (AuthenticationError, "says that the request came too late; compare the clocks"),
    "RequestLimitExceeded": (ThrottledError, "asks for fewer requests"),
    "RequestTimeTooSkewed": (AuthenticationError, "has another time; set the clocks by NTP"),
    "RequestTimeout": (UnavailableError, "gave up waiting for the request"),
    "ServiceUnavailable": (UnavailableError, "cannot serve now"),
    "SignatureDoesNotMatch": (AuthenticationError, "does not accept the secret key"),
    "SlowDown": (ThrottledError, "asks for fewer requests"),
    "Throttling": (ThrottledError, "asks for fewer requests"),
    "ThrottlingException": (ThrottledError, "asks for fewer requests"),
    "TokenRefreshRequired": (AuthenticationError, "wants another session token"),
    "TooManyRequests": (ThrottledError, "asks for fewer requests"),
    "XAmzContentChecksumMismatch": (BadReplyError, "received other bytes than were sent"),
    "XAmzContentSHA256Mismatch": (BadReplyError, "received other bytes than were sent"),
    "XMinioStorageFull": (NoSpaceError, "has no room left"),
}
_KMS: Final = (PermanentError, "cannot use the key of the server-side encryption")
# After these the credentials are asked for again, once.
STALE: Final = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


def _precondition(reply: Reply) -> StoreError:
    return VersionChangedError(
        "the service no longer holds that version of the image (status 412)", request_id=reply.request_id
    )


def _redirected(reply: Reply) -> StoreError:
    return PermanentError(
        f"the bucket is in another region or at another endpoint (status {reply.status}); "
        "the options 'region' and 'endpoint_url' name it",
        request_id=reply.request_id,
    )


# What a reply to HEAD, which has no body and so no code, says by its status alone.
_BY_STATUS: Final[Mapping[int, Callable[[Reply], StoreError]]] = {
    301: _redirected,
    307: _redirected,
    412: _precondition,
}


def refused(reply: Reply, code: str, *, now: float) -> StoreError:
    """Gives the error for a reply that is no success; `now`, in POSIX seconds, dates a Retry-After."""
    found = _KMS if code.startswith("KMS.") else CODES.get(code)
    if reply.status == 507:
        found = CODES["XMinioStorageFull"]
    if found is None and 200 <= reply.status < 300:
        # a document with an error, or with nothing, after a status that promised success
        found = CODES["InternalError"]
    if found is None:
        known = _BY_STATUS.get(reply.status)
        return refusal(reply, None, now=now) if known is None else known(reply)
    kind, reason = found
    told = f"status {reply.status}, {code}" if code else f"status {reply.status}"
    error = kind(f"the service {reason} ({told})", request_id=reply.request_id)
    if isinstance(error, TransientError):
        error.retry_after = retry_after(reply, now=now)
    return error


def translated(exc: Exception) -> ImgstoreError:
    """Gives the error that `exc` means, of this library, of botocore, or of the connection. Pure."""
    if isinstance(exc, ImgstoreError):
        return exc
    if not is_foreign(exc):
        return failure(exc)
    meaning, text = _BOTOCORE.get(type(exc).__name__, (None, ""))
    error = unknown(exc) if meaning is None else meaning(text)
    # its text may quote a URL or a parameter
    error.__cause__ = None
    return error


# By name: botocore is imported when the first request is made, and not for a table.
_BOTOCORE: Final[Mapping[str, tuple[type[ImgstoreError], str]]] = {
    "NoCredentialsError": (
        AuthenticationError,
        "there are no credentials: give access_key and secret_key, or any that boto3 finds by itself",
    ),
    "PartialCredentialsError": (AuthenticationError, "the credentials are incomplete: a key is missing"),
    "CredentialRetrievalError": (AuthenticationError, "the credentials could not be fetched"),
    "MetadataRetrievalError": (AuthenticationError, "the credentials could not be fetched"),
    "TokenRetrievalError": (AuthenticationError, "the credentials could not be fetched"),
    "UnauthorizedSSOTokenError": (AuthenticationError, "the session of the single sign-on has expired"),
    "SSOTokenLoadError": (AuthenticationError, "the session of the single sign-on has expired"),
    "ProfileNotFound": (ConfigError, "the option 'profile' names a profile that boto3's files do not have"),
    "ConfigParseError": (ConfigError, "a configuration file of boto3 cannot be read"),
    "NoRegionError": (ConfigError, "the option 'region' is needed"),
    "InvalidRegionError": (ConfigError, "the option 'region' is no name of a region"),
    "ParamValidationError": (ConfigError, "an option is nothing that S3 takes: a bucket's name, for one"),
    "InvalidEndpointConfigurationError": (ConfigError, "the options make no address of the service"),
    "EndpointProviderError": (ConfigError, "the options make no address of the service"),
    "EndpointResolutionError": (ConfigError, "the options make no address of the service"),
    "ResponseParserError": (BadReplyError, "the service sent a document that cannot be read"),
}


def is_foreign(exc: Exception) -> bool:
    """Tells whether `exc` is one of botocore's own."""
    return type(exc).__module__.partition(".")[0] == "botocore"
