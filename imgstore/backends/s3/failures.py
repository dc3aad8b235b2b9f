"""Errors of the facets: typed, and told with the key and the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

from imgstore.backends.s3.refusals import is_foreign
from imgstore.errors import ImgstoreError
from imgstore.store import Store


@contextlib.contextmanager
def typed(owner: Store, key: str) -> Iterator[None]:
    """Raises what goes wrong in the block as an error of this library that names `key` and the store."""
    try:
        yield
    except Exception as exc:
        if not isinstance(exc, (OSError, ImgstoreError)) and not is_foreign(exc):
            raise  # a mistake of the caller, or ours
        fail(owner, key, exc)


def fail(owner: Store, key: str, exc: Exception) -> NoReturn:
    """Raises `exc` as `typed` does."""
    error = owner._translated(exc, key)
    raise error from (error.__cause__ if error is exc or is_foreign(exc) else exc)
