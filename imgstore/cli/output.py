"""What a command says: data to standard output; diagnostics, one line each, to standard error."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from imgstore.cli.status import exit_status
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    ImgstoreError,
    OperationCancelledError,
    StoreError,
    redact_url,
)

# The resumes are told by the meter and the report; their warnings would say it a third time.
_QUIET: Final = "imgstore.layers.resume"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>)]+")
# A driver names its options as they stand in a configuration.
_OPTION = re.compile(r"(?:the option )?'([a-z_]+)'")
_FLAGS: Final = {
    "allow_private": "--allow-private",
    "ca_file": "--ca-file",
    "client_cert": "--client-cert",
    "client_key": "--client-key",
    "headers": "--header",
    "netrc": "--netrc-file",
    "password": "--password-file",
    "proxy": "--proxy",
    "token_file": "--token-file",
    "url_command": "--url-command",
    "username": "--user",
}
_SECRET_LIMIT: Final = 4  # a shorter one would blot out innocent text
# The text that is made here or in a driver, by its name in JSON. All else is data, and true to the letter: a
# key that has a password in it is still that key.
_COMPOSED: Final = frozenset({"message", "said", "advice"})


class Terminal:
    """Standard output and error of one run, and the secrets that must not reach them."""

    def __init__(self, closed: frozenset[int] = frozenset()) -> None:
        """Takes the standard descriptors that were closed when the process started."""
        self.closed = closed
        self.debug = False
        self.config_file: str | None = None
        self.conf: Any = None  # the configuration, once it is read
        self.stores: frozenset[str] = frozenset()  # the configured ones, once they are open
        self.where: str | None = None  # what is read
        self.target: str | None = None  # the service that a URL made a target
        self.json: Callable[[], dict[str, Any]] | None = None  # gives the final object as far as it is known
        self.write_line: Callable[[str], None] = _write_error_line
        self._secrets: set[str] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """Never shows these."""
        self._secrets.update(each for each in secrets if len(each) >= _SECRET_LIMIT)

    def scrubbed(self, text: str) -> str:
        """Gives `text` without secrets: those it knows, and what a URL may hold of them."""
        text = _URL.sub(_redacted, text)
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "...")
        return text

    def say(self, text: str) -> None:
        """Writes one line to standard error, whatever is in `text`."""
        self.write_line(printable(self.scrubbed(f"imgstore: {text}")))

    def print(self, text: str) -> None:
        """Writes a line to standard output; a reader that went away is no error.

        Raises: ConfigError when it is closed; NoSpaceError, StorageIOError.
        """
        self.print_lines([text])

    def print_lines(self, lines: Iterable[str]) -> bool:
        """Writes lines to standard output as they come; tells whether its reader took all of them.

        Those that came before one that cannot be had are written. Raises: as `print`; what `lines` does.
        """
        if 1 in self.closed:
            raise ConfigError("standard output is closed")
        taken = True
        try:
            for line in lines:
                if not (taken := _written(sys.stdout.write, f"{line}\n")):
                    break
        finally:
            taken = _written(sys.stdout.flush) and taken
        return taken

    def print_json(self, what: Mapping[str, Any]) -> None:
        """Writes one object on one line to standard output, its messages without secrets."""
        self.print(self.json_line(what))

    def json_line(self, what: Mapping[str, Any]) -> str:
        """Gives an object on one line, its messages without secrets; keys, versions and the like stay."""
        # In the finished text a secret may be part of a number or a name, or stand there escaped.
        return json.dumps(self._scrubbed_messages(what))

    def failed(self, error: BaseException) -> int:
        """Tells of the error that ends the command, and gives the exit status."""
        if self.debug:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.write_line(printable(self.scrubbed(line)))
        if isinstance(error, KeyboardInterrupt):
            error = OperationCancelledError("interrupted")
        self.say(self.sentence(error))
        if self.json is not None:
            with contextlib.suppress(ImgstoreError):  # nothing more can be told
                self.print_json({**self.json(), "error": self.fields(error)})
        return exit_status(error)

    def sentence(self, error: BaseException) -> str:
        """Gives one line for a person on an error of this run, with the image it is about."""
        store, key = getattr(error, "store", None), getattr(error, "key", None)
        if store in self.stores:
            said = sentence(error, flags=False)
            where = f"{store}:{key}" if key else store
            return said if said.startswith(where) else f"{where}: {said}"
        where = self.target if store is not None and store == self.target else self.where
        # Only the store that the command line made itself has flags for options; others have a section.
        return sentence(error, where, flags=store is not None and store == where)

    def fields(self, error: BaseException) -> dict[str, Any]:
        """Gives what a program may want to know of an error."""
        return {**_fields(error), "status": exit_status(error)}

    def _scrubbed_messages(self, value: Any, name: str = "") -> Any:
        if isinstance(value, str) and name in _COMPOSED:
            return self.scrubbed(value)
        if isinstance(value, Mapping):
            return {name: self._scrubbed_messages(each, name) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._scrubbed_messages(each) for each in value]
        return value

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Shows the library's warnings, and with `debug` all its records."""
        logger = logging.getLogger("imgstore")
        handler = _LineHandler(self)
        before = logger.level
        logger.addHandler(handler)
        if self.debug:
            logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)


