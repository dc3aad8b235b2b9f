"""Over eight connections: to a server that limits each of them, and to one that is far away."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks import downloads, images
from benchmarks.harness import Bench, BrokenRunError, Comparison, Contender, library, program
from benchmarks.latency import distant
from benchmarks.nginx import serving
from benchmarks.programs import IMGSTORE
from imgstore.transfer.copy import BUFFER as BLOCK

Work = Callable[[], None]

CONNECTIONS = 8
# Bytes a second for each: so slow that all eight together leave both cores idle.
RATE = 16 << 20
# The share of what all connections may bring together that a transfer is to reach, ramp and all.
SHARE = 0.9
# Of parts for those that let one say: what s3transfer, which does, takes by itself.
_PART = 8 << 20


def run(bench: Bench) -> None:
    source, target = bench.memory / "www" / "bucket" / "image", bench.memory / "copy"
    source.parent.mkdir(parents=True)
    expected = images.dense(source, bench.size)
    remove = partial(target.unlink, missing_ok=True)

    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was downloaded is not what is on the server")

    def compare(name: str, about: str, base: str, theirs: int) -> list[Comparison]:
        url, compare = f"{base}/bucket/{source.name}", partial(bench.compare, prepare=remove, check=check)
        return [
            compare(f"{name}, libraries", f"{about} {_LIBRARIES}", _libraries(base, url, target, theirs)),
            compare(f"{name}, programs", f"{about} {_PROGRAMS}", _programs(base, url, target, theirs)),
        ]

    folder, root = bench.memory / "nginx", source.parent.parent
    with serving(root, folder, rate=RATE) as base:
        limited = compare("limited", _LIMITED, base, CONNECTIONS)
    with serving(root, folder) as base, distant(int(base.rpartition(":")[2])) as port:
        compare("distant", _DISTANT, f"http://127.0.0.1:{port}", CONNECTIONS)
    with serving(root, folder) as base:
        compare("loopback", _LOOPBACK, base, 1)
    least = bench.size / (CONNECTIONS * RATE)
    for found in limited:
        walls = [cost.wall / least for cost in found.costs[found.contenders[0].name]]
        bench.figure(f"{found.name}, {found.contenders[0].name}", _LEAST, "times the least", walls, 1 / SHARE)
    remove()
    source.unlink()


def _libraries(base: str, url: str, target: Path, theirs: int) -> list[Contender]:
    return [
        Contender("imgstore", partial(library, out_of_order, url, target)),
        Contender("imgstore, in order", partial(library, in_order, url, target)),
        Contender("s3transfer", partial(library, s3transfer, base, target, theirs)),
        Contender("obstore", partial(library, obstore, url, target, theirs)),
    ]


def _programs(base: str, url: str, target: Path, theirs: int) -> list[Contender]:
    ours = [*IMGSTORE, "cp", "--no-progress", "--parallel", str(CONNECTIONS), url, str(target)]
    aria2 = ["aria2c", "-q", f"-x{theirs}", f"-s{theirs}", "-k1M", "--file-allocation=none"]
    rclone = ["rclone", "copyto", "--http-url", base, "--multi-thread-streams", str(theirs)]
    rclone += ["--multi-thread-cutoff", "1M", f":http:bucket/{Path(url).name}", str(target)]
    return [
        Contender("imgstore cp", partial(program, ours)),
        Contender(
            "aria2", partial(program, [*aria2, "-d", target.parent, "-o", target.name, url], sync=target)
        ),
        Contender("curl", partial(program, ["curl", "-sSf", "-o", target, url], sync=target)),
        Contender("rclone", partial(program, rclone, sync=target)),
    ]


def out_of_order(url: str, target: str) -> Work:
    """What `imgstore cp --parallel` does, journal and all."""
    from imgstore.backends.http import HttpStore
    from imgstore.stack import build
    from imgstore.transfer.download import Origin, download
    from imgstore.transfer.progress import Report

    def work() -> None:
        driver, key = HttpStore.at(url)
        with build(driver) as store:
            download(Origin(store=store, key=key), target, report=Report(), connections=CONNECTIONS)

    return work


def in_order(url: str, target: str) -> Work:
    """One stream, as every caller of `Store.get` has it."""
    from imgstore.backends.http import HttpStore
    from imgstore.publish import PendingFile
    from imgstore.stack import LayerSettings, build
    from imgstore.transfer import copy
    from imgstore.transfer.progress import Report

    copy.BUFFER = BLOCK

    def work() -> None:
        driver, key = HttpStore.at(url)
        settings = LayerSettings(parallel=CONNECTIONS)
        with build(driver, settings) as store, PendingFile(target) as file, store.get(key) as stream:
            copy.copy(stream, file, report=Report())

    return work


def s3transfer(base: str, target: str, connections: int) -> Work:
    """nginx answers what it asks: HEAD, and GET with a range and If-Match."""
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore import UNSIGNED
    from botocore.config import Config

    def work() -> None:
        settings = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"})
        client = boto3.client("s3", endpoint_url=base, region_name="us-east-1", config=settings)
        transfer = TransferConfig(
            max_concurrency=connections, multipart_chunksize=_PART, use_threads=connections > 1
        )
        client.download_file("bucket", "image", target, Config=transfer)
        downloads.synced(target)

    return work


def obstore(url: str, target: str, connections: int) -> Work:
    """It has no download in parts of its own: threads that each ask for the next one."""
    if connections == 1:
        return downloads.obstore(url, target, BLOCK)
    import obstore as client
    from obstore.store import HTTPStore

    def work() -> None:
        base, _, name = url.rpartition("/")
        store = HTTPStore.from_url(base, client_options={"allow_http": True})
        size = client.head(store, name)["size"]
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            fetch = partial(_fetch, client, store, name, descriptor)
            with ThreadPoolExecutor(connections) as pool:
                for _ in pool.map(fetch, range(0, size, _PART), [size] * -(-size // _PART)):
                    pass
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    return work


def _fetch(client, store, name: str, descriptor: int, start: int, size: int) -> None:
    data = client.get_range(store, name, start=start, end=min(start + _PART, size))
    os.pwrite(descriptor, data, start)


_LIBRARIES = (
    "In a fresh interpreter, without start-up and imports. `imgstore` is what `cp` does, journal and all; "
    "`imgstore, in order` the stream that `Store.get` gives, written by one thread."
)
_PROGRAMS = "From start to end; those that do not sync have a sync added to their time."
_WHAT = f"One image into a new file on tmpfs, synced, over up to {CONNECTIONS} connections; over one by curl."
_THREADS = f"obstore gets its parts from {CONNECTIONS} threads of ours."
_LIMITED = f"nginx gives each connection {RATE >> 20} MiB/s. {_WHAT} {_THREADS}"
_DISTANT = (
    "The proxy of `benchmarks/latency.py` holds each byte back for 25 ms, in both directions, with 3 MiB "
    f"under way at most in each connection. {_WHAT} {_THREADS}"
)
_LOOPBACK = (
    "nginx holds nothing back, and one connection is as fast as the machine. One image into a new file on "
    f"tmpfs, synced: we over up to {CONNECTIONS} connections, the others over one."
)
_LEAST = (
    f"Time over that which {CONNECTIONS} connections of {RATE >> 20} MiB/s need at least; up to "
    f"1/{SHARE} was aimed for."
)
