"""The way to the images of an account, step by step: the login, the container, what the service can do."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlparse

from imgstore.backends.swift.failures import RefusedError, fail
from imgstore.backends.swift.parts import limits_of
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    ImgstoreError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    TlsError,
)
from imgstore.model import Call
from imgstore.steps import TEST_PREFIX, NotApplicableError, Step

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

_CLEANING: Final = 10.0  # seconds for removing what was written, whatever the step has used up


def steps(store: SwiftStore) -> Sequence[Step]:
    """Gives the steps; only without a login the rest makes no sense."""
    return [
        Step("login", partial(_log_in, store), _about_login),
        Step("account", partial(_look_at_account, store), _about_account, vital=False),
        Step("container", partial(_look_at_container, store), _about_container, vital=False),
        Step("multipart", partial(_upload, store), _about_uploads, vital=False, writes=True),
    ]


@contextlib.contextmanager
def _typed(store: SwiftStore) -> Iterator[None]:
    """As `typed`, but a step may still say that there is nothing to prove."""
    try:
        yield
    except NotApplicableError:
        raise
    except Exception as exc:  # noqa: BLE001  # translated, not swallowed
        fail(store, "", exc)


def _log_in(store: SwiftStore, call: Call) -> str:
    with _typed(store):
        access = store.service.access(call)
        parts = urlparse(access.url)
        left = "" if access.expires is None else f", for {access.expires - store.clock.time():.0f} seconds"
        return f"the account is {parts.scheme}://{parts.netloc}{parts.path}{left}"


def _look_at_account(store: SwiftStore, call: Call) -> str:
    with _typed(store):
        limits = limits_of(store.service.capabilities(call=call))
        try:
            store.service.head_account(call=call)
        except RefusedError as exc:
            if exc.status != 403:
                raise
            raise NotApplicableError(
                "this user may not look at the account, which reading and writing one container does not need"
            ) from None
        return f"the service joins {limits.segments} segments of up to {limits.max_size} bytes"


def _look_at_container(store: SwiftStore, call: Call) -> str:
    layout = store.layout
    if not layout.single:
        raise NotApplicableError("images are spread over containers of their own")
    with _typed(store):
        try:
            reply = store.service.head_container(layout.container, call=call)
        except RefusedError as exc:
            if exc.status == 404 and store.placing.makes_containers:
                raise NotApplicableError(f"{layout.container!r} is made when an image is stored") from None
            raise
        return f"{layout.container!r} has {reply.single('x-container-object-count') or 'some'} objects"


def _upload(store: SwiftStore, call: Call) -> str:
    uploader = store.uploader
    token = uploader.begin(f"{TEST_PREFIX}{secrets.token_hex(8)}", None, call=call)
    try:
        uploader.put_part(token, 0, 0, memoryview(b"imgstore"), call=call)
        held = len(uploader.parts(token, call=call))
    finally:
        uploader.abort(token, call=Call().within(_CLEANING, clock=store.clock))
    if held != 1:
        raise PermanentError(f"the service tells {held} segments of an upload that has one")
    return "an upload was begun, and dropped"


def _about_login(error: ImgstoreError) -> str:
    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        return "correct user, password or application credential in the store's section, or their project"
    if isinstance(error, TlsError):
        return "name the authority that signed the server's certificate in ca_file"
    if isinstance(error, ConfigError):
        return "correct the option that the message names"
    return "see whether auth_url is right, the service runs, and no firewall is in the way"


def _about_account(error: ImgstoreError) -> str:
    if isinstance(error, NotFoundError):
        return "set endpoint to the account's URL, or have the account made"
    return "see whether the storage URL that the login gave can be reached from here, or set endpoint"


def _about_container(error: ImgstoreError) -> str:
    if isinstance(error, NotFoundError):
        return "make the container, or set create_container, or correct the option container"
    if isinstance(error, PermissionDeniedError):
        return "grant this user the right to read the container: X-Container-Read, or a role of the project"
    return "see the message; the service's log has the request id"


def _about_uploads(error: ImgstoreError) -> str:
    if isinstance(error, PermissionDeniedError):
        return "grant this user the rights to read and write the container of segments, or to make it"
    return "see the message: images above segment_size need segments and their manifests"
