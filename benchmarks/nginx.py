"""An nginx that serves the files of one folder on a free port of 127.0.0.1, and ends with the block."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import BrokenRunError

# Debian keeps servers out of an ordinary user's PATH.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

_CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
worker_cpu_affinity 01;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}; root {root}; limit_rate {rate}; }}
}}
"""


@contextlib.contextmanager
def serving(root: Path, folder: Path, *, rate: int = 0) -> Iterator[str]:
    """Gives the URL under which the files in `root` are; what nginx itself writes goes into `folder`.

    Each connection is limited to `rate` bytes a second, if that is above 0.
    """
    binary = shutil.which("nginx", path=PATH)
    if binary is None:
        raise BrokenRunError("nginx is not installed: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    user = "user root;" if os.getuid() == 0 else ""
    settings = folder / "nginx.conf"
    settings.write_text(_CONFIGURATION.format(user=user, folder=folder, port=port, root=root, rate=rate))
    server = subprocess.Popen([binary, "-c", settings, "-p", folder, "-e", folder / "error.log"])
    try:
        _wait(server, port, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.02)
    raise BrokenRunError(f"nginx did not come up: {(folder / 'error.log').read_text().strip()}")
