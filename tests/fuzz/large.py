"""Reads one large file, made as it is read, in 512 MiB of address space: python -m tests.fuzz.large CASE

Prints how it ended, the seconds it took and the MiB that it took at most, beyond those before it began.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterator

from imgstore.errors import ManifestError
from imgstore.manifest import read

MEMORY = 512 << 20
LIMIT = 16 << 20  # bytes that are read of what has no end; the default of 64 MiB takes four times as long
HEAD = '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a">'
TAIL = "</file></metalink>"


class Made:
    """A stream over pieces of text that are made one by one."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._ahead = b""

    def read(self, size: int) -> bytes:
        while len(self._ahead) < size and (batch := list(itertools.islice(self._pieces, 1000))):
            self._ahead += "".join(batch).encode()
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data


def metalink(chunks: int) -> Iterator[str]:
    yield f'{HEAD}<size>{chunks}</size><pieces type="sha-256" length="1">\n'
    for number in range(chunks):
        yield f"<hash>{number:064x}</hash>\n"
    yield f"</pieces>{TAIL}"


def profile(chunks: int) -> Iterator[str]:
    yield f"name: a\nmanifest:\n  size: {chunks}\n  chunk_size: 1\n  algorithm: sha256\n  chunks:\n"
    for number in range(chunks):
        yield f'  - "{number:064x}"\n'


def endless(head: str, form: str) -> Iterator[str]:
    yield head
    for number in itertools.count():
        yield form.format(number)


CASES = {
    # 10^5 are 400 GB, 10^6 are 4 TB in chunks of 4 MiB
    "metalink of 100000 chunks": lambda: metalink(100_000),
    "metalink of 1000000 chunks": lambda: metalink(1_000_000),
    "profile of 100000 chunks": lambda: profile(100_000),
    "profile of 1000000 chunks": lambda: profile(1_000_000),
    "metalink without end": lambda: endless(
        f'{HEAD}<pieces type="sha-512" length="1">', "<hash>{:0128x}</hash>"
    ),
    "weak pieces without end": lambda: endless(
        f'{HEAD}<pieces type="md5" length="1">', "<hash>{:032x}</hash>"
    ),
    "empty pieces": lambda: endless(f'{HEAD}<pieces type="sha-256" length="1">', "<x/>"),
    "names of elements": lambda: endless(HEAD, "<x{}/>"),
    "names of attributes": lambda: endless(HEAD, "<x y{}='1'/>"),
    "names of spaces": lambda: endless(HEAD, "<x xmlns:y{}='1'/>"),
    "names of files": lambda: endless(f"{HEAD}</file>", '<file name="b{}"/>'),
    "attributes of one element": lambda: endless(f"{HEAD}<x ", " y{}='1'"),
    "locations": lambda: endless(HEAD, "<url>http://a/{}" + "x" * 8000 + "</url>"),
    "digests of the whole": lambda: endless(HEAD, '<hash type="x{}">00000000</hash>'),
    "comment": lambda: endless(f"{HEAD}<!--", "{:064x}"),
    "text": lambda: endless(f"{HEAD}<size>", "{:064x}"),
    "passed over": lambda: endless(f"{HEAD}<x>", "{:064x}"),
    "lines": lambda: endless(f"{HEAD}", "\n"),
    "depth": lambda: endless(HEAD, "<x>"),
    "profile without end": lambda: endless("manifest:\n  chunks:\n", '  - "{:064x}"\n'),
    "keys": lambda: endless("", "a{}: b\n"),
    "keys of one image": lambda: endless("images:\n- a: b\n", "  a{}: b\n"),
    "images": lambda: endless("images:\n", "- {{name: a{}, manifest: {{size: 1}}}}\n"),
    "names of one image": lambda: endless("", "name: a{}\n"),
    "scalar": lambda: endless("a: '", "{:064x}"),
    "block": lambda: endless("a: |\n", "  {:064x}\n"),
    "plain scalar": lambda: endless("a:\n", "  b\n"),
    "comment of a profile": lambda: endless("#", "{:064x}"),
    "anchors": lambda: endless("a:\n", "- &a{} b\n"),
    "brackets": lambda: endless("a: ", "["),
    "lists in brackets": lambda: endless("a: [", "[],"),
    "dashes": lambda: endless("", "- "),
    "directives": lambda: endless("", "%TAG !a{}! b\n"),
    "tags": lambda: endless("%TAG ! " + "x" * 200_000 + "\n---\n", "- !a b\n"),
    "spaces": lambda: endless("", " "),
}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    read(
        Made(iter(["name: a\nmanifest: {size: 0, chunk_size: 1, algorithm: sha256}\n"]))
    )  # what is imported late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    limit = 128 << 20 if "1000000" in sys.argv[1] else LIMIT
    try:
        ended = f"{len(read(Made(CASES[sys.argv[1]]()), limit=limit).chunks)} chunks"
    except ManifestError as exc:
        ended = f"ManifestError: {exc}"
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"{time.monotonic() - begun:.1f} {peak} {ended}")


if __name__ == "__main__":
    main()