class _LineHandler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.DEBUG if terminal.debug else logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if self._terminal.debug or record.name != _QUIET:
            self._terminal.say(f"{record.levelname.lower()}: {record.getMessage()}")


def sentence(error: BaseException, where: str | None = None, *, flags: bool = True) -> str:
    """Gives one line for a person: what went wrong, of what, and what would do.

    With `flags`, the options that a driver names are those of the command line.
    """
    if not isinstance(error, ImgstoreError):
        # The text of a foreign exception may hold anything; --debug shows it scrubbed.
        return f"unexpected {type(error).__name__}; this is a bug: please report it with what --debug shows"
    said = error.message or type(error).__name__
    if isinstance(error, AlreadyExistsError):
        said += "; --force replaces it"
    if isinstance(error, StoreError):
        said += _circumstances(error)
    if where and error.key is not None and where not in said:
        said = f"{where}: {said}"
    return _OPTION.sub(lambda found: _FLAGS.get(found[1], found[0]), said) if flags else said


def _redacted(found: re.Match[str]) -> str:
    """Gives a URL inside a sentence without secrets; the sentence's own punctuation and a `?...` stay."""
    bare = found[0].rstrip(".,:;")
    stop = len(bare) - bare.endswith("?")
    return redact_url(found[0][:stop]) + found[0][stop:]


def _circumstances(error: StoreError) -> str:
    told = []
    if error.offset and str(error.offset) not in error.message:
        told.append(f"at byte {error.offset}")
    cause = error.__cause__
    if isinstance(cause, ImgstoreError) and cause.message and cause.message not in error.message:
        told.append(f"last: {cause.message}")
    if error.request_id:
        told.append(f"request {error.request_id}")
    return f" ({', '.join(told)})" if told else ""


def _fields(error: BaseException) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": type(error).__name__, "message": sentence(error)}
    if isinstance(error, ImgstoreError):
        fields["message"] = error.message
        for name in ("offset", "attempts", "request_id", "retryable", "resumable"):
            fields[name] = getattr(error, name)
    return fields


def printable(text: str) -> str:
    """Gives `text` as one line in which nothing can steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Gives rows of equal length in aligned columns."""
    told = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in told)


def _written(write: Callable[..., object], *text: str) -> bool:
    """Writes to standard output; tells whether it has a reader. Raises: NoSpaceError, StorageIOError."""
    try:
        write(*text)
    except OSError as exc:
        _drop(1)
        if exc.errno != errno.EPIPE:
            from imgstore.publish import file_error

            raise file_error(exc, "cannot write to standard output") from exc
        return False
    return True


def _drop(descriptor: int) -> None:
    """Leads a standard descriptor nowhere: what is buffered would fail again, and louder, at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _write_error_line(line: str) -> None:
    if sys.stderr is None:
        return
    # A standard error that is gone is no reason to fail.
    try:
        sys.stderr.write(line + os.linesep)
        sys.stderr.flush()
    except OSError:
        _drop(2)
    except ValueError:
        pass
