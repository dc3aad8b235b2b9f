"""What the driver holds, and lets go of: descriptors, processes, threads."""

from __future__ import annotations

import gc
import os
import resource
import threading
import traceback

import pytest

from imgstore.backends._http.client import IDLE_LIMIT
from imgstore.backends.http import HttpStore
from imgstore.errors import ImgstoreError, StorageIOError
from imgstore.testing.server import ScriptedServer, Status
from tests.conftest import descriptors

IMAGE = bytes(range(256)) * 1024
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


def sockets():
    return {number for number, target in descriptors().items() if target.startswith("socket:")}


def read(store, offset=0, length=None, **options):
    with store.get(KEY, offset, length, **options) as stream:
        return stream.read()


def in_a_child(work):
    """Runs `work` in a forked process; gives its exit status, 0 for an assertion-free end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12: it is what is tested
def test_a_fork_has_connections_of_its_own(server):
    """uWSGI forks after loading: parent and child must never write to one connection."""
    with HttpStore(url=server.url("/")) as store:
        assert read(store, 0, 5) == IMAGE[:5]

        def child():
            for offset in range(0, 1000, 100):
                assert read(store, offset, 10, version='"v1"') == IMAGE[offset : offset + 10]
            store.close()

        assert in_a_child(child) == 0
        assert read(store, 5, 5, version='"v1"') == IMAGE[5:10]
        server.log.wait_idle()
        connections = [each.connection for each in server.log]
        assert connections[0] == connections[-1] == 1
        assert set(connections[1:-1]) == {2}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12: it is what is tested
def test_a_fork_while_another_thread_holds_every_lock(server, tmp_path):
    script = tmp_path / "presign"
    script.write_text(f"#!/bin/sh\nsleep 1\necho {server.url('/')}$1\n")
    script.chmod(0o700)
    with HttpStore(url_command=str(script)) as store:
        thread = threading.Thread(target=read, args=(store,))
        thread.start()
        while not store._requesters or not store._requester()._place._running:
            pass
        with store._requester()._place._lock, store._requester().client._lock:
            status = in_a_child(lambda: read(store))
        assert status == 0
        thread.join()


def test_a_store_does_nothing_until_it_is_used(server):
    before = sockets()
    store = HttpStore(url=server.url("/"))
    assert sockets() == before
    store.close()
    assert server.log.connections == 0


def test_a_store_that_is_forgotten_leaves_its_kept_connections_to_nobody(server):
    store = HttpStore(url=server.url("/"))
    read(store, 0, 5)
    store.close()
    del store
    gc.collect()
    server.log.wait_closed()


def test_as_many_kept_as_the_limit_and_no_more(server):
    with HttpStore(url=server.url("/")) as store:
        streams = [store.get(KEY, 0, 5) for _ in range(20)]
        for stream in streams:
            with stream:
                stream.read()
        assert sum(map(len, store._requester().client._idle.values())) <= IDLE_LIMIT


def test_refusals_leave_nothing_open(server):
    with HttpStore(url=server.url("/")) as store:
        for status in (200, 204, 302, 403, 404, 412, 416, 500, 503):
            server.script(PATH, [Status(status, body=b"x" * 100)] * 2)
            with pytest.raises(ImgstoreError):
                store.get(KEY, 5, version='"v1"')
        server.script(PATH)
        assert read(store) == IMAGE
    server.log.wait_closed()


def test_no_descriptor_left_is_no_weather(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with HttpStore(url=server.url("/")) as store:
        first = os.open("/dev/null", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first + 1, hard))
        try:
            with pytest.raises(StorageIOError, match="Too many open files"):
                store.get(KEY)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(first)
        assert read(store, 0, 5) == IMAGE[:5]
