"""Real servers: each starts on free ports when a test first asks for it, and is wiped with the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.servers.ceph import Ceph
from tests.real.servers.keystone import Keystone, SwiftKeystone
from tests.real.servers.moto import Moto
from tests.real.servers.nginx import Nginx
from tests.real.servers.script import Servers, need
from tests.real.servers.swift import Swift

# programs for the Python that the servers have, with modules that the tests' has not
collect_ignore_glob = ["servers/inside/*"]

__all__ = ["Ceph", "Keystone", "Moto", "Nginx", "Swift", "SwiftKeystone", "need"]

HERE = Path(__file__).parent
SERVERS: pytest.StashKey[Servers] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Gives the session its list of servers."""
    config.stash[SERVERS] = Servers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test in this folder as one against a real server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("real")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands on how long each server took to start, from a worker of several."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["servers"] = session.config.stash[SERVERS].seconds


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Gathers that of each worker; what several started, took as long as the slowest."""
    seconds = node.config.stash[SERVERS].seconds
    for name, taken in getattr(node, "workeroutput", {}).get("servers", {}).items():
        seconds[name] = max(taken, seconds.get(name, 0.0))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tells how long each server took to start."""
    if seconds := config.stash[SERVERS].seconds:
        each = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
        terminalreporter.line(f"servers started: {each}")


Start = Callable[..., Any]


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Gives what starts a server for the session: `serve(Ceph)`."""
    servers = request.config.stash[SERVERS]
    folder = tmp_path_factory.mktemp("servers")

    def start(kind: Any, name: str | None = None, **environment: str) -> Any:
        return servers.start(kind, folder / (name or kind.name), **environment)

    yield start
    servers.wipe()


@pytest.fixture(autouse=True)
def servers_come_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has every server up and answering again after a test that killed, paused or stopped one."""
    yield
    request.config.stash[SERVERS].come_back()


@pytest.fixture(scope="session")
def nginx(serve: Start) -> Nginx:
    """Gives a running nginx."""
    return serve(Nginx)


@pytest.fixture(scope="session")
def ceph(serve: Start) -> Ceph:
    """Gives a running Ceph: RBD, and S3 and Swift by radosgw."""
    return serve(Ceph)


@pytest.fixture(scope="session")
def rbd_ceph(ceph: Ceph) -> Ceph:
    """Gives the same, to a Python that has rados and rbd."""
    ceph.need_bindings()
    return ceph


@pytest.fixture(scope="session")
def moto(serve: Start) -> Moto:
    """Gives a running moto."""
    return serve(Moto)


@pytest.fixture(scope="session")
def swift(serve: Start) -> Swift:
    """Gives a running Swift with tempauth and s3api."""
    return serve(Swift)


@pytest.fixture(scope="session")
def keystone(serve: Start) -> Keystone:
    """Gives a running Keystone, whose catalog names no object store yet."""
    return serve(Keystone)


@pytest.fixture(scope="session")
def swift_keystone(serve: Start, keystone: Keystone) -> SwiftKeystone:
    """Gives a Swift of its own that takes the tokens of `keystone`, and is in its catalog."""
    swift = serve(Swift, "swift_keystone", KEYSTONE_AUTH=keystone.auth)
    keystone.endpoint(swift.url)
    return SwiftKeystone(swift, keystone)
