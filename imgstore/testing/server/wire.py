"""One accepted connection: sends, waits, ends, and knows what the peer's kernel took."""

from __future__ import annotations

import array
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from typing import Final, NamedTuple, NoReturn

# <linux/sockios.h>: bytes of the send queue that the peer has not acknowledged. The ssl and socket modules
# have no name for it.
SIOCOUTQ: Final = 0x5411
# The same, of what has not been sent at all.
SIOCOUTQNSD: Final = 0x894B
# <bits/poll.h>: the peer will send no more. Python names it on some builds only.
POLLRDHUP: Final = getattr(select, "POLLRDHUP", 0x2000)
# 200 MiB in under a second, and still a small step for the ledger.
SLICE: Final = 256 * 1024
# The most plaintext one TLS record can carry (RFC 8446 §5.1).
RECORD: Final = 16 * 1024
# How long a closed sending side waits for the peer's own FIN: closing earlier, with unread input, would turn
# the FIN into a reset.
LINGER: Final = 1.0
# How long a reset waits for a peer that does not read; past it the reset discards what is queued.
DRAIN: Final = 10.0


class EndedError(Exception):
    """The exchange is over before its reply is; `kind` is what the log says of it."""

    def __init__(self, kind: str) -> None:
        """`kind` becomes `Exchange.ended`."""
        super().__init__(kind)
        self.kind = kind


class Taken(NamedTuple):
    """Bytes the peer's kernel acknowledged: of images, and of everything else (heads, framing, TLS).

    `unsure` are bytes of any kind that are on their way: a peer that resets may have taken some of them.
    """

    image: int
    other: int
    unsure: int = 0


class _Sent(NamedTuple):
    """A stretch of the send queue: where it ends, its length on the wire, the image bytes it carries."""

    end: int
    size: int
    image: int


