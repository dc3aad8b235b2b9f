"""Sockets, plain and TLS, that wait in slices under a watch."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from math import ceil
from typing import Any, Final, TypeVar

from imgstore.backends._http.watch import Leash, Watch
from imgstore.errors import TlsError

T = TypeVar("T")

# A receive of so much waits in the kernel for more than the next segment: a GiB over loopback then takes 512
# receives of 2 MiB, not 2,000 to 8,000 at 16 us of Python each. A small one, of a head say, comes at once.
_GATHER: Final = 256 << 10
# How long it may wait: whoever asked for so much is served no later than this.
_GATHER_TIME: Final = 0.02
_TIMEVAL: Final = struct.pack("ll", 0, int(_GATHER_TIME * 1e6))

# What may go wrong in a handshake by accident; all else says that the two do not agree, and never will.
_ACCIDENTS = ("INTERNAL_ERROR", "BAD_RECORD_MAC", "DECRYPT", "DECODE_ERROR", "USER_CANCELLED")


def wait(descriptor: int, events: int, watch: Watch) -> bool:
    """Waits for one slice; tells whether something happened. Raises: as `Watch.pause`."""
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(ceil(watch.pause() * 1000)))


def _patiently(sock: socket.socket, leash: Leash | None, operation: Callable[[], T], events: int) -> T:
    while True:
        try:
            return operation()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            if leash is None:
                raise
            if isinstance(exc, ssl.SSLError):
                events = select.POLLIN if isinstance(exc, ssl.SSLWantReadError) else select.POLLOUT
        wait(sock.fileno(), events, leash.watch)


class WatchedSocket(socket.socket):
    """A TCP socket whose receives and sends wait under the watch of its leash.

    They never wait in the kernel, but for the `_GATHER_TIME` of a large receive.
    """

    leash: Leash | None = None
    _gathers = False

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        receive = super().recv
        flags |= socket.MSG_DONTWAIT
        return _patiently(self, self.leash, lambda: receive(bufsize, flags), select.POLLIN)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        receive = super().recv_into
        large = self.leash is not None and (nbytes or len(buffer)) >= _GATHER
        if large and not self._gathers:
            self._gather()
        # A reset or an end loses nothing that was gathered: the kernel gives that, and tells of it next time.
        flags |= socket.MSG_WAITALL if large else socket.MSG_DONTWAIT
        return _patiently(self, self.leash, lambda: receive(buffer, nbytes, flags), select.POLLIN)

    def send(self, data: Any, flags: int = 0, /) -> int:
        send = super().send
        flags |= socket.MSG_DONTWAIT
        return _patiently(self, self.leash, lambda: send(data, flags), select.POLLOUT)

    def _gather(self) -> None:
        """Lets a receive with MSG_WAITALL wait for `_GATHER_TIME`, at the end of which it gives what it has.

        Python still takes the socket for non-blocking: it waits for nothing by itself.
        """
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)
        os.set_blocking(self.fileno(), True)
        self._gathers = True

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                sent += self.send(view[sent:], flags)


class WatchedTlsSocket(ssl.SSLSocket):
    """The same over TLS. `sendall` of the class above it loops over `send` already."""

    leash: Leash | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        receive = super().recv
        return _patiently(self, self.leash, lambda: receive(buflen, flags), select.POLLIN)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        receive = super().recv_into
        return _patiently(self, self.leash, lambda: receive(buffer, nbytes, flags), select.POLLIN)

    def send(self, data: Any, flags: int = 0) -> int:
        send = super().send
        return _patiently(self, self.leash, lambda: send(data, flags), select.POLLOUT)

    def shake(self) -> None:
        """Makes the handshake, in slices.

        Raises: TlsError where the peer is not who it should be, or does not speak TLS.
        """
        handshake = super().do_handshake
        try:
            _patiently(self, self.leash, handshake, select.POLLIN)
        except (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError):
            raise
        except ssl.SSLError as exc:
            reason = exc.reason or ""
            if isinstance(exc, ssl.SSLCertVerificationError) or any(each in reason for each in _ACCIDENTS):
                raise
            raise TlsError(f"no TLS handshake with the server: {reason.replace('_', ' ').lower()}") from exc


class WatchedContext(ssl.SSLContext):
    """Wraps watched sockets into watched TLS sockets, and lets no truncated stream pass for a closed one."""

    sslsocket_class = WatchedTlsSocket

    def wrap_socket(  # noqa: PLR0917  # the signature is the standard library's
        self,
        sock: socket.socket,
        server_side: bool = False,  # noqa: FBT001, FBT002
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(
            sock,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            server_hostname=server_hostname,
            session=session,
        )
        if isinstance(wrapped, WatchedTlsSocket) and do_handshake_on_connect:
            wrapped.leash = getattr(sock, "leash", None)
            try:
                wrapped.shake()
            except BaseException:
                wrapped.close()
                raise
        return wrapped


def tls_context(*, ca_file: str | None, cert: str | None, key: str | None, verify: bool) -> WatchedContext:
    """Makes the TLS settings of a store: the system's authorities, or only those of `ca_file`.

    Raises: OSError (ssl.SSLError is one) for a file that cannot be used.
    """
    context = WatchedContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python asks OpenSSL 3 to hide a missing close_notify; the end of a body is no place for that.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    if cert is not None:
        # an encrypted key fails here instead of asking on the terminal
        context.load_cert_chain(cert, key, password="")
    return context
