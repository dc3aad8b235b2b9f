"""A proxy on this machine that makes it a long way to the server: `python -m benchmarks.latency PORT`.

Each direction of a connection waits half of `ROUND_TRIP`, and holds at most `WINDOW` bytes on the way: as
much as the buffers of a Linux socket let through between two acknowledgements. It prints its own port.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.harness import ROOT, BrokenRunError

ROUND_TRIP = 0.05
# net.ipv4.tcp_rmem ends at 6 MiB, of which half is for the data (tcp_adv_win_scale of 1).
WINDOW = 3 << 20
_RECEIVE = 256 << 10


@contextlib.contextmanager
def distant(port: int) -> Iterator[int]:
    """Gives the port of a proxy, a process of its own, to `port`; it ends with the block."""
    proxy = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.latency", str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        line = proxy.stdout.readline() if proxy.stdout else ""
        if not line.strip():
            raise BrokenRunError("the proxy did not start")
        yield int(line)
    finally:
        proxy.kill()
        proxy.wait()


class _Way:
    """One direction of a connection: what is received waits its time, and is sent."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source = source
        self._target = target
        self._waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self._held = 0
        self._changed = threading.Condition()
        for work in (self._receive, self._send):
            threading.Thread(target=work, daemon=True).start()

    def _receive(self) -> None:
        data = b"?"
        while data:
            try:
                data = self._source.recv(_RECEIVE)
            except OSError:
                data = b""
            with self._changed:
                self._waiting.append((time.monotonic() + ROUND_TRIP / 2, data))
                self._held += len(data)
                self._changed.notify_all()
                while self._held >= WINDOW:
                    self._changed.wait()

    def _send(self) -> None:
        data = b"?"
        while data:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                due, data = self._waiting.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if data:
                    self._target.sendall(data)
            except OSError:
                data = b""
                self._source.close()
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)


def main() -> None:
    server = int(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", server))
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Way(client, upstream)
            _Way(upstream, client)


if __name__ == "__main__":
    main()
