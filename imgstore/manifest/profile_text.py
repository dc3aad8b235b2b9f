"""Writing of a manifest into a YAML image profile, in place: the rest stays as it is, to the byte.

The text is changed between two characters that the parser named, and never made anew from what was parsed:
so comments, order, quoting and anchors of the rest are kept. docs/decisions/0013-manifests.md has the choice.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from imgstore.errors import ManifestError
from imgstore.manifest.bounded import BLOCK, LIMIT, Bounded, Readable, Writable
from imgstore.manifest.digests import ALGORITHMS
from imgstore.manifest.image import Manifest, shortened
from imgstore.manifest.profile import ProfileImage, images, read_profile
from imgstore.manifest.yaml_events import Document, Node

_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # YAML 1.1 section 4.1.4
# What JSON leaves as it is and YAML reads otherwise or not at all (YAML 1.1 section 4.1.1).
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_BOM: Final = "\ufeff"


def write_profile(
    manifest: Manifest, stream: Writable, *, profile: Readable | None = None, name: str | None = None
) -> None:
    """Writes a profile that holds the manifest: `profile` with that change alone, or a new one.

    `profile`: the old one, UTF-8, at most 64 MiB; it is read to its end before anything is written, and not
    closed. `name`: of its image; may be left out where it has only one. An older manifest of that image is
    replaced, with the comments in it. The profile is held in memory, a few times.

    Raises: ManifestError for a profile that is malformed, or into which the manifest does not fit so that it
    can be read back: nothing was written. What the streams raise.
    """
    if profile is None:
        text = f"images:\n- name: {_quoted(name or manifest.key or 'image')}\n"
    else:
        text = _decoded(profile)
    bom, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    if text.startswith(_BOM):
        raise ManifestError("YAML, line 1: the profile begins with two byte order marks; one may stand there")
    new = _inserted(text, _chosen(text, name), manifest)
    # A line put between others may not fit: an older manifest behind "? " is such a case.
    read_profile(io.BytesIO(new.encode()), allow=ALGORITHMS, limit=1 << 62, pin=manifest.pin, name=name)
    stream.write((bom + new).encode())


def _decoded(profile: Readable) -> str:
    bounded = Bounded(profile, LIMIT)
    data = bytearray()
    while block := bounded.read(BLOCK):
        data += block
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ManifestError(f"YAML, line {line}: the profile is not UTF-8") from exc


def _chosen(text: str, name: str | None) -> ProfileImage:
    """Gives the image of that name, or the only one. Raises: ManifestError where that is not one."""
    found = [
        image
        for image in images(Document(io.StringIO(text)), manifests=False)
        if not image.lists_others and (name is None or name in image.names)
    ]
    if len(found) == 1:
        return found[0]
    called = "" if name is None else f" named {shortened(name)}"
    wanted = "; the name of one would do" if name is None and found else ""
    raise ManifestError(f"YAML: the profile has {len(found)} images{called}{wanted}")


def _inserted(text: str, image: ProfileImage, manifest: Manifest) -> str:
    if image.start.flow:
        return _inserted_in_brackets(text, image, manifest)
    line_break = found[0] if (found := _BREAK.search(text)) else "\n"
    if image.key is not None and image.end is not None:
        indent, start, stop = image.key.column, image.key.start, _line_end(text, image.end)
    elif image.last is not None:
        indent, start = image.start.column, _line_end(text, image.last)
        stop = start
    else:
        raise ManifestError(f"YAML, line {image.start.line}: the image is an empty mapping")
    before, after = text[:start], text[stop:]
    if image.key is None:
        before += ("" if _ends_a_line(before) else line_break) + " " * indent
    lines = line_break.join(_lines(manifest, indent))
    return f"{before}{lines}{line_break}{after}"


def _inserted_in_brackets(text: str, image: ProfileImage, manifest: Manifest) -> str:
    """As `_inserted` for an image in brackets: on one line, as JSON, so that a JSON profile stays one."""
    pair = f'"manifest": {_quoted(_told(manifest))}'
    if image.key is not None and image.end is not None:
        return text[: image.key.start] + pair + text[image.end.stop :]
    at = image.start.stop
    if text[image.start.start : at] != "{":  # a single pair may do without: YAML 1.2.2, example 7.21
        raise ManifestError(
            f"YAML, line {image.start.line}: the image stands in brackets without braces of its own; add them"
        )
    return f"{text[:at]}{pair}{', ' if image.last is not None else ''}{text[at:]}"


def _ends_a_line(text: str) -> bool:
    return text[-1:] in {"\n", "\r", "\x85", "\u2028", "\u2029"}


def _line_end(text: str, leaf: Node) -> int:
    """Gives where the line after `leaf` begins, or the text ends: the rest of its own can only be comment."""
    if leaf.style in {"|", ">"}:
        return leaf.stop  # which is behind its last line
    found = _BREAK.search(text, leaf.stop)
    return found.end() if found else len(text)


def _told(manifest: Manifest) -> dict[str, Any]:
    """Gives what a profile says of a manifest, the long list last."""
    told: dict[str, Any] = {
        "size": manifest.size,
        "chunk_size": manifest.chunk_size,
        "algorithm": manifest.algorithm,
        "pin": manifest.pin,
        "key": manifest.key,
        "version": manifest.version,
        "digests": dict(manifest.digests),
        "sources": [
            {"url": each.url, "priority": each.priority}
            | ({"location": each.location} if each.location else {})
            for each in manifest.sources
        ],
    }
    optional = {"key", "version", "digests", "sources"}
    told = {name: value for name, value in told.items() if value or name not in optional}
    return {**told, "chunks": [each.hex() for each in manifest.chunks]}


def _lines(manifest: Manifest, indent: int) -> Iterator[str]:
    """Gives the lines of the manifest; the first stands behind what its line has already."""
    space = " " * indent
    yield "manifest:"
    for name, value in _told(manifest).items():
        if isinstance(value, dict):
            yield f"{space}  {name}:"
            yield from (f"{space}    {key}: {_quoted(each)}" for key, each in value.items())
        elif isinstance(value, list) and value:
            yield f"{space}  {name}:"
            yield from (f"{space}  - {_quoted(each)}" for each in value)
        else:
            yield f"{space}  {name}: {_quoted(value)}"


def _quoted(value: Any) -> str:
    """Gives `value` in JSON that YAML reads as the same: quoted, so that no digest is taken for a number."""
    shown = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
