"""Metalink 4 (RFC 5854), the file format of manifests: aria2 and mirror networks read it and write it.

What we read of a `<file>`: `<size>`, `<hash>` of the whole, `<pieces>` (chunks, in our words) and `<url>`;
the rest is passed over. What is ours alone, the key, the version and the pin, is one element of a namespace
of our own, which others pass over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final
from urllib.parse import quote, unquote

from imgstore.errors import ManifestError, UnsafeLocationError
from imgstore.manifest.bounded import LIMIT, Bounded, Readable, Writable
from imgstore.manifest.digests import ALGORITHMS, STRONG
from imgstore.manifest.draft import Draft, allowed_algorithms, number, pinned
from imgstore.manifest.image import LAST_PRIORITY, Manifest, SourceUrl, shortened
from imgstore.manifest.markup import SKIPPED, Element, parse
from imgstore.model import check_key

METALINK: Final = "urn:ietf:params:xml:ns:metalink"
OURS: Final = "urn:x-imgstore:manifest"
_OLDER: Final = "http://www.metalinker.org/"  # Metalink 3
_NAMELESS: Final = "image"  # `name` is required, and what a downloader calls the file
_FILE_LIMIT: Final = 10_000  # images in one file: each may be asked for by its name
_BATCH: Final = 1024  # chunk digests in one write
_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SAFE: Final = '/:;,=+@!$()*[]~"'  # left as they are in a key or version


def read_metalink(
    stream: Readable,
    *,
    allow: Collection[str] = STRONG,
    limit: int = LIMIT,
    pin: str | None = None,
    name: str | None = None,
) -> Manifest:
    """Gives the manifest of one image of a Metalink 4 file.

    `allow`: by what chunks may be proven; of several lists the strongest is taken, and a file that has only
    others is refused. Without any, the digest of a whole image of at most 256 MiB is that of its only chunk.
    `limit`: bytes that are read at most. `pin`: the manifest has to be this one. `name`: that of the
    `<file>`; may be left out where there is only one.

    Memory: the chunk digests, once, and less than 20 MiB whatever the file holds. The stream is read to its
    end and not closed.

    Raises: ManifestError naming the line for a file that is malformed, larger than the limit, weaker than
    allowed, or another than `pin` says; ConfigError for an unknown algorithm; what `stream.read` raises.
    """
    document = _Document(allowed_algorithms(allow), name)
    parse(Bounded(stream, limit), document)
    return pinned(document.chosen(), pin)


def write_metalink(manifest: Manifest, stream: Writable) -> None:
    """Writes the manifest as a Metalink 4 file with one `<file>`, named by the key.

    Equal manifests give equal bytes.

    Raises: what `stream.write` raises; some of the file may have been written.
    """
    key = manifest.key or _NAMELESS
    stream.write(
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<metalink xmlns="{METALINK}" xmlns:imgstore="{OURS}">\n'
            "  <generator>imgstore</generator>\n"
            f'  <file name="{_escaped(key if key.isprintable() else quote(key))}">\n'
            f"    <size>{manifest.size}</size>\n"
            f"{''.join(_image_lines(manifest))}"
            f'    <pieces type="{_iana(manifest.algorithm)}" length="{manifest.chunk_size}">\n'
        ).encode()
    )
    for at in range(0, len(manifest.chunks), _BATCH):
        batch = manifest.chunks[at : at + _BATCH]
        stream.write("".join(f"      <hash>{digest.hex()}</hash>\n" for digest in batch).encode())
    urls = "".join(map(_url_line, manifest.sources))
    stream.write(f"    </pieces>\n{urls}  </file>\n</metalink>\n".encode())


def _image_lines(manifest: Manifest) -> list[str]:
    told = {"key": manifest.key, "version": manifest.version, "pin": manifest.pin}
    ours = "".join(f' {name}="{_percented(text)}"' for name, text in told.items() if text is not None)
    whole = [f'    <hash type="{_iana(name)}">{value}</hash>\n' for name, value in manifest.digests.items()]
    return [f"    <imgstore:image{ours}/>\n", *whole]


def _url_line(source: SourceUrl) -> str:
    location = f' location="{source.location}"' if source.location else ""
    return f'    <url priority="{source.priority}"{location}>{_escaped(source.url)}</url>\n'


def _percented(text: str) -> str:
    """Gives `text` for an attribute of ours: a key and a version may hold what XML cannot."""
    return _escaped(quote(text, safe=_SAFE))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _iana(name: str) -> str:
    """Gives the name of an algorithm as the IANA registry of hash function names has it: sha-256."""
    return re.sub(r"^sha(?=\d{3}$|1$)", "sha-", name).replace("_", "-")


def _hashlib(name: str) -> str:
    """Gives the name of an algorithm as `hashlib` has it, also for who left the registry's hyphen out."""
    return re.sub(r"^sha-(?=\d)", "sha", name.strip().lower()).replace("-", "_")


