"""One URL into one new file on the disk, by each library: function(url, target, block) gives the work.

`block` bytes at a time where the library lets one say. All sync the file before they end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import closing
from urllib.parse import urlsplit

from imgstore.buffer import paged

Work = Callable[[], None]


def imgstore(url: str, target: str, block: int) -> Work:
    from imgstore.backends.http import HttpStore
    from imgstore.publish import PendingFile
    from imgstore.stack import build
    from imgstore.transfer import copy
    from imgstore.transfer.progress import Report

    copy.BUFFER = block

    def work() -> None:
        driver, key = HttpStore.at(url)
        with build(driver) as store, PendingFile(target) as file, store.get(key) as stream:
            copy.copy(stream, file, report=Report())

    return work


def bare_loop(url: str, target: str, block: int) -> Work:
    """The least there is to do: no header is looked at, no length, no error."""

    def work() -> None:
        parts = urlsplit(url)
        buffer = paged(block)
        with socket.create_connection((parts.hostname, parts.port)) as sock, _created(target) as file:
            sock.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            file.write(head.partition(b"\r\n\r\n")[2])
            while count := sock.recv_into(buffer):
                file.write(buffer[:count])
            os.fsync(file.fileno())

    return work


def urllib3(url: str, target: str, block: int) -> Work:
    from urllib3 import PoolManager

    def work() -> None:
        buffer = paged(block)
        with PoolManager() as pool, _created(target) as file:
            reply = pool.request("GET", url, preload_content=False)
            while count := reply.readinto(buffer):
                file.write(buffer[:count])
            os.fsync(file.fileno())

    return work


def requests(url: str, target: str, block: int) -> Work:
    import requests as client

    def work() -> None:
        with client.get(url, stream=True, timeout=20) as reply:
            _write(target, reply.iter_content(block))

    return work


def obstore(url: str, target: str, block: int) -> Work:
    import obstore as client
    from obstore.store import HTTPStore

    def work() -> None:
        base, _, name = url.rpartition("/")
        store = HTTPStore.from_url(base, client_options={"allow_http": True})
        _write(target, client.get(store, name).stream(min_chunk_size=block))

    return work


def glance_store(url: str, target: str, block: int) -> Work:
    from benchmarks.glance import opened

    client, _ = opened(block)

    def work() -> None:
        chunks, _ = client.get_from_backend(url)
        _write(target, chunks)

    return work


def synced(target: str) -> None:
    """Has a file that another library wrote on its medium."""
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _created(target: str):
    """Opens a new file; each write goes to the system at once."""
    return open(target, "xb", buffering=0)


def _write(target: str, chunks: Iterable[bytes]) -> None:
    with closing(_created(target)) as file:
        for chunk in chunks:
            file.write(chunk)
        os.fsync(file.fileno())
