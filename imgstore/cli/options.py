"""The options that commands share, and how their values are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from imgstore.cli.amounts import parse_seconds, parse_size
from imgstore.cli.location import Location, parse
from imgstore.cli.output import Terminal
from imgstore.errors import ConfigError

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # click 8.1 has no parameters for it

F = TypeVar("F", bound=Callable[..., Any])


class _Amount(_Type):
    """A number with a unit; `least` is the smallest that makes sense, or above 0 for None."""

    def __init__(self, name: str, read: Callable[[str], float], *, least: int | None = None) -> None:
        self.name = name
        self._read = read
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            amount = self._read(str(value))
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)
        if self._least is None and not amount > 0:
            self.fail(f"{value!r}: it is above 0", param, ctx)
        return amount


class _Location(_Type):
    name = "location"
    in_stores = False

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        return value if isinstance(value, Location) else parse(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from imgstore.cli.offers import locations

        return locations(ctx.ensure_object(Terminal), incomplete, in_stores=self.in_stores)


class _Stored(_Location):
    """A location that can only be in a store."""

    in_stores = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        location = super().convert(value, param, ctx)
        if location.kind == "store":
            return location
        raise ConfigError(f"{location.shown} is not in a store; what is, is written STORE:KEY")


class _StoreName(_Type):
    name = "store"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from imgstore.cli.offers import stores

        return stores(ctx.ensure_object(Terminal), incomplete)


class _Place(_Type):
    """A store or a folder."""

    name = "place"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from imgstore.cli.offers import places

        return places(ctx.ensure_object(Terminal), incomplete)


# The options that say how to ask a web server; a path or a store that comes with one is a mistake.
URL_OPTIONS: Final = (
    "headers",
    "user",
    "password_file",
    "token_file",
    "netrc",
    "netrc_file",
    "ca_file",
    "client_cert",
    "client_key",
    "proxy",
    "url_command",
    "allow_private",
)

# Of these, what lets the user in: it is for the servers that the user named, and for no others.
SECRET_OPTIONS: Final = (
    "headers",
    "user",
    "password_file",
    "token_file",
    "client_cert",
    "client_key",
    "url_command",
)

LOCATION = _Location()
STORED = _Stored()
STORE = _StoreName()
PLACE = _Place()
SIZE = _Amount("SIZE", parse_size, least=0)
POSITIVE_SIZE = _Amount("SIZE", parse_size)
SECONDS = _Amount("SECONDS", parse_seconds)
AGE = _Amount("TIME", parse_seconds, least=0)
FILE = click.Path(dir_okay=False)


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        ctx.ensure_object(Terminal).debug = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_debug,
    help="Log every step, and show where an error comes from.",
)


def _config_file(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Terminal).config_file = value


config_option = click.option(
    "--config-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    expose_value=False,
    callback=_config_file,
    help="Which stores there are. [default: $IMGSTORE_CONFIG, ~/.imgstore/imgstore.conf or "
    "/etc/imgstore/imgstore.conf]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object on standard output.")


name_option = click.option(
    "--name", metavar="NAME", help="Which image, of a manifest or a profile that has several."
)


def _file(name: str, told: str) -> Callable[[F], F]:
    return click.option(name, type=FILE, metavar="FILE", help=told)


def _seconds(name: str, told: str) -> Callable[[F], F]:
    return click.option(name, type=SECONDS, metavar="SECONDS", help=told)


timeout_option = _seconds("--timeout", "Give up after this time in all.")

_SOURCE_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _seconds(
        "--stall-timeout",
        "Reconnect when data has only trickled for this long. [default: 15, or as configured]",
    ),
    timeout_option,
    click.option("--limit-rate", type=POSITIVE_SIZE, metavar="RATE", help="Bytes a second, such as 10M."),
    click.option(
        "--parallel",
        type=click.IntRange(min=1),
        metavar="N",
        help="Read over up to N connections at once, as many as help. [default: 1, or as configured]",
    ),
    click.option(
        "--no-resume",
        is_flag=True,
        help="Fail at the first break instead of going on; cp then begins anew and keeps nothing.",
    ),
)

_URL_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="HEADER",
        help="Send 'NAME: VALUE' along, or with @FILE its lines, which no list of processes shows.",
    ),
    click.option(
        "--user", metavar="NAME", help="Log in; the password is in --password-file or IMGSTORE_PASSWORD."
    ),
    _file("--password-file", "Holds the password of --user."),
    _file("--token-file", "Holds a bearer token; read again after a 401."),
    click.option("--netrc", is_flag=True, help="Find user and password in ~/.netrc by host."),
    _file("--netrc-file", "The same in FILE."),
    _file("--ca-file", "Trust these authorities (PEM) instead of the system's."),
    _file("--client-cert", "Show this certificate (PEM, the key may be in it)."),
    _file("--client-key", "The key of --client-cert."),
    click.option("--proxy", metavar="URL", help="Go through this proxy."),
    click.option(
        "--url-command",
        metavar="COMMAND",
        help="Prints the presigned URL to read, given SRC's path; runs again when that has expired.",
    ),
    click.option("--allow-private", is_flag=True, help="Follow redirects to private addresses too."),
)


def source_options(function: F) -> F:
    """Adds the options of commands that read an image."""
    for option in reversed((*_SOURCE_OPTIONS, *_URL_OPTIONS, config_option, debug_option)):
        function = option(function)
    return function


def store_options(function: F) -> F:
    """Adds the options of commands that work on configured stores."""
    for option in reversed((config_option, debug_option)):
        function = option(function)
    return function


def layer_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the settings of the layers that the options of a source ask for."""
    settings: dict[str, Any] = {}
    if given["limit_rate"] is not None:
        settings["rate_limit"] = given["limit_rate"]
    if given["stall_timeout"] is not None:
        settings["stall_timeout"] = given["stall_timeout"]
    if given.get("resume_attempts"):
        settings["resume_attempts"] = given["resume_attempts"]
    if given["no_resume"]:
        settings["resume_attempts"] = 0
    if given.get("store_manifest"):
        settings["store_manifests"] = True
    if given["parallel"] is not None:
        settings["parallel"] = given["parallel"]
    return settings


