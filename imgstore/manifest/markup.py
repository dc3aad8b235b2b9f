"""XML from strangers: streamed through expat, in bounded memory and time, and no more of XML than data needs.

There is no document type, so no entity and nothing external; elements and attributes are few in kinds, and
shallow. docs/decisions/0013-manifests.md says why it is expat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

from imgstore.errors import ManifestError
from imgstore.manifest.bounded import BLOCK, DENSITY, Bounded

DEPTH_LIMIT: Final = 32  # Metalink has five levels
# Different names of elements, attributes and prefixes: expat keeps each to the end. Metalink has thirty.
NAME_LIMIT: Final = 1024
ELEMENT_LIMIT: Final = 10_000  # elements that may be there beside those of 32 bytes each
TEXT_LIMIT: Final = 16 << 10  # characters of one text that is kept: twice the longest URL
# Bytes between what was handed in and what came out. Before 2.6, expat reads an unfinished token again from
# its start with each block (CVE-2023-52425); this many are read again four times at most.
TOKEN_LIMIT: Final = 4 * BLOCK
# XML 1.0 section 4.3.3 asks for UTF-8 and UTF-16, of which expat knows the latter by its first two bytes.
_ENCODINGS: Final = frozenset({"utf-8", "us-ascii", "utf-16"})


class Element:
    """What is done with an element: this one passes over it and all within."""

    keeps_text: bool = False

    def child(self, name: str, attributes: Mapping[str, str]) -> Element:
        """Gives what is done with an element within. `name`: `NAMESPACE NAME`, or the name alone."""
        return SKIPPED

    def end(self, text: str) -> None:
        """Is told the end, with the text of the element itself where it keeps that."""


SKIPPED: Final = Element()


class _Elements:
    """The elements of one document that are open. It does not hold expat's parser, which holds it."""

    def __init__(self, document: Element) -> None:
        self._open = [document]
        self._names: set[str] = set()
        self.count = 0
        self._text: list[str] = []
        self._length = 0

    def handled(self) -> expat.XMLParserType:
        """Gives a parser of expat that calls this one."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartNamespaceDeclHandler = self._namespace
        return parser

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > DEPTH_LIMIT:
            raise ManifestError(f"elements lie deeper than {DEPTH_LIMIT} in one another")
        self._known(name, *attributes)
        self.count += 1
        self._open.append(self._open[-1].child(name, attributes))
        self._forget()

    def _end(self, name: str) -> None:
        text = "".join(self._text)
        self._forget()
        self._open.pop().end(text)

    def _characters(self, text: str) -> None:
        if not self._open[-1].keeps_text:
            return
        self._length += len(text)
        if self._length > TEXT_LIMIT:
            raise ManifestError(f"a text of more than {TEXT_LIMIT} characters is none that belongs here")
        self._text.append(text)

    def _forget(self) -> None:
        self._text.clear()
        self._length = 0

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        self._known(prefix or "", uri or "")

    def _known(self, *names: str) -> None:
        self._names.update(names)
        if len(self._names) > NAME_LIMIT:
            raise ManifestError(f"elements and attributes have more than {NAME_LIMIT} different names")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        # For one that expat does not know, pyexpat would ask any codec of Python.
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise ManifestError(f"the encoding is {encoding[:40]!r}; UTF-8 would do")

    def _doctype(self, *declared: object) -> None:
        raise ManifestError("a document type (DTD) is not read, nor is an entity: a manifest needs none")


def parse(source: Bounded, document: Element) -> None:
    """Hands the document element, and through it all others, to `document`.

    Memory: two blocks of 64 KiB, an unfinished token of at most 256 KiB, and what the elements keep.

    Raises: ManifestError naming the line for what is no well-formed XML, goes beyond the limits above, or is
    refused by an element; what `source` raises.
    """
    elements = _Elements(document)
    parser = elements.handled()
    fed = 0
    try:
        while block := source.read(BLOCK):
            fed += len(block)
            parser.Parse(block, False)  # noqa: FBT003  # expat takes no keywords
            if fed - parser.CurrentByteIndex > TOKEN_LIMIT:
                raise ManifestError(f"a comment, tag or text of more than {TOKEN_LIMIT} bytes is not read")
            if elements.count > ELEMENT_LIMIT + fed // DENSITY:
                raise ManifestError(f"{elements.count} elements in {fed} bytes are too many for a manifest")
        parser.Parse(b"", True)  # noqa: FBT003
    except ManifestError as exc:
        raise ManifestError(f"XML, line {parser.CurrentLineNumber}: {exc}") from exc
    except expat.ExpatError as exc:
        what = expat.errors.messages.get(exc.code, "malformed")
        raise ManifestError(f"XML, line {exc.lineno}: not well-formed: {what}") from exc
