"""A large receive gathers what comes within its time, and loses nothing of it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import pytest

from imgstore.backends._http.sockets import WatchedSocket
from imgstore.backends._http.watch import Leash, Watch
from imgstore.clock import SYSTEM
from imgstore.errors import OperationCancelledError
from imgstore.model import NO_CALL

LARGE = 1 << 20
PIECE = 1000
ABORTING = struct.pack("ii", 1, 0)  # close sends a reset


@contextlib.contextmanager
def connected():
    """A watched socket, its watch, and the socket at the other end."""
    watch = Watch(NO_CALL, SYSTEM)
    with socket.create_server(("127.0.0.1", 0)) as server, WatchedSocket() as near:
        near.connect(server.getsockname())
        near.settimeout(0.0)
        near.leash = Leash(watch)
        far = server.accept()[0]
        with far:
            yield near, watch, far


def later(*steps):
    """Runs `steps` one after the other, a millisecond between them, in a thread of its own."""

    def run():
        for step in steps:
            time.sleep(0.001)
            step()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def piece(far):
    return lambda: far.sendall(bytes(PIECE))


def test_pieces_come_in_one_receive():
    with connected() as (near, _, far):
        thread = later(*[piece(far)] * 5)
        assert near.recv_into(bytearray(5 * PIECE + LARGE)) > PIECE
        thread.join()


def test_a_small_receive_gives_the_first_piece():
    with connected() as (near, _, far):
        large = memoryview(bytearray(LARGE))
        far.sendall(bytes(PIECE))
        assert near.recv_into(large) == PIECE
        far.sendall(bytes(PIECE))
        assert near.recv_into(large[: PIECE * 2]) == PIECE
        far.sendall(bytes(PIECE))
        assert len(near.recv(PIECE * 2)) == PIECE


def test_what_came_before_a_reset_is_given_before_it_is_told():
    with connected() as (near, _, far):

        def reset():
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTING)
            far.close()

        large, got = bytearray(LARGE), 0
        thread = later(piece(far), piece(far), reset)
        with pytest.raises(ConnectionResetError):
            while True:
                got += near.recv_into(large)
        thread.join()
        assert got == 2 * PIECE


def test_what_came_before_the_end_is_given_before_it_is_told():
    with connected() as (near, _, far):
        large, got = bytearray(LARGE), []
        thread = later(piece(far), far.close)
        while not got or got[-1]:
            got.append(near.recv_into(large))
        thread.join()
        assert sum(got) == PIECE


def test_silence_is_waited_for_under_the_watch():
    with connected() as (near, watch, far):
        assert near.recv_into(memoryview(bytearray(LARGE))[: far.send(b"x")]) == 1
        thread = later(watch.abort)
        with pytest.raises(OperationCancelledError):
            near.recv_into(bytearray(LARGE))
        thread.join()


def test_a_full_peer_is_waited_for_under_the_watch_after_a_large_receive():
    with connected() as (near, watch, far):
        far.sendall(bytes(PIECE))
        assert near.recv_into(bytearray(LARGE)) == PIECE
        thread = later(watch.abort)
        with pytest.raises(OperationCancelledError):
            near.sendall(bytes(64 << 20))
        thread.join()
