"""The server: images, scripts, connections, and their end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, TypeVar

from imgstore.testing.server.connection import Connection
from imgstore.testing.server.fault import Fault, Script
from imgstore.testing.server.lies import Status
from imgstore.testing.server.log import Log
from imgstore.testing.server.reply import Reply
from imgstore.testing.server.request import Request
from imgstore.testing.server.script import Scripts
from imgstore.testing.server.shelf import AUTO, OCTETS, Data, Shelf, Shelved
from imgstore.testing.server.wire import Wire

Self = TypeVar("Self", bound="ScriptedServer")  # typing.Self is younger than Python 3.10

# Room for a test that connects with a hundred threads at once.
BACKLOG: Final = 128


class ScriptedServer:
    """An HTTP/1.1 server on a socket of this machine that breaks exactly as told, and knows what it sent.

    Without a script it is a correct server of byte ranges (RFC 9110). It starts with `start` or as a context
    manager, and ends with `stop`, which leaves no thread and no socket. Every method may be called from any
    thread. Subclass it and override `answer` for a fake of another service: faults and log apply as they are.

    >>> with ScriptedServer() as server:
    ...     _ = server.put("/disk.img", b"0123456789")
    ...     server.script("/disk.img", [Status(503)])
    ...     server.log.requests("/disk.img")
    0
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        """Opens no socket yet. `tls` is a server's context; `port` 0 is any free one, then kept."""
        self.log = Log()
        self.shelf = Shelf()
        self.host = host
        self.port = port
        self._tls = tls
        self._scripts = Scripts()
        self._guards: dict[str, tuple[Callable[[Request], bool], Fault]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._fillers: list[socket.socket] = []
        self._open: dict[threading.Thread, Wire] = {}

    def __enter__(self: Self) -> Self:
        """Starts."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops."""
        self.stop()

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """The address of a path; `host` names this machine otherwise, as "localhost"."""
        name = host or self.host
        return (
            f"{'https' if self._tls else 'http'}://{f'[{name}]' if ':' in name else name}:{self.port}{path}"
        )

    def put(
        self,
        path: str,
        data: Data,
        *,
        etag: str | None = AUTO,
        last_modified: float | None = None,
        content_type: str = OCTETS,
    ) -> Shelved:
        """Sets or replaces an image; the new one has a strong ETag of its own unless told otherwise.

        `etag` goes out as given, quotes included, and None is no ETag. `last_modified` is in POSIX seconds.
        `data` is not copied. A reply under way keeps the bytes it
        began with.
        """
        return self.shelf.put(path, data, etag=etag, last_modified=last_modified, content_type=content_type)

    def remove(self, path: str) -> None:
        """Forgets an image: 404 from now on."""
        self.shelf.remove(path)

    def script(
        self,
        path: str,
        faults: Iterable[Fault | Script | None] = (),
        *,
        then: Fault | Script | None = None,
        method: str | None = None,
    ) -> None:
        """Replaces the script of a path: one fault, or a tuple of several, for each request, in order.

        None serves properly. When all are used, `then` applies for ever. With `method`, other requests are
        served properly and use up nothing. A fault whose place the reply does not reach is used up without
        an effect.
        """
        self._scripts.play(path, faults, then, method)

    def trap(self, path: str, fault: Fault, *, times: int | None = 1) -> None:
        """Applies a fault to the next `times` replies with the image byte at its `at`; None is for ever.

        For readers whose requests come in no fixed order. It comes on top of the script.

        Raises: ValueError when the fault has no `at`.
        """
        self._scripts.trap(path, fault, times)

    def guard(self, path: str, allow: Callable[[Request], bool], refusal: Fault | None = None) -> None:
        """Refuses requests that `allow` is false for, by default with 403: a token or signature that expires.

        It is asked when a request arrives; a body under way goes on. It comes before the script, which a
        refused request does not use up.
        """
        with self._lock:
            self._guards[path] = (allow, refusal or Status(403))

    def greet(self, faults: Iterable[Fault | Script | None]) -> None:
        """What the next connections meet before TLS and the first request, one each; None is nothing.

        For faults without a place: Cut, Reset, Stall, RawReply, PlaintextOnTls, TlsAlert.
        """
        self._scripts.greet(faults)

    def unused(self, path: str) -> int:
        """How many steps of a path's script no request has taken yet."""
        return self._scripts.left(path)

    def answer(self, request: Request) -> Reply:
        """The honest reply; a fake of another service overrides this. Called in the connection's thread."""
        return self.shelf.answer(request)

    def start(self) -> None:
        """Listens and accepts; a second start is harmless.

        Raises: OSError when the address is taken.
        """
        if self._listener is None:
            self._stopping.clear()
            self._listen(BACKLOG)
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener,), name="scripted-accept"
            )
            self._acceptor.start()

    def stop(self) -> None:
        """Ends every connection at once, held ones too, joins every thread, closes every socket.

        The log stays. A later `start` listens on the same port. A second stop is harmless.
        """
        self._stopping.set()
        self.refuse()
        with self._lock:
            waiting = dict(self._open)
        for thread, wire in waiting.items():
            wire.interrupt()
            thread.join()

    def refuse(self) -> None:
        """Stops listening: new connections are refused, open ones live on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        if self._acceptor is not None:
            self._acceptor.join()
            self._acceptor = None
        if listener is not None:
            listener.close()
        while self._fillers:
            self._fillers.pop().close()

    def accept_again(self) -> None:
        """Listens again on the same port, after `refuse` or `fill_backlog`.

        Raises: OSError when somebody else has taken the port.
        """
        if self._acceptor is None:
            self.refuse()
        self.start()

    def fill_backlog(self) -> None:
        """Listens but accepts nothing, with the queue full: the kernel drops the SYN of a new connection.

        Open connections live on. Linux; elsewhere a full queue may refuse instead.
        """
        self.refuse()
        self._listen(0)
        # A queue of 0 takes one connection; one more shows that it is full.
        for _ in range(8):
            filler = socket.socket(self._family())
            self._fillers.append(filler)
            filler.settimeout(0.1)
            try:
                filler.connect((self.host, self.port))
            except TimeoutError:
                return

    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def _listen(self, backlog: int) -> None:
        listener = socket.socket(self._family())
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._listener = listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(None)
            wire = Wire(sock, self._tls, self._stopping)
            connection = Connection(wire, self.log, self._scripts.greeting(), self._compose)
            thread = threading.Thread(
                target=self._run, args=(connection,), name="scripted-connection", daemon=True
            )
            with self._lock:
                self._open[thread] = wire
            thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def _compose(self, request: Request) -> Reply:
        """The reply with its faults."""
        with self._lock:
            allow, refusal = self._guards.get(request.path, (None, None))
        if allow is not None and refusal is not None and not allow(request):
            faults: Script = (refusal,)
        else:
            faults = self._scripts.step(request)
        for fault in faults:
            fault.prepare(request, self.shelf)
        reply = self.answer(request)
        image = self.shelf.find(request.path)
        for fault in (*faults, *self._scripts.sprung(request.path, reply)):
            fault.shape(reply, image)
        return reply