def flag(name: str) -> str:
    """Gives the option `name` as it is typed, without its hyphens in front."""
    return {"headers": "header"}.get(name, name).replace("_", "-")


def read_secret(path: str, what: str) -> str:
    """Gives the first line of a file. Raises: ConfigError naming the file and why."""
    lines = _lines(path, what)
    if not lines or not lines[0]:
        raise ConfigError(f"{what} {path} is empty; its first line is the secret")
    return lines[0]


def read_headers(given: Iterable[str]) -> list[str]:
    """Gives the lines of extra headers; `@FILE` stands for the lines of a file.

    Raises: ConfigError, without the value, which may be secret.
    """
    headers: list[str] = []
    for each in given:
        lines = _lines(each[1:], "--header") if each.startswith("@") else [each]
        for line in filter(None, lines):
            name, colon, value = line.partition(":")
            if not colon or not name.strip() or not value.strip():
                raise ConfigError("--header is written 'NAME: VALUE', or @FILE with one such line for each")
            headers.append(f"{name.strip()}: {value.strip()}")
    return headers


def password(user: str, path: str | None) -> str:
    """Gives the password of `user` from the file or the environment. Raises: ConfigError."""
    if ":" in user:
        raise ConfigError("--user takes a name; the password is in --password-file or IMGSTORE_PASSWORD")
    if path is not None:
        return read_secret(path, "--password-file")
    found = os.environ.get("IMGSTORE_PASSWORD")
    if not found:
        raise ConfigError(f"--user {user} has no password; give --password-file or set IMGSTORE_PASSWORD")
    return found


def wants_json(argv: Iterable[str]) -> bool:
    """Tells whether the arguments ask for JSON, also where they cannot be parsed."""
    return "--json" in argv


def _lines(path: str, what: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(f"{what}: cannot read {path}: {why}") from exc
