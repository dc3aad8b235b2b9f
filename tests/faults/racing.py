"""Two processes that change one name of a store at the same moment, again and again.

Started as a program it waits for orders on standard input, and answers each when it is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Racer:
    """One of the processes, from the outside; a context manager."""

    def __init__(self, name: str, folders: list[Path]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", __spec__.name, name, *map(str, folders)]

    def __enter__(self) -> Racer:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def order(self, act: str, key: str) -> None:
        """Begins `put`, `overwrite` or `delete`."""
        self._process.stdin.write(json.dumps([act, key]) + "\n")

    def end(self) -> str:
        """Waits, and gives the name of the error, or nothing."""
        line = self._process.stdout.readline()
        assert line, f"{self.name} has ended"
        return line.strip()


def image(name: str, key: str) -> bytes:
    """Gives what the process `name` puts under `key`: no two are equal."""
    seed = hashlib.sha256(f"{name}/{key}".encode()).digest()
    return seed * 600 + name.encode()


def serve(name: str, folders: list[str]) -> None:
    """Carries out orders until there are no more."""
    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.errors import ImgstoreError

    store = FilesystemStore(data_dirs=folders)
    with contextlib.suppress(ImgstoreError):
        store.stat("rehearsed")  # all is imported now
    print("ready", flush=True)
    for line in sys.stdin:
        act, key = json.loads(line)
        try:
            if act == "delete":
                store.writer.delete(key)
            else:
                store.writer.put(key, io.BytesIO(image(name, key)), overwrite=act == "overwrite")
            print(flush=True)
        except ImgstoreError as exc:
            print(type(exc).__name__, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
