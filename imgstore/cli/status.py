"""Exit statuses: one number for what a script may want to tell apart."""

from __future__ import annotations

from typing import Final

from imgstore import errors

DONE: Final = 0
OTHER: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

# The first that fits counts.
_STATUSES: Final[tuple[tuple[tuple[type[BaseException], ...], int], ...]] = (
    ((errors.OperationCancelledError, KeyboardInterrupt), INTERRUPTED),
    ((errors.ConfigError, errors.RangeNotSatisfiableError), USAGE),
    ((errors.NotFoundError,), 3),
    ((errors.DigestMismatchError, errors.ManifestError), 4),
    ((errors.VersionChangedError, errors.SourceChangedError), 5),
    ((errors.TransientError, errors.RetriesExhaustedError, errors.DeadlineExceededError), 6),
    ((errors.PermissionDeniedError, errors.AuthenticationError), 7),
    ((errors.NoSpaceError,), 8),
    ((errors.UnsafeLocationError,), 9),
    ((errors.AlreadyExistsError, errors.ConflictError), 10),
    ((errors.InUseError, errors.LockedError), 11),
)


def exit_status(error: BaseException) -> int:
    """Gives the exit status of a command that ended with `error`."""
    return next((status for kinds, status in _STATUSES if isinstance(error, kinds)), OTHER)
