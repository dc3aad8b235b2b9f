"""The manifest inside a YAML image profile, as Fuel's image builder leaves one beside its images.

A profile is a mapping with a list `images`, or the mapping of one image itself. The mapping of an image has a
`name`, or as Fuel has it a `container_name` or `raw_name`, and gains one key, `manifest`:

    images:
    - container_name: root.img.gz
      container_md5: 9e107d9d372bb6826bd81d3542a419d6
      manifest:
        size: 10485760
        chunk_size: 4194304
        algorithm: sha256
        pin: "sha256:..."
        key: "root.img.gz"              # of the image that it was made of; likewise `version`
        digests:
          sha256: "..."
        sources:
        - {"url": "https://mirror.example/root.img.gz", "priority": 1, "location": "de"}
        chunks:
        - "..."
        - "..."

`size`, `chunk_size`, `algorithm` and `chunks` have to be there; other keys are passed over. Inside `manifest`
there are no anchors, aliases and tags; elsewhere in the profile they are nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

from imgstore.errors import ManifestError
from imgstore.manifest.bounded import LIMIT, Bounded, Readable
from imgstore.manifest.digests import ALGORITHMS, STRONG
from imgstore.manifest.draft import ChunkList, Draft, allowed_algorithms, number, pinned
from imgstore.manifest.image import LAST_PRIORITY, Manifest, SourceUrl, shortened
from imgstore.manifest.yaml_events import Document, Node, wrong

_NAMES: Final = frozenset({"name", "container_name", "raw_name"})
_SCALARS: Final = frozenset({"size", "chunk_size", "algorithm", "pin", "key", "version"})
_BY_DIGITS: Final = {2 * width: name for name, width in ALGORITHMS.items()}

_P = ParamSpec("_P")
_T = TypeVar("_T")


def read_profile(
    stream: Readable,
    *,
    allow: Collection[str] = STRONG,
    limit: int = LIMIT,
    pin: str | None = None,
    name: str | None = None,
) -> Manifest:
    """Gives the manifest of one image of a profile.

    `name`: of the image; may be left out where only one has a manifest. The rest, the memory and the errors
    are those of `read_metalink`.
    """
    allowed = allowed_algorithms(allow)
    found: ProfileImage | None = None
    for image in images(Document(Bounded(stream, limit))):
        if image.manifest is None or (name is not None and name not in image.names):
            continue
        if found is not None:
            raise wrong(image.start, "several images would do: the name of one, that only one has, is needed")
        found = image
    if found is None or found.manifest is None:
        whose = "any image" if name is None else f"an image named {shortened(name)}"
        raise ManifestError(f"YAML: the profile has no manifest of {whose}")
    return pinned(found.manifest.finish(allowed), pin)


@dataclass
class ProfileImage:
    """The mapping of one image: what it says, and where that stands."""

    start: Node
    lists_others: bool = False  # it is the profile itself, and has a list of images
    names: set[str] = field(default_factory=set)
    last: Node | None = None  # the last leaf in it
    key: Node | None = None  # that of the manifest
    end: Node | None = None  # the last leaf of the manifest
    manifest: ProfileManifest | None = None


def images(document: Document, *, manifests: bool = True) -> Iterator[ProfileImage]:
    """Gives each image of a profile, at its end, and last the profile itself.

    Without `manifests` those are passed over, whatever they are.

    Raises: ManifestError naming the line for what is no profile; what the source raises.
    """
    root = document.next()
    if root.kind != "mapping":
        raise wrong(root, "a profile is a mapping")
    yield from _image(document, root, manifests=manifests, whole=True)
    document.close()


def _image(
    document: Document, start: Node, *, manifests: bool, whole: bool = False
) -> Iterator[ProfileImage]:
    image = ProfileImage(start)
    for key, value in document.pairs():
        if key.text == "manifest":
            image.key = key
            if manifests:
                image.manifest = _manifest(document, value)
            else:
                document.skip(value)
            image.end = document.leaf
        elif whole and key.text == "images":
            image.lists_others = True
            for member in _members(document, value, "images"):
                if member.kind != "mapping":
                    raise wrong(member, "an image of a profile is a mapping")
                yield from _image(document, member, manifests=manifests)
        elif key.text in _NAMES and value.kind == "scalar":
            image.names.add(value.text)
        else:
            document.skip(value)
        image.last = document.leaf
    yield image


class ProfileManifest:
    """The value of a `manifest`, as far as it was read."""

    def __init__(self, start: Node) -> None:
        self.start = start
        self.draft = Draft(frozenset())
        self.algorithm: str | None = None
        self.chunk_size: int | None = None

    def take(self, name: str, text: str) -> None:
        """Takes a value that is a scalar. Raises: ManifestError for one that cannot be."""
        if name == "size":
            self.draft.set_size(text)
        elif name == "chunk_size":
            self.chunk_size = number("the chunk size", text)
        elif name == "algorithm":
            self.algorithm = text
        else:
            setattr(self.draft, name, text)

    def add(self, text: str) -> None:
        """Takes the next chunk's digest; the first one tells the algorithm by its length.

        Raises: ManifestError for what is none.
        """
        if self.draft.chunks is None:
            # What is no digest of anything is refused as none of SHA-256.
            self.draft.chunks = ChunkList(_BY_DIGITS.get(len(text), "sha256"), 0)
        self.draft.chunks.add(text)

    def finish(self, allowed: frozenset[str]) -> Manifest:
        """Gives the manifest. Raises: ManifestError for one that is not whole, or is weaker than allowed."""
        try:
            return self._finish(allowed)
        except ManifestError as exc:
            raise wrong(self.start, str(exc)) from exc

    def _finish(self, allowed: frozenset[str]) -> Manifest:
        if self.chunk_size is None or self.algorithm is None:
            raise ManifestError("a manifest has a size, a chunk_size, an algorithm and chunks")
        if self.algorithm not in allowed:
            wanted = ", ".join(sorted(allowed)) or "an allowed algorithm"
            raise ManifestError(
                f"chunk digests of {wanted} are missing: there are {shortened(self.algorithm)}"
            )
        chunks = self.draft.chunks or ChunkList(self.algorithm, 0)
        if chunks.algorithm != self.algorithm:
            raise ManifestError(
                f"the chunk digests have the length of {chunks.algorithm}, not {self.algorithm}"
            )
        chunks.chunk_size = self.chunk_size
        self.draft.chunks = chunks
        return self.draft.finish()


def _manifest(document: Document, start: Node) -> ProfileManifest | None:
    if start.kind == "scalar" and _text(start) is None:
        return None
    if start.kind != "mapping" or start.marked:
        raise wrong(start, "the manifest is no mapping, or has a tag or an anchor")
    manifest = ProfileManifest(start)
    for key, value in document.pairs():
        _part(document, manifest, key.text, value)
    return manifest


def _part(document: Document, manifest: ProfileManifest, name: str, value: Node) -> None:
    if name in _SCALARS:
        if (text := _text(value)) is not None:
            _placed(value, manifest.take, name, text)
    elif name == "chunks":
        for each in _members(document, value, name):
            _placed(each, manifest.add, _text(each) or "")
    elif name == "digests":
        _digests(document, value, manifest.draft)
    elif name == "sources":
        for each in _members(document, value, name):
            _placed(each, manifest.draft.add_source, _source(document, each))
    else:
        document.skip(value)


def _digests(document: Document, start: Node, draft: Draft) -> None:
    if start.kind != "mapping":
        raise wrong(start, "the digests are a mapping of an algorithm to hexadecimal digits")
    for key, value in document.pairs():
        _placed(key, draft.add_digest, key.text, _text(value) or "")


def _source(document: Document, start: Node) -> SourceUrl:
    if start.kind != "mapping":
        raise wrong(start, "a source is a mapping with a url")
    told: dict[str, str] = {}
    for key, value in document.pairs():
        if key.text in {"url", "priority", "location"}:
            if (text := _text(value)) is not None:
                told[key.text] = text
        else:
            document.skip(value)
    return _placed(start, _source_url, told)


def _source_url(told: Mapping[str, str]) -> SourceUrl:
    priority = number("the priority of a location", told.get("priority", str(LAST_PRIORITY)))
    return SourceUrl(told.get("url", ""), priority, told.get("location"))


def _members(document: Document, start: Node, what: str) -> Iterator[Node]:
    if start.kind != "list":
        raise wrong(start, f"{what} is no list")
    return document.members()


def _text(node: Node) -> str | None:
    """Gives what a scalar says, None for YAML's null. Raises: ManifestError for all else."""
    if node.kind != "scalar" or node.marked:
        raise wrong(node, "a manifest has a plain value here, without anchor, alias or tag")
    return None if not node.style and node.text in {"", "~", "null"} else node.text


def _placed(node: Node, take: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Calls `take`, and has what it refuses tell the line of `node`."""
    try:
        return take(*args, **kwargs)
    except ManifestError as exc:
        raise wrong(node, str(exc)) from exc
