"""YAML from strangers: as a stream of events, of which nothing is ever constructed.

So no tag names a class, no alias is followed or multiplied, and what nobody asks for costs nothing to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from imgstore.errors import ManifestError
from imgstore.manifest.bounded import DENSITY
from imgstore.manifest.image import shortened

DEPTH_LIMIT: Final = 32  # a profile has five levels
KEY_LIMIT: Final = 10_000  # keys of one mapping: they are kept to see that none is there twice
# Bytes between two nodes: what a scalar may hold, or a comment. User data of a machine has 64 KiB at most. Of
# directives, which libyaml compares each with all others, so many take less than two seconds.
TOKEN_LIMIT: Final = 256 << 10

NODE_LIMIT: Final = 1_000_000  # nodes that may be there beside those of 32 bytes each

Kind: TypeAlias = Literal["scalar", "list", "mapping", "end", "alias"]


class Source(Protocol):
    """What YAML is read from: `size` bytes or characters at most, none only at the end."""

    def read(self, size: int, /) -> bytes | str: ...


@dataclass(slots=True)
class Node:
    """The beginning or the end of a part of a document. `line` is counted from 1, the rest in characters."""

    kind: Kind
    line: int
    column: int
    start: int
    stop: int
    text: str
    style: str  # of a scalar: its quotes, `|` or `>` for one on lines of its own, empty for a plain one
    flow: bool  # of a list, a mapping and their end: in brackets, as JSON has them
    marked: bool  # with a tag or an anchor


class Document:
    """The only document of a source, node after node. Belongs to one thread.

    Memory: one node, the keys of the mappings that are open, and what the parser reads ahead.
    """

    def __init__(self, source: Source) -> None:
        self._source = _Watched(source)
        self._events = _events(self._source)
        self._open: list[bool] = []  # whether each list and mapping is in brackets
        self._count = 0
        self.leaf: Node | None = None  # the last node that a line can end with

    def next(self) -> Node:
        """Gives the next node.

        Raises: ManifestError naming the line for what is not well-formed, too deep or too long; what the
        source raises.
        """
        event = next(self._events, None)
        if event is None:
            raise ManifestError("YAML, line 1: the document is empty; a mapping would do")
        node = _node(event)
        self._source.since = 0
        self._count += 1
        if self._count > NODE_LIMIT + self._source.fed // DENSITY:
            raise wrong(node, f"{self._count} values in {self._source.fed} bytes are too many for a profile")
        if node.kind == "end":
            node.flow = self._open.pop()
        elif node.kind in {"list", "mapping"}:
            self._open.append(node.flow)
            if len(self._open) > DEPTH_LIMIT:
                raise wrong(node, f"lists and mappings lie deeper than {DEPTH_LIMIT} in one another")
            return node
        if node.kind != "end" or node.flow:
            self.leaf = node
        return node

    def members(self) -> Iterator[Node]:
        """Gives the beginning of each member of the list or mapping that begins with the last node.

        The caller takes each to its end before it asks for another.
        """
        while (node := self.next()).kind != "end":
            yield node

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """As `members`, each key with the beginning of its value.

        Raises: ManifestError for a key that is there twice.
        """
        seen: set[str] = set()
        for key in self.members():
            if key.kind == "scalar":
                if key.text in seen:
                    raise wrong(key, f"{shortened(key.text)} is there twice")
                seen.add(key.text)
                if len(seen) > KEY_LIMIT:
                    raise wrong(key, f"a mapping has more than {KEY_LIMIT} keys")
            self.skip(key)
            yield key, self.next()

    def skip(self, node: Node) -> None:
        """Passes over the part that begins with `node`."""
        if node.kind in {"list", "mapping"}:
            for each in self.members():
                self.skip(each)

    def close(self) -> None:
        """Reads on to the end. Raises: ManifestError for a second document, and as `next`."""
        for event in self._events:
            raise wrong(_node(event), "a second document begins; one would do")


def wrong(node: Node, what: str) -> ManifestError:
    """Gives the error that says `what` of `node`."""
    return ManifestError(f"YAML, line {node.line}: {what}")


class _Watched:
    """A source that refuses to feed one node for ever."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.since = self.fed = 0

    def read(self, size: int = 16 << 10) -> bytes | str:
        data = self._source.read(size)
        self.since += len(data)
        self.fed += len(data)
        if self.since > TOKEN_LIMIT:
            raise ManifestError(f"YAML: a text or comment of more than {TOKEN_LIMIT} bytes is not read")
        return data


def _events(source: _Watched) -> Iterator[Any]:
    import yaml  # type: ignore[import-untyped]

    # libyaml where PyYAML was built with it, as its wheels are: thirty times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    around = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    try:
        for event in yaml.parse(source, Loader=loader):
            if getattr(event, "tags", None):
                # Each short tag would be as long as the text that it stands for.
                raise ManifestError(f"YAML, line {event.start_mark.line + 1}: a %TAG directive is not read")
            if not isinstance(event, around):
                yield event
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "malformed"
        raise ManifestError(f"YAML{where}: not well-formed: {what}") from exc
    except ManifestError:
        raise
    except (ValueError, OverflowError) as exc:
        # PyYAML without libyaml: a character \\UFFFFFFFF, a version of five thousand digits
        raise ManifestError(f"YAML: not well-formed: {shortened(str(exc))}") from exc


def _node(event: Any) -> Node:
    name = type(event).__name__
    start, stop = event.start_mark, event.end_mark
    return Node(
        _KINDS.get(name, "end"),
        start.line + 1,
        start.column,
        start.index,
        stop.index,
        getattr(event, "value", ""),
        getattr(event, "style", None) or "",
        bool(getattr(event, "flow_style", False)),
        getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None,
    )


_KINDS: Final[dict[str, Kind]] = {
    "ScalarEvent": "scalar",
    "SequenceStartEvent": "list",
    "MappingStartEvent": "mapping",
    "AliasEvent": "alias",
}