class Wire:
    """A connected TCP socket, with TLS where the server has a context.

    TLS runs through memory buffers, so the wire knows which image bytes each record carries; a record that
    is acknowledged in part counts as nothing, since no peer can open it. Only the connection's own thread may
    call a method other than `taken` and `interrupt`.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, stopping: threading.Event) -> None:
        """Takes ownership of `sock`; `tls` None is plain HTTP."""
        self._socket = sock
        self._stopping = stopping
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side=True) if tls else None
        self._shaken = False
        self._lock = threading.Lock()
        self._unacknowledged: deque[_Sent] = deque()
        self._noted = self._written = self._settled = self._image = 0
        self._fin = self._closed = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def secure(self) -> bool:
        """Whether a TLS handshake was made."""
        return self._shaken

    def handshake(self) -> None:
        """Completes the TLS handshake, if there is one to make.

        Raises: EndedError("tls-failed") when the peer refuses it, or speaks no TLS.
        """
        if self._tls is None:
            return
        while not self._shaken:
            try:
                self._tls.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                self._flush()
                self._feed("tls-failed")
            except ssl.SSLError as error:
                self._flush()
                raise EndedError("tls-failed") from error
        self._flush()

    def receive(self) -> bytes:
        """Some bytes from the peer, at most 64 KiB; empty when it sends no more.

        Raises: EndedError("peer-left") on a reset.
        """
        if not self._shaken or self._tls is None:
            return self._recv()
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = self._recv()
                if not data:
                    return b""
                self._incoming.write(data)
            except ssl.SSLError:
                return b""

    def send(self, data: bytes | memoryview, *, image: bool = False) -> None:
        """Sends all of `data`; with `image`, its bytes count as image bytes.

        Raises: EndedError when the peer leaves or the server stops; what was taken until then counts.
        """
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            part = view[start : start + SLICE]
            if self._shaken and self._tls is not None:
                self._send_records(part, image=image)
            else:
                self._note([_Sent(0, len(part), len(part) if image else 0)])
                self._push(part)

    def send_plain(self, data: bytes) -> None:
        """Sends `data` past TLS, as raw bytes of the TCP connection."""
        self._note([_Sent(0, len(data), 0)])
        self._push(memoryview(data))

    def hold(self, seconds: float | None) -> None:
        """Waits; None is until the peer leaves or the server stops.

        Raises: EndedError, at once, when the peer closes its sending side, or resets, or the server stops.
        """
        watch = select.poll()
        watch.register(self._socket, POLLRDHUP)
        if watch.poll(None if seconds is None else max(0.0, seconds) * 1000):
            self._gone()

    def drain(self, limit: float | None = None) -> bool:
        """Waits until the peer's kernel has acknowledged everything, at most `limit` seconds; whether it has.

        Raises: EndedError when the peer resets, or the server stops, with bytes still queued.
        """
        until = None if limit is None else time.monotonic() + limit
        watch = select.poll()
        # A peer that sends its next request has acknowledged the reply: this wakes up at once.
        watch.register(self._socket, select.POLLIN)
        while self._queued():
            if not self._fin and (self._stopping.is_set() or self._dead()):
                self._gone()
            if self._stopping.is_set() or self._dead() or (until is not None and time.monotonic() > until):
                return False
            if watch.poll(1):
                watch.modify(self._socket, 0)
                self._stopping.wait(0.0005)
        return True

    def finish(self, *, notify: bool = True) -> None:
        """Ends the sending side with a FIN, and waits until the peer has it all; `notify`: TLS's too."""
        if self._fin:
            return
        if notify and self._shaken and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        with self._lock, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._fin = True
        self.drain(DRAIN)

    def linger(self) -> None:
        """Throws away the peer's input until it closes too, at most `LINGER` seconds."""
        until = time.monotonic() + LINGER
        watch = select.poll()
        watch.register(self._socket, select.POLLIN)
        with contextlib.suppress(OSError):
            while (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
                if not watch.poll(left * 1000) or not self._socket.recv(65536):
                    return

    def reset(self) -> None:
        """Ends the connection with a RST, which discards nothing if the peer reads within `DRAIN` seconds."""
        self.drain(DRAIN)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes the socket; twice is harmless. `taken` keeps its last figure."""
        with self._lock:
            if not self._closed:
                self._settle()
                self._closed = True
                self._socket.close()

    def interrupt(self) -> None:
        """Wakes the connection's thread out of any wait, from another thread; the server's stop."""
        with self._lock, contextlib.suppress(OSError):
            if not self._closed:
                self._socket.shutdown(socket.SHUT_RDWR)
                self._fin = True

    def taken(self) -> Taken:
        """What the peer's kernel has acknowledged so far. From any thread."""
        with self._lock:
            taken = self._settle()
            if self._closed:
                return taken
            flying = self._queue(SIOCOUTQ) - self._queue(SIOCOUTQNSD) - self._fin
            return taken._replace(unsure=max(0, flying))

    def _recv(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except OSError:
            self._gone()

    def _feed(self, kind: str) -> None:
        data = self._recv()
        if not data:
            raise EndedError(kind)
        self._incoming.write(data)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.send_plain(data)

    def _send_records(self, data: memoryview, *, image: bool) -> None:
        assert self._tls is not None
        sent, wire = [], bytearray(self._outgoing.read())
        if wire:
            sent.append(_Sent(0, len(wire), 0))
        for start in range(0, len(data), RECORD):
            part = data[start : start + RECORD]
            self._tls.write(part)
            record = self._outgoing.read()
            sent.append(_Sent(0, len(record), len(part) if image else 0))
            wire += record
        self._note(sent)
        self._push(memoryview(wire))

    def _note(self, stretches: list[_Sent]) -> None:
        with self._lock:
            for stretch in stretches:
                self._noted += stretch.size
                self._unacknowledged.append(stretch._replace(end=self._noted))

    def _push(self, data: memoryview) -> None:
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        while data:
            try:
                # A send that waited inside the kernel would tell what it queued only at its end, and the
                # figures of an exchange in progress would be wrong until then.
                count = self._socket.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                room.poll()
                continue
            except OSError:
                self._gone()
            with self._lock:
                self._written += count
                self._settle()
            data = data[count:]

    def _dead(self) -> bool:
        # The first byte of struct tcp_info is the state; TCP_CLOSE is 7 (<net/tcp_states.h>).
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7

    def _queued(self) -> int:
        with self._lock:
            return self._written - self._acknowledged()

    def _acknowledged(self) -> int:
        if self._closed:
            return self._settled
        queue = self._queue(SIOCOUTQ)
        # A FIN takes one place in the queue (RFC 9293 §3.4), and is no byte of ours.
        return min(self._written, self._written + self._fin - queue)

    def _queue(self, request: int) -> int:
        # Where a system has no such call, what its kernel accepted counts as taken.
        count = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._socket, request, count)
        return count[0]

    def _settle(self) -> Taken:
        acknowledged = self._acknowledged()
        if not self._closed:
            while self._unacknowledged and self._unacknowledged[0].end <= acknowledged:
                self._image += self._unacknowledged.popleft().image
            self._settled = acknowledged
        image = self._image + self._partial(acknowledged)
        return Taken(image, acknowledged - image)

    def _partial(self, acknowledged: int) -> int:
        if not self._unacknowledged or self._shaken:
            return 0
        first = self._unacknowledged[0]
        return max(0, acknowledged - (first.end - first.size)) if first.image else 0

    def _gone(self) -> NoReturn:
        raise EndedError("stopped" if self._stopping.is_set() else "peer-left")
