"""Between files on tmpfs and the Swift API of a real Ceph's radosgw."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import images, swift_objects
from benchmarks.harness import Bench, BrokenRunError, Contender, library, program
from benchmarks.identity import serving
from benchmarks.programs import IMGSTORE
from benchmarks.radosgw import collect, running
from imgstore.transfer.copy import BUFFER as BLOCK

CONTAINER, NAME = "bench", "image"
GETS = {
    "imgstore": swift_objects.get_by_imgstore,
    "swiftclient": swift_objects.get_by_swiftclient,
    "glance_store": swift_objects.get_by_glance_store,
}
PUTS = {
    "imgstore": swift_objects.put_by_imgstore,
    "swiftclient": swift_objects.put_by_swiftclient,
    "glance_store": swift_objects.put_by_glance_store,
}
_SWIFT = Path(sys.executable).with_name("swift")


@dataclass(frozen=True)
class Ways:
    """Where to log in, as whom, with which key: at radosgw; for glance_store at an identity service."""

    own: tuple[str, str, str]
    keystone: tuple[str, str, str]

    def contenders(self, functions: Mapping[str, Callable[..., Any]], path: Path) -> list[Contender]:
        return [
            Contender(
                name,
                partial(
                    library,
                    each,
                    *(self.keystone if name == "glance_store" else self.own),
                    CONTAINER,
                    NAME,
                    path,
                    BLOCK,
                ),
            )
            for name, each in functions.items()
        ]


def run(bench: Bench) -> None:
    source, target = bench.memory / NAME, bench.memory / "copy"
    expected = images.dense(source, bench.size)
    with running(bench.disk / "ceph") as found:
        where = found["RGW_SWIFT_AUTH"], found["RGW_SWIFT_USER"], found["RGW_SWIFT_KEY"]
        os.environ |= dict(zip(("ST_AUTH", "ST_USER", "ST_KEY"), where, strict=True))
        os.environ |= dict(
            zip(("RCLONE_SWIFT_AUTH", "RCLONE_SWIFT_USER", "RCLONE_SWIFT_KEY"), where, strict=True)
        )
        client = swift_objects.client(*where)
        client.put_container(CONTAINER)
        with source.open("rb") as file:
            client.put_object(CONTAINER, NAME, file, content_length=bench.size)
        with serving(client.token, client.url) as identity:
            ways = Ways(where, (identity, "tester", "any"))
            _get(bench, ways, target, expected)
            _put(bench, ways, source, client, found["CEPH_CONF"])
        client.close()


def _get(bench: Bench, ways: Ways, target: Path, expected: str) -> None:
    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was downloaded is not what is on the server")

    remove = partial(target.unlink, missing_ok=True)
    readers = ways.contenders(GETS, target)
    bench.compare("get", _GET, readers, prepare=remove, check=check)
    programs = [
        Contender(
            "imgstore cp",
            partial(program, [*IMGSTORE, "cp", "--no-progress", f"swift://{CONTAINER}/{NAME}", target]),
        ),
        Contender(
            "swift download",
            partial(program, [_SWIFT, "-q", "download", CONTAINER, NAME, "-o", target], sync=target),
        ),
        Contender(
            "rclone",
            partial(program, ["rclone", "copyto", f":swift:{CONTAINER}/{NAME}", target], sync=target),
        ),
    ]
    bench.compare("get by programs", _PROGRAMS, programs, prepare=remove, check=check)
    remove()


def _put(bench: Bench, ways: Ways, source: Path, client, conf: str) -> None:
    def check() -> None:
        if int(client.head_object(CONTAINER, NAME)["content-length"]) != bench.size:
            raise BrokenRunError("what was uploaded is not on the server")

    def remove() -> None:
        for container in (CONTAINER, f"{CONTAINER}_segments"):
            with contextlib.suppress(Exception):  # the second is there after the first large put
                for each in client.get_container(container, full_listing=True)[1]:
                    client.delete_object(container, each["name"])
        collect(conf)

    writers = ways.contenders(PUTS, source)
    bench.compare("put", _PUT, writers, prepare=remove, check=check)
    programs = [
        Contender(
            "imgstore cp",
            partial(program, [*IMGSTORE, "cp", "--no-progress", source, f"swift://{CONTAINER}/{NAME}"]),
        ),
        Contender(
            "swift upload",
            partial(program, [_SWIFT, "-q", "upload", "--object-name", NAME, CONTAINER, source]),
        ),
        Contender("rclone", partial(program, ["rclone", "copyto", source, f":swift:{CONTAINER}/{NAME}"])),
    ]
    bench.compare("put by programs", _PUT, programs, prepare=remove, check=check)
    remove()


_GET = (
    "One object into a new file on tmpfs, synced. Each in a fresh interpreter; start-up and imports are not "
    "timed, logging in is. Server and contender share the machine's cores."
)
_PROGRAMS = "The same by programs, from start to end. The others do not sync; a sync is added to their time."
_PUT = (
    "A file on tmpfs into an object, each with its own defaults: ours in segments, each proven by its MD5; "
    "the others as one object. Removing it again is not timed."
)
