"""The source of a command: a location with its store, layers and call."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgstore.backends import urls
from imgstore.cli import options
from imgstore.cli.location import Location
from imgstore.cli.output import Terminal
from imgstore.errors import ConfigError, NotFoundError, UnsafeLocationError
from imgstore.model import Call, Event, ObjectInfo
from imgstore.store import Store
from imgstore.stream import ByteStream

if TYPE_CHECKING:
    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.transfer.sparse import SparseStream

_RECEIVE_LIMIT = 20.0  # seconds; a longer stall window is for trickles, not for silence
# Of these, the ones that are options of the driver by the same name.
_AS_THEY_ARE = ("token_file", "ca_file", "client_cert", "client_key", "proxy", "allow_private")


@dataclass(frozen=True, slots=True)
class Source:
    """An image that can be read. `name` is short, for a bar; `file` is the bare store of a path."""

    location: Location
    store: Store | None
    key: str
    call: Call
    name: str = field(default="-")
    file: FilesystemStore | None = None

    def open(self, offset: int = 0, length: int | None = None) -> ByteStream | SparseStream:
        """Opens the bytes of a range, with their holes where these are known. Raises: as `Store.get`."""
        if self.store is None:
            from imgstore.transfer.standard import standard_input

            return standard_input(call=self.call)
        from imgstore.transfer.sparse import open_source

        return open_source(self.store, self.key, offset, length, call=self.call)

    def stat(self) -> ObjectInfo:
        """Describes the image. Raises: as `Store.stat`; ConfigError for standard input."""
        if self.store is None:
            raise ConfigError("standard input has nothing to show; name a file or a URL")
        return self.store.stat(self.key, call=self.call)


@contextlib.contextmanager
def opened(
    location: Location,
    given: dict[str, Any],
    terminal: Terminal,
    stores: Mapping[str, Store],
    observe: Callable[[Event], None] | None = None,
) -> Iterator[Source]:
    """Gives the source that `location` and the options make; closed at the end. Nothing is requested.

    `stores` has those of the configuration, if `location` is in one; they stay open.
    """
    used = [name for name in options.URL_OPTIONS if given[name]]
    if location.kind != "url" and used:
        raise ConfigError(f"--{options.flag(used[0])} is for http and https; {location.shown} is neither")
    terminal.where = location.shown
    call = Call(observe=observe)
    if given["timeout"] is not None:
        call = call.within(given["timeout"])
    if location.kind == "standard":
        yield _standard(location, given, terminal, call)
        return
    if location.kind == "store":
        check_named(location)
        store = _proven(stores[location.store], given)
        yield Source(location, store, location.key, call, location.name)
        return
    driver: Store
    file = None
    try:
        if location.kind == "url":
            driver, key, name = _url(location, given, terminal)
        elif location.kind == "service":
            driver, key = urls.at(location.text)
            name = location.name
        else:
            driver = file = _file(location)
            key, name = os.path.basename(os.path.realpath(location.text)), os.path.basename(location.text)
    except ConfigError as exc:
        exc.store = location.shown
        raise
    driver.store_id = location.shown
    with layered(driver, given) as store:
        yield Source(location, _proven(store, given), key, call, name, file)


def _proven(store: Store, given: dict[str, Any]) -> Store:
    """Gives `store` under the manifest that is to prove what is read of it, if one is."""
    if not given.get("prove"):
        return store
    from imgstore.stack import proven

    return proven(store, given["prove"])


def check_named(location: Location) -> None:
    """Refuses a place in a store that names no image. Raises: ConfigError."""
    if not location.key or location.key.endswith("/"):
        more = "write its whole key"
        if location.kind == "store":
            more = f"imgstore ls {location.shown} shows the ones there are"
        raise ConfigError(f"{location.shown} names no image; {more}")


def check_idle(given: dict[str, Any], what: str) -> None:
    """Refuses options on how bytes are read, since for `what` they do nothing. Raises: ConfigError."""
    for name in ("stall_timeout", "limit_rate", "no_resume"):
        if given[name]:
            raise ConfigError(f"--{options.flag(name)} does nothing for {what}; leave it out")


def _standard(location: Location, given: dict[str, Any], terminal: Terminal, call: Call) -> Source:
    check_idle(given, "standard input")
    if 0 in terminal.closed:
        raise ConfigError("standard input is closed")
    return Source(location, None, "-", call)


def layered(driver: Store, given: dict[str, Any]) -> Store:
    """Gives `driver` in the layers that the options ask for."""
    from imgstore.stack import LayerSettings, build

    return build(driver, LayerSettings(**options.layer_settings(given)))


def _file(location: Location) -> FilesystemStore:
    from imgstore.backends.filesystem import FilesystemStore

    path = location.text
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no file {path}") from None
    except OSError:
        pass  # the store says what is wrong with it
    else:
        _check_kind(path, found.st_mode)
    # A link that the user typed is followed; the store follows none.
    return FilesystemStore(data_dir=os.path.dirname(os.path.realpath(path)))


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UnsafeLocationError(f"{path} is a folder; name a file in it")
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise UnsafeLocationError(f"{path} is a pipe or socket; read it as standard input: - < {path}")
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise UnsafeLocationError(f"{path} is a device; read it as standard input: - < {path}")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UnsafeLocationError(f"{path} is no UTF-8; read it as standard input: - < FILE") from None


def _url(location: Location, given: dict[str, Any], terminal: Terminal) -> tuple[Store, str, str]:
    from imgstore.backends.http import HttpStore

    settings = {name: given[name] for name in _AS_THEY_ARE if given[name]}
    if given["stall_timeout"] is not None:
        # What sends nothing at all is noticed as soon as what trickles.
        settings["receive_timeout"] = min(given["stall_timeout"], _RECEIVE_LIMIT)
    settings["headers"] = headers = options.read_headers(given["headers"] or ())
    terminal.hide(line.partition(":")[2].strip() for line in headers)
    if given["netrc"] or given["netrc_file"]:
        settings["netrc"] = given["netrc_file"] or True
    if given["user"]:
        settings["username"] = given["user"]
        settings["password"] = options.password(given["user"], given["password_file"])
        terminal.hide([settings["password"]])
    elif given["password_file"]:
        raise ConfigError("--password-file goes with --user")
    name = os.path.basename(location.shown.partition("?")[0]) or location.shown
    if given["url_command"]:
        # The command is given the path of the URL and prints the one that is requested.
        _, key = HttpStore.at(location.text)
        return HttpStore(url_command=given["url_command"], **settings), key, name
    store, key = HttpStore.at(location.text, **settings)
    return store, key, name


def check_output(sources: Iterable[Location], terminal: Terminal, *, force: bool = False) -> None:
    """Refuses a standard output that is closed, or is one of `sources`, or a terminal unless forced.

    Raises: ConfigError.
    """
    if 1 in terminal.closed:
        raise ConfigError("standard output is closed")
    if os.isatty(1) and not force:
        raise ConfigError(
            "standard output is a terminal, which the bytes of an image may upset; send them to a file or"
            " pipe, or use cat --force"
        )
    for source in sources:
        if source.kind != "path":
            continue
        with contextlib.suppress(OSError):
            out = os.fstat(1)
            if stat.S_ISREG(out.st_mode) and os.path.samestat(out, os.stat(source.text)):
                raise ConfigError(f"{source.text} is the file that standard output goes to")
