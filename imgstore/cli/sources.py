"""The sources of a copy: the places of one image, which stand in for one another."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imgstore.cli.location import Location, parse
from imgstore.cli.options import SECRET_OPTIONS, URL_OPTIONS, flag
from imgstore.cli.output import Terminal
from imgstore.cli.source import Source, opened
from imgstore.errors import ConfigError, redact_url
from imgstore.model import Event
from imgstore.store import Store

if TYPE_CHECKING:
    from imgstore.manifest import Manifest

# A manifest is a file from elsewhere: it is not to choose what is read with this user's rights and keys.
_SCHEMES = frozenset({"http", "https"})
_NEVER_SENT = (*SECRET_OPTIONS, "netrc", "netrc_file")


@dataclass(frozen=True, slots=True)
class _Place:
    """One place of the image, what it is opened with, and how good it is: 1 is the best."""

    location: Location
    given: dict[str, Any]
    priority: int


@contextlib.contextmanager
def joined(
    locations: Sequence[Location],
    given: dict[str, Any],
    terminal: Terminal,
    stores: Mapping[str, Store],
    observe: Callable[[Event], None] | None = None,
) -> Iterator[Source]:
    """Gives the image at `locations`, the best first, as one source; closed at the end.

    Where the manifest that is to prove it, `given["prove"]`, names further copies, they are the next best.
    The rest is as in `opened`. Nothing is requested.

    Raises: ConfigError for places that cannot stand in for one another, and as `opened`.
    """
    manifest: Manifest | None = given.get("prove")
    named = [] if manifest is None else _named(manifest, locations, given, terminal)
    if len(locations) + len(named) == 0:
        raise ConfigError("the manifest names no copy that can be read; give SRC as well")
    if not named and len(locations) == 1:
        with opened(locations[0], given, terminal, stores, observe) as source:
            yield source
        return
    places = [*_typed(locations, given, web=bool(named)), *named]
    with ExitStack() as stack:
        yield _mirror([*_distinct(places)], manifest, terminal, stores, observe=observe, stack=stack)


def name_of(locations: Sequence[Location], manifest: Manifest | None) -> str:
    """Gives what the image is called, for a target that does not say; empty where nobody does.

    Places that call it differently may well be of different images: then only a manifest names it.
    """
    names = {each.name for each in locations}
    if len(names) == 1:
        return names.pop()
    if manifest is None:
        return ""
    if manifest.key is not None:
        return manifest.key.rpartition("/")[2]
    for source in manifest.sources:
        with contextlib.suppress(ConfigError):
            return parse(source.url).name
    return ""


def _typed(locations: Sequence[Location], given: dict[str, Any], *, web: bool) -> list[_Place]:
    """Gives the places that the user named; `web` says that others are on web servers.

    Raises: ConfigError.
    """
    for location, count in Counter(locations).items():
        if location.kind == "standard":
            raise ConfigError("standard input has no other copies; give - as the only SRC")
        if count > 1:
            raise ConfigError(f"{location.shown} is given twice; once would do")
    _check_secrets(locations, given)
    web = web or any(each.kind == "url" for each in locations)
    # where nobody has a use for them, the first place complains
    plain = {**given, **dict.fromkeys(URL_OPTIONS)} if web else given
    return [
        _Place(each, given if each.kind == "url" else plain, priority)
        for priority, each in enumerate(locations, 1)
    ]


def _named(
    manifest: Manifest, locations: Sequence[Location], given: dict[str, Any], terminal: Terminal
) -> list[_Place]:
    """Gives the further places that a manifest names; what lets the user in is not sent there."""
    typed = {each.text for each in locations}
    plain = {**given, **dict.fromkeys(_NEVER_SENT)}
    places, left_out = [], []
    for source in manifest.sources:
        if source.url in typed:
            continue
        try:
            if source.url.partition(":")[0].lower() not in _SCHEMES:
                raise ConfigError("its scheme is another")
            location = parse(source.url)
        except ConfigError:
            left_out.append(redact_url(source.url))
        else:
            places.append(_Place(location, plain, len(locations) + source.priority))
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        terminal.say(f"{left_out[0]}{more} in the manifest left out: it is read for http and https alone")
    return places


def _check_secrets(locations: Sequence[Location], given: dict[str, Any]) -> None:
    """Refuses options that let the user in where it is not clear which server they are for."""
    secret = next((name for name in SECRET_OPTIONS if given[name]), None)
    urls = [each for each in locations if each.kind == "url"]
    if secret is None or len({urlsplit(each.text)[:2] for each in urls}) == 1:
        return
    if not urls:
        raise ConfigError(f"--{flag(secret)} is for a URL as SRC, and there is none")
    told = " and ".join(each.shown for each in urls)
    raise ConfigError(f"--{flag(secret)} would be sent to {told}; configure a store for each")


def _distinct(places: Iterable[_Place]) -> Iterator[_Place]:
    """Gives the places under names of their own: two URLs may differ in what is not shown."""
    seen: Counter[str] = Counter()
    for place in places:
        location = place.location
        seen[location.shown] += 1
        if (count := seen[location.shown]) > 1:
            location = replace(location, shown=f"{location.shown} ({count})")
        yield replace(place, location=location)


def _mirror(
    places: Sequence[_Place],
    manifest: Manifest | None,
    terminal: Terminal,
    stores: Mapping[str, Store],
    *,
    observe: Callable[[Event], None] | None,
    stack: ExitStack,
) -> Source:
    from imgstore.stack import LEG_ATTEMPTS, leg, mirrored

    sources, legs = [], []
    worst = max(place.priority for place in places)
    for place in places:
        # the mirror has each leg proven
        given = {**place.given, "prove": None, "resume_attempts": None}
        if place.priority < worst:
            given["resume_attempts"] = LEG_ATTEMPTS
        source = stack.enter_context(opened(place.location, given, terminal, stores, observe))
        if source.store is not None:
            legs.append(leg(source.store, source.key, priority=place.priority, name=place.location.shown))
        sources.append(source)
    terminal.where = None  # each leg's error says where itself
    first = sources[0]
    mirror = mirrored(legs, key=first.key, manifest=manifest)
    return replace(first, store=mirror, file=None)
