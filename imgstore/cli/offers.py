"""What a shell offers while a command is typed: the stores there are, and the images in them.

A person waits for it at every press of a key, and reads no error: it is quick, and silent whatever happens.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import logging
import os
from collections.abc import Generator
from typing import Final

from click.shell_completion import CompletionItem

from imgstore.cli.configured import every
from imgstore.cli.output import Terminal
from imgstore.errors import ImgstoreError
from imgstore.model import Call

_LIMIT: Final = 100  # more than one can read
_SECONDS: Final = 2.0


def locations(terminal: Terminal, incomplete: str, *, in_stores: bool) -> list[CompletionItem]:
    """Gives what a location may go on with: a store, a key, or else, unless it is `in_stores`, a path."""
    items = [CompletionItem(each) for each in _quietly(_stored(terminal, incomplete))]
    if in_stores or ":" in incomplete.partition("/")[0]:
        return items
    if not items:
        return [CompletionItem(incomplete, type="file")]
    # a shell that is asked for files forgets the rest
    return [*items, *(CompletionItem(each) for each in _quietly(_paths(incomplete)))]


def stores(terminal: Terminal, incomplete: str) -> list[CompletionItem]:
    """Gives the stores whose names begin with `incomplete`; `:` begins a key."""
    if ":" in incomplete:
        return locations(terminal, incomplete, in_stores=True)
    return [CompletionItem(each[:-1]) for each in _quietly(_stored(terminal, incomplete))]


def places(terminal: Terminal, incomplete: str) -> list[CompletionItem]:
    """Gives the stores and the folders whose names begin with `incomplete`."""
    folders = (each for each in _paths(incomplete) if each.endswith("/"))
    found = [each[:-1] for each in _quietly(_stored(terminal, incomplete)) if each.endswith(":")]
    return [CompletionItem(each) for each in [*found, *_quietly(folders)]]


def _stored(terminal: Terminal, incomplete: str) -> Generator[str, None, None]:
    if "/" in incomplete.partition(":")[0]:
        return
    with every(terminal) as found:
        name, colon, prefix = incomplete.partition(":")
        if not colon:
            yield from (f"{each}:" for each in found if each.startswith(name))
        elif name in found and (lister := found[name].lister) is not None:
            for info in lister.list(prefix, call=Call().within(_SECONDS)):
                yield f"{name}:{info.key}"


def _paths(incomplete: str) -> Generator[str, None, None]:
    for path in sorted(glob.iglob(f"{glob.escape(incomplete)}*")):
        yield f"{path}/" if os.path.isdir(path) else path


def _quietly(names: Generator[str, None, None]) -> list[str]:
    """Gives what comes of `names` until there are enough, or something goes wrong."""
    found: list[str] = []
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.suppress(ImgstoreError, OSError, ValueError), contextlib.closing(names):
            found.extend(each for each in itertools.islice(names, _LIMIT) if each.isprintable())
    finally:
        logging.disable(disabled)
    return found
