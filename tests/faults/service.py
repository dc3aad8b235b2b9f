"""A service on a port of 127.0.0.1, spoken to over real sockets: what the S3 and the Swift here share."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service:
    """Serves with its `handler` from `start` to `stop`, each connection in a thread.

    `ended` is set when it stops, so that a stalled reply ends too; `sent` counts the bytes of each body that
    was received.
    """

    handler: type[ServiceHandler]

    def __init__(self):
        self.log = []
        self.sent: Counter[str] = Counter()
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.connections: set[socket.socket] = set()
        self.numbers = itertools.count(1)

    def start(self):
        bound = type("Bound", (self.handler,), {"service": self})
        self._http = _Server(("127.0.0.1", 0), bound)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def stop(self):
        self.ended.set()
        self._http.shutdown()
        for each in list(self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a connection that a test cut


class ServiceHandler(BaseHTTPRequestHandler):
    """One connection of `service`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: Service

    def setup(self):
        super().setup()
        self.service.connections.add(self.connection)

    def finish(self):
        self.service.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def reset(self):
        """Ends the connection with a RST."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
