"""The servers of a session end with it, whatever ends it, and are in nobody's way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.real.putting import get_s3, put_s3
from tests.real.servers.moto import Moto
from tests.real.servers.nginx import Nginx
from tests.real.servers.script import Servers, traces


def test_a_paused_server_stops_at_once(tmp_path):
    server = Nginx.start(tmp_path / "nginx")
    server.pause("nginx")
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 5
    assert traces(server.folder) == [str(server.folder)]
    server.wipe()
    assert not traces(server.folder)


def test_two_sessions_side_by_side_and_nothing_left(moto, tmp_path):
    other = Servers()
    second = other.start(Moto, tmp_path / "moto")
    put_s3(second.s3, "second")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        get_s3(moto.s3, "second")
    # The folder, moto, and the two that wait for this process to end.
    assert len(traces(second.folder)) == 4
    other.wipe()
    assert not traces(second.folder)


def test_whatever_is_left_behind_is_found(tmp_path):
    other = Servers()
    server = other.start(Nginx, tmp_path / "nginx")
    with subprocess.Popen(["sleep", "60"], cwd=server.folder) as stray:
        try:
            with pytest.raises(pytest.fail.Exception, match=f"left behind: process {stray.pid}: sleep 60"):
                other.wipe()
        finally:
            stray.kill()


def test_servers_end_with_a_session_that_is_killed(tmp_path):
    folder = tmp_path / "moto"
    code = f"""
import os, pathlib, signal
from tests.real.servers.moto import Moto
Moto.start(pathlib.Path({str(folder)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 10
    while left := traces(folder):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def test_a_folder_that_is_no_servers_is_not_removed(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(pytest.fail.Exception, match="not a server's: not removed"):
        Moto(tmp_path).wipe()
    with pytest.raises(pytest.fail.Exception, match="is not empty"):
        Moto.start(tmp_path)
    assert os.listdir(tmp_path) == ["precious"]


@contextlib.contextmanager
def impostor(port):
    """Answers every GET on a port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_an_answer_by_another_on_the_port_is_none(tmp_path):
    server = Moto.start(tmp_path / "moto")
    try:
        server.kill9("moto")
        with (
            impostor(urlsplit(server.s3.url).port),
            pytest.raises(pytest.fail.Exception, match=r"(?s)moto ended: .*in use"),
        ):
            server.up("moto")
    finally:
        server.wipe()