class _Text(Element):
    """An element that is its text, without the space around it."""

    keeps_text = True

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        raise ManifestError("an element lies within one that holds text only")

    def end(self, text: str) -> None:
        self._take(text.strip())


class _Document(Element):
    """The file as a whole; it knows which `<file>` is wanted."""

    def __init__(self, allow: frozenset[str], wanted: str | None) -> None:
        self.allow = allow
        self.wanted = wanted
        self.names: set[str] = set()
        self.found: Manifest | None = None

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        space, _, local = name.rpartition(" ")
        if local == "metalink" and space == METALINK:
            return _Metalink(self)
        if local == "metalink" and space == _OLDER:
            raise ManifestError("this is Metalink 3; Metalink 4 (RFC 5854) would do")
        raise ManifestError(f"the document is {shortened(name)}; <metalink xmlns={METALINK!r}> would do")

    def chosen(self) -> Manifest:
        if self.found is not None:
            return self.found
        if self.wanted is None:
            raise ManifestError("there is no <file> in it")
        raise ManifestError(
            f"there is no <file> named {shortened(self.wanted)}; one of {_some(self.names)} would do"
        )


class _Metalink(Element):
    def __init__(self, document: _Document) -> None:
        self._document = document

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        if name != f"{METALINK} file":
            return SKIPPED
        document = self._document
        called = _file_name(attributes.get("name"))
        if called in document.names:
            raise ManifestError(f"<file name={shortened(called)}> is there twice")
        if len(document.names) == _FILE_LIMIT:
            raise ManifestError(f"more than {_FILE_LIMIT} <file> in one document are not read")
        document.names.add(called)
        if document.wanted is None and len(document.names) > 1:
            raise ManifestError(
                f"there are several <file>: the name of one, as {_some(document.names)}, would do"
            )
        return _File(document) if document.wanted in {None, called} else SKIPPED


def _file_name(name: str | None) -> str:
    """Gives the name of a file: a relative path that leaves no folder (RFC 5854 section 4.1.2.1)."""
    if name is None:
        raise ManifestError("<file> has no name")
    try:
        return check_key(name)
    except UnsafeLocationError as exc:
        raise ManifestError(f"<file> is no safe name of a file: {exc}") from exc


def _some(names: Collection[str]) -> str:
    return ", ".join(shortened(each) for each in sorted(names)[:3])


class _File(Element):
    def __init__(self, document: _Document) -> None:
        self._document = document
        self._draft = Draft(document.allow)

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        space, _, local = name.rpartition(" ")
        if space == OURS and local == "image":
            return self._image(attributes)
        if space != METALINK:
            return SKIPPED
        if local == "size":
            return _Text(self._draft.set_size)
        if local == "hash":
            return self._hash(attributes)
        if local == "pieces":
            return self._pieces(attributes)
        if local == "url":
            return self._url(attributes)
        return SKIPPED

    def end(self, text: str) -> None:
        self._document.found = self._draft.finish()

    def _image(self, attributes: Mapping[str, str]) -> Element:
        draft = self._draft
        if (draft.key, draft.version, draft.pin) != (None, None, None):
            raise ManifestError("our element of the image is there twice")
        key, version, draft.pin = (attributes.get(each) for each in ("key", "version", "pin"))
        draft.key = None if key is None else unquote(key)
        draft.version = None if version is None else unquote(version)
        return SKIPPED

    def _hash(self, attributes: Mapping[str, str]) -> Element:
        if "type" not in attributes:
            raise ManifestError("<hash> of the file has no type; one as 'sha-256' would do")
        name = _hashlib(attributes["type"])
        if not _NAME.fullmatch(name):
            return SKIPPED  # RFC 5854 section 5.3: what is not known is passed over
        return _Text(lambda text: self._draft.add_digest(name, text))

    def _pieces(self, attributes: Mapping[str, str]) -> Element:
        name = _hashlib(attributes.get("type", ""))
        length = number("the length of the pieces", attributes.get("length", ""))
        if name not in ALGORITHMS:
            return SKIPPED
        chunks = self._draft.offer(name, length)
        return SKIPPED if chunks is None else _Pieces(chunks.add)

    def _url(self, attributes: Mapping[str, str]) -> Element:
        priority = number("the priority of a location", attributes.get("priority", str(LAST_PRIORITY)))
        country = attributes.get("location", "")
        # A hint, and there are writers that have "--" for a host of nowhere.
        location = country.lower() if _COUNTRY.fullmatch(country) else None
        return _Text(lambda text: self._draft.add_source(SourceUrl(text, priority, location)))


class _Pieces(Element):
    def __init__(self, add: Callable[[str], None]) -> None:
        self._hash = _Text(add)

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        return self._hash if name == f"{METALINK} hash" else SKIPPED
