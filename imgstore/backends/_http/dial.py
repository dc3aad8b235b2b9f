"""Making a TCP connection: a fresh lookup each time, then one address after the other, all under a watch."""

from __future__ import annotations

import ipaddress
import os
import queue
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from imgstore.backends._http.sockets import WatchedSocket, wait
from imgstore.backends._http.watch import Leash, Watch
from imgstore.errors import ConnectionLostError, ImgstoreError, TimedOutError

# What `socket.getaddrinfo` gives, and who may give it in its place: a test, or an embedder's own resolver.
AddressInfo: TypeAlias = "tuple[int, int, int, str, tuple[Any, ...]]"
Resolve: TypeAlias = Callable[[str, int], Sequence[AddressInfo]]


def system_resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Asks the system. It may take as long as the resolver's own timeouts, whatever deadline we have."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def look_up(host: str, port: int, resolve: Resolve, watch: Watch) -> Sequence[AddressInfo]:
    """Gives the addresses of `host`, never those of an earlier call. A literal address asks nobody.

    The C library offers no way to cut a lookup short. It runs in a daemon thread of its own, whose answer is
    dropped if it comes too late; the thread ends with the resolver's own timeouts.

    Raises: ConnectionLostError; as `Watch.pause`.
    """
    if is_literal(host):
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    answers: queue.SimpleQueue[Sequence[AddressInfo] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        except Exception as exc:  # noqa: BLE001  # raised again where it was asked for
            answers.put(exc)

    threading.Thread(target=ask, name=f"imgstore-lookup-{host}", daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=watch.pause())
        except queue.Empty:
            continue
        break
    if isinstance(answer, OSError):
        raise ConnectionLostError(f"the name {host} cannot be looked up: {answer.strerror}") from answer
    if isinstance(answer, Exception):
        raise answer
    if not answer:
        raise ConnectionLostError(f"the name {host} has no address")
    return answer


def is_literal(host: str) -> bool:
    """Whether `host` is an IP address, with or without a zone."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def dial(
    host: str,
    port: int,
    *,
    resolve: Resolve,
    leash: Leash,
    connect_timeout: float,
    admit: Callable[[str], None] | None,
    role: str = "",
) -> WatchedSocket:
    """Connects to the first address of `host` that answers, giving each `connect_timeout` seconds.

    `role` says in errors what `host` is, where it is not the server: "the proxy ".

    `admit` is asked about each address before it is tried, and about the peer's after that; what it raises
    ends the attempt before a byte is sent.

    Raises: ConnectionLostError, or TimedOutError when the last address did not answer; as `Watch.pause`.
    """
    infos = look_up(host, port, resolve, leash.watch)
    last: ImgstoreError | None = None
    for family, kind, protocol, _, sockaddr in infos:
        if admit is not None:
            admit(str(sockaddr[0]))
        sock = WatchedSocket(family, kind, protocol)
        try:
            sock.leash = leash
            sock.settimeout(0.0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _connect(sock, sockaddr, leash.watch, connect_timeout)
            if admit is not None:
                admit(str(sock.getpeername()[0]))
        except (ConnectionLostError, TimedOutError) as exc:
            sock.close()
            leash.watch.pause()  # the time of the whole attempt may be over, and not this address's only
            last = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    tried = "" if len(infos) == 1 else f" ({len(infos)} addresses tried)"
    reason = ConnectionLostError("no address") if last is None else last
    raise type(reason)(f"cannot connect to {role}{host} port {port}: {reason}{tried}") from reason.__cause__


def _connect(sock: WatchedSocket, sockaddr: tuple[Any, ...], watch: Watch, seconds: float) -> None:
    try:
        sock.connect(sockaddr)
    except BlockingIOError:
        pass
    except OSError as exc:
        raise ConnectionLostError((exc.strerror or "no route").lower()) from exc
    limit = watch.seconds_from_now(seconds)
    while not wait(sock.fileno(), select.POLLOUT, watch):
        if watch.over(limit):
            raise TimedOutError(f"no answer within {seconds:g} seconds")
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise ConnectionLostError(os.strerror(number).lower()) from OSError(number, os.strerror(number))
