"""Standard input as a stream, standard output as a target."""

from __future__ import annotations

import errno
import os
import pty
import socket
import threading

import pytest

from imgstore.errors import (
    DeadlineExceededError,
    NoSpaceError,
    OperationCancelledError,
    StorageIOError,
)
from imgstore.model import Call, CancelToken
from imgstore.transfer import standard
from imgstore.transfer.progress import Report
from imgstore.transfer.standard import StandardOutput, standard_input

DATA = os.urandom(300_000)


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for each in ends:
        if each is not None:
            os.close(each)


def feed(pipe, data):
    """Writes `data` into the pipe and closes it, in a thread."""

    def write():
        view = memoryview(data)
        while view:
            view = view[os.write(pipe[1], view) :]
        os.close(pipe[1])
        pipe[1] = None

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@pytest.fixture(params=["reopened", "not reopened"])
def reopening(request, monkeypatch):
    """A pipe of another user, or without /proc, is not opened a second time."""
    if request.param == "not reopened":
        monkeypatch.setattr(standard, "_DESCRIPTORS", "/nowhere/fd")


def take_all(descriptor, received):
    """Reads up to the end, in a thread."""

    def read():
        while piece := os.read(descriptor, 10_000):
            received.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, len(DATA)])
def test_all_of_standard_input(pipe, size):
    report = Report()
    thread = feed(pipe, DATA[:size])
    with standard_input(call=Call(observe=report.observe), descriptor=pipe[0]) as stream:
        assert stream.info.size is None
        assert b"".join(bytes(piece) for piece in stream.chunks(4096)) == DATA[:size]
        assert stream.range.size == size
    thread.join()
    os.fstat(pipe[0])
    assert report.attempts == 1
    assert report.sources == {"-": size}


def test_a_file_as_standard_input(tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        with standard_input(descriptor=descriptor) as stream:
            assert b"".join(bytes(piece) for piece in stream.chunks()) == DATA
    finally:
        os.close(descriptor)


def test_a_folder_as_standard_input_is_a_typed_error(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with (
            standard_input(descriptor=descriptor) as stream,
            pytest.raises(Exception, match="cannot read standard"),
        ):
            stream.read()
    finally:
        os.close(descriptor)


def test_a_silent_pipe_ends_at_the_deadline(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    with (
        standard_input(call=Call().within(0.05), descriptor=pipe[0]) as stream,
        pytest.raises(DeadlineExceededError),
    ):
        stream.read()


def test_a_silent_pipe_is_cancelled(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    token = CancelToken()
    with standard_input(call=Call(cancel=token), descriptor=pipe[0]) as stream:
        timer = threading.Timer(0.05, token.cancel)
        timer.start()
        with pytest.raises(OperationCancelledError):
            stream.read()
        timer.join()


def test_a_silent_pipe_is_aborted(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    with standard_input(descriptor=pipe[0]) as stream:
        timer = threading.Timer(0.05, stream.cancel)
        timer.start()
        with pytest.raises(OperationCancelledError):
            stream.read()
        timer.join()


def test_output_arrives_through_a_pipe_that_does_not_block(pipe):
    os.set_blocking(pipe[1], False)
    received = bytearray()
    thread = take_all(pipe[0], received)
    output = StandardOutput(descriptor=pipe[1])
    output.write(memoryview(DATA))
    output.publish(len(DATA))
    os.close(pipe[1])
    pipe[1] = None
    thread.join()
    assert received == DATA


def test_short_writes_are_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:777]))
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    try:
        StandardOutput(descriptor=descriptor).write(memoryview(DATA))
    finally:
        os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == DATA


def test_a_full_pipe_that_nobody_reads_ends_at_the_deadline(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    os.set_blocking(pipe[1], False)
    with pytest.raises(DeadlineExceededError):
        StandardOutput(call=Call().within(0.05), descriptor=pipe[1]).write(memoryview(DATA))


@pytest.mark.usefixtures("reopening")
def test_a_full_pipe_that_blocks_ends_at_the_deadline_too(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    with pytest.raises(DeadlineExceededError):
        StandardOutput(call=Call().within(0.05), descriptor=pipe[1]).write(memoryview(DATA))
    assert os.get_blocking(pipe[1]), "whoever shares the pipe did not ask for this"


@pytest.mark.usefixtures("reopening")
def test_a_full_pipe_is_cancelled(pipe, monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    token = CancelToken()
    timer = threading.Timer(0.05, token.cancel)
    timer.start()
    with pytest.raises(OperationCancelledError):
        StandardOutput(call=Call(cancel=token), descriptor=pipe[1]).write(memoryview(DATA))
    timer.join()


def test_a_full_socket_ends_at_the_deadline(monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(DeadlineExceededError):
        output = StandardOutput(call=Call().within(0.05), descriptor=ours.fileno())
        output.write(memoryview(bytes(16 << 20)))


def test_a_full_terminal_ends_at_the_deadline(monkeypatch):
    monkeypatch.setattr(standard, "_TICK", 10)
    ends = pty.openpty()
    try:
        with pytest.raises(DeadlineExceededError):
            StandardOutput(call=Call().within(0.05), descriptor=ends[1]).write(memoryview(DATA))
    finally:
        for each in ends:
            os.close(each)


@pytest.mark.usefixtures("reopening")
def test_output_arrives_through_a_pipe_that_blocks(pipe):
    received = bytearray()
    thread = take_all(pipe[0], received)
    StandardOutput(descriptor=pipe[1]).write(memoryview(DATA))
    os.close(pipe[1])
    pipe[1] = None
    thread.join()
    assert received == DATA


@pytest.mark.usefixtures("reopening")
def test_a_reader_that_went_away_is_a_broken_pipe(pipe):
    os.close(pipe[0])
    pipe[0] = None
    with pytest.raises(BrokenPipeError):
        StandardOutput(descriptor=pipe[1]).write(memoryview(DATA))


def test_a_full_disk_is_typed():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(NoSpaceError, match="cannot write to standard output: No space left"):
            StandardOutput(descriptor=descriptor).write(memoryview(DATA))
    finally:
        os.close(descriptor)


def test_an_output_that_takes_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(os, "write", lambda file, data: 0)
    with pytest.raises(StorageIOError, match="takes no byte"):
        StandardOutput(descriptor=1).write(memoryview(DATA))


@pytest.mark.parametrize("code, kind", [(errno.EDQUOT, NoSpaceError), (errno.EIO, StorageIOError)])
def test_what_a_file_system_tells_only_at_the_close_is_an_error(monkeypatch, code, kind):
    real = os.close

    def close(descriptor):
        real(descriptor)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "close", close)
    output = StandardOutput(descriptor=1)
    with pytest.raises(kind, match="cannot write to standard output"):
        output.publish()
    os.fstat(1)
