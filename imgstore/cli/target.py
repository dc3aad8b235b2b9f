"""The target of a copy: what it is called, what cannot be one, and what takes the bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from imgstore.backends import urls
from imgstore.cli.configured import driver_of
from imgstore.cli.location import Location, in_store, same_file
from imgstore.cli.output import Terminal
from imgstore.cli.source import check_named, check_output, layered
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
)
from imgstore.model import Call
from imgstore.store import Store


def completed(sources: Sequence[Location], target: Location, name: str) -> Location:
    """Gives the target with the `name` of the image where it is a place in a store and no image.

    Raises: ConfigError where the image has no name.
    """
    if target.kind != "store" or (target.key and not target.key.endswith("/")):
        return target
    if not name:
        told = " and ".join(source.shown for source in sources) or "the manifest"
        why = f"{told} are taken for one image" if len(sources) > 1 else f"{told} has no name to give it"
        raise ConfigError(f"{target.shown} names no image, and {why}; write it as {target.shown}NAME")
    return in_store(target.store, target.key + name)


def check(
    sources: Iterable[Location], target: Location, name: str, given: dict[str, Any], terminal: Terminal
) -> None:
    """Refuses, before anything is opened, what cannot be meant. Raises: ConfigError."""
    if target.kind == "url":
        raise ConfigError(
            f"{target.shown}: copies go to a path or -, or into a store; this version does not write to URLs"
        )
    if target.kind == "path" and os.path.isdir(target.text):
        example = os.path.join(target.text, name or "NAME")
        raise ConfigError(f"{target.text} is a folder; name the file in it, such as {example}")
    if given["store_manifest"] and target.kind not in {"store", "service"}:
        raise ConfigError("--store-manifest is for a store; imgstore digest -o FILE writes that of a file")
    if target.kind == "standard":
        _check_output(sources, given, terminal)
    for source in sources:
        if target.kind in {"store", "service"} and source == target:
            raise ConfigError(f"{source.shown} and {target.shown} are one image; there is nothing to copy")
        if source.kind == target.kind == "path" and same_file(source.text, target.text):
            raise ConfigError(f"{source.text} and {target.text} are one file; there is nothing to copy")


def _check_output(sources: Iterable[Location], given: dict[str, Any], terminal: Terminal) -> None:
    if given["read_back"]:
        raise ConfigError("--read-back: standard output gives nothing back; give DST a path")
    if given["as_json"]:
        terminal.json = None  # the object would be taken for the image
        raise ConfigError("--json and the image would both go to standard output; give DST a path")
    if given["force"]:
        raise ConfigError("--force replaces a file; there is none in standard output")
    check_output(sources, terminal)


def service(target: Location, given: dict[str, Any], stack: ExitStack) -> tuple[Store, Location]:
    """Gives the store that a URL leads to, and the place with its key."""
    driver, key = urls.at(target.text)
    driver.store_id = target.shown
    return stack.enter_context(layered(driver, given)), replace(target, store=target.shown, key=key)


def opened_target(target: Location, call: Call, given: dict[str, Any]) -> AbstractContextManager[Any]:
    """Gives what takes the bytes of a copy to a path or standard output; what is not published is removed."""
    from imgstore.publish import PendingFile
    from imgstore.transfer.standard import StandardOutput

    if target.kind == "standard":
        return contextlib.nullcontext(StandardOutput(call=call))
    return PendingFile(target.text, overwrite=given["force"], read_back=given["read_back"])


def admit(store: Store, target: Location, call: Call, *, overwrite: bool) -> None:
    """Refuses a target that is taken before the image is moved: some stores tell only after that.

    Raises: UnsupportedError for a store that is only read, AlreadyExistsError; as `Store.stat`. ConfigError
    for one in memory, with which the image would be gone when the command ends.
    """
    check_named(target)
    if target.kind == "store" and _in_memory(store):
        raise ConfigError(
            f"the store {target.store} is in the memory of this command alone; what is copied there is lost"
        )
    if store.writer is None:
        raise UnsupportedError("the store is only read; it takes no images", store=target.store)
    if overwrite:
        return
    call = replace(call, observe=None)  # that nothing is there is no failure of the copy
    # Who may write there, but not look, hears of it at the end.
    with contextlib.suppress(NotFoundError, PermissionDeniedError):
        store.stat(target.key, call=call)
        raise AlreadyExistsError(f"{target.shown} exists already", key=target.key, store=target.store)


def _in_memory(store: Store) -> bool:
    from imgstore.backends.memory import MemoryStore  # it brings oslo.config, which a URL has no need of

    return isinstance(driver_of(store), MemoryStore)
