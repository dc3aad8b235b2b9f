"""Real servers, started by the tests on free ports and stopped with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import canary

HERE = Path(__file__).parent
# Debian keeps servers out of an ordinary user's PATH.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test in this folder as one against a real server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("real")


def need(*programs: str, package: str) -> None:
    """Skips where a program is missing; fails instead in CI and under IMGSTORE_REAL=required."""
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    if not missing:
        return
    reason = f"{' and '.join(missing)} not installed: apt-get install {package}"
    if os.environ.get("CI") == "true" or os.environ.get("IMGSTORE_REAL") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Nginx:
    """A running nginx over the files in `root`; servers/nginx.sh says what each prefix does to them.

    `user` and `password` open /auth/; `ca` is the file that vouches for both TLS ports, and `client`
    the certificate and key that the mutual one asks for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "www"
        self.ca = folder / "tls" / "ca.pem"
        self.client = (folder / "tls" / "client.pem", folder / "tls" / "client.key")
        self.user, self.password = "user", canary.PASSWORD
        self.start()
        settings = dict(line.split("=", 1) for line in (folder / "settings").read_text().splitlines())
        self.port = int(settings["PORT"])
        self.tls_port = int(settings["TLS_PORT"])
        self.mtls_port = int(settings["MTLS_PORT"])

    def url(self, prefix: str, name: str) -> str:
        """Gives the plain URL of the file `name` under a prefix: `url("files", "a.img")`."""
        return f"http://127.0.0.1:{self.port}/{prefix}/{name}"

    def tls_url(self, prefix: str, name: str) -> str:
        """Gives the https URL of the same."""
        return f"https://127.0.0.1:{self.tls_port}/{prefix}/{name}"

    def mtls_url(self, name: str) -> str:
        """Gives the https URL of /files/ on the port that wants a client certificate."""
        return f"https://127.0.0.1:{self.mtls_port}/files/{name}"

    def put(self, name: str, data: bytes) -> Path:
        """Puts a file under `name` by a rename: open connections keep the bytes they had.

        A file that takes another's place is a second younger at least: nginx makes its ETag of the time in
        whole seconds and the size, and takes a quick replacement of the same size for the same file.
        """
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_bytes(data)
        if target.exists():
            modified = max(fresh.stat().st_mtime, target.stat().st_mtime + 1)
            os.utime(fresh, (modified, modified))
        return fresh.replace(target)

    def start(self) -> None:
        """Starts it, on the same ports as before; a running one is left as it is."""
        self._run("start")

    def stop(self) -> None:
        """Stops it, paused or not."""
        self._run("stop")

    def kill9(self) -> None:
        """Kills it outright: open connections are cut, new ones refused until `start`."""
        self._run("kill9")

    def pause(self) -> None:
        """Stops its workers in their tracks: connections stay open and fall silent."""
        self._run("pause")

    def cont(self) -> None:
        """Lets paused workers go on."""
        self._run("cont")

    def _run(self, command: str) -> None:
        done = subprocess.run(
            [HERE / "servers" / "nginx.sh", command, self.folder],
            check=False,
            # To a file and not a pipe: a daemon keeps what it inherits, and a pipe would never end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            env={**os.environ, "PATH": PATH, "NGINX_PASSWORD": self.password},
        )
        if done.returncode:
            pytest.fail(f"nginx.sh {command}: {done.stderr.strip()}", pytrace=False)


RUNNING: pytest.StashKey[Nginx] = pytest.StashKey()


@pytest.fixture(scope="session")
def nginx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Gives a running nginx, for the whole session."""
    need("nginx", "openssl", package="nginx-light openssl")
    server = Nginx(tmp_path_factory.mktemp("nginx"))
    request.config.stash[RUNNING] = server
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def nginx_comes_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has nginx up and answering again after a test that killed or paused it."""
    yield
    if server := request.config.stash.get(RUNNING, None):
        server.start()
        server.cont()
