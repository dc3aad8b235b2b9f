"""Between files on tmpfs and RBD images of a real Ceph, dense and mostly hole."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import images, radosgw
from benchmarks.harness import Bench, BrokenRunError, Contender, fsync, library, program
from benchmarks.programs import IMGSTORE

Work = Callable[[], None]
POOL, USER, KEY, SNAP = "images", "images", "image", "snap"
_SPREAD = 10  # the sparse image's size, in those of `--size`
_DATA = 4  # the part of `--size` that is data in it: 256 MiB of a 10 GiB image


def run(bench: Bench) -> None:
    source, target = bench.memory / "image", bench.memory / "copy"
    with radosgw.running(bench.disk / "ceph") as found:
        conf = found["CEPH_CONF"]
        os.environ["CEPH_CONF"], os.environ["CEPH_ARGS"] = conf, f"--id {USER}"
        expected = images.dense(source, bench.size)
        put(str(source), conf)()
        _get(bench, conf, target, expected)
        _remove(conf, KEY)
        _put(bench, conf, source)
        source.unlink()
        data = bench.size // _DATA // images.BLOCK * images.BLOCK
        content = images.sparse(source, bench.size * _SPREAD, data, seed=bench.seed)
        put(str(source), conf)()
        _sparse(bench, conf, target, content, data)
        source.unlink()


def _get(bench: Bench, conf: str, target: Path, expected: str) -> None:
    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was read is not the image")

    remove = partial(target.unlink, missing_ok=True)
    readers = [
        Contender("imgstore", partial(library, get, target, conf)),
        Contender("glance_store", partial(library, glance_get, target, conf)),
    ]
    bench.compare("get", _GET, readers, prepare=remove, check=check)
    bench.compare("get by programs", _PROGRAMS, _programs(target), prepare=remove, check=check)
    remove()


def _put(bench: Bench, conf: str, source: Path) -> None:
    def remove() -> None:
        _remove(conf, KEY)

    def check() -> None:
        if _size(conf) != bench.size:
            raise BrokenRunError("what was stored is not there")

    writers = [
        Contender("imgstore", partial(library, put, source, conf)),
        Contender("glance_store", partial(library, glance_put, source, conf)),
    ]
    bench.compare("put", _PUT, writers, prepare=remove, check=check)
    programs = [
        Contender("imgstore cp", partial(program, [*IMGSTORE, "cp", "--no-progress", source, _URL])),
        Contender("rbd import", partial(program, ["sh", "-c", _IMPORT, "sh", source, f"{POOL}/{KEY}"])),
    ]
    bench.compare("put by programs", _IMPORTING, programs, prepare=remove, check=check)
    remove()


def _sparse(bench: Bench, conf: str, target: Path, content: str, data: int) -> None:
    def check() -> None:
        if images.content(target) != content:
            raise BrokenRunError("the copy of the sparse image is another image")

    remove = partial(target.unlink, missing_ok=True)
    about = f"{bench.size * _SPREAD >> 20} MiB with {data >> 20} MiB of data in pieces of 1 MiB. {_PROGRAMS}"
    bench.compare("sparse get", about, _programs(target), prepare=remove, check=check)
    remove()


def _programs(target: Path) -> list[Contender]:
    """Gives the programs that read an image into a file; of those that are not installed there is none."""
    found = [
        Contender("imgstore cp", partial(program, [*IMGSTORE, "cp", "--no-progress", _URL, target])),
        Contender(
            "rbd export",
            partial(program, ["rbd", "export", "--no-progress", f"{POOL}/{KEY}@{SNAP}", target], sync=target),
        ),
    ]
    if shutil.which("qemu-img"):
        argv = ["qemu-img", "convert", "-O", "raw", f"rbd:{POOL}/{KEY}@{SNAP}:id={USER}", target]
        found.append(Contender("qemu-img convert", partial(program, argv, sync=target)))
    return found


def opened(conf: str):
    from imgstore.backends.rbd import RbdStore, bindings
    from imgstore.stack import build

    bindings.load()  # imports are not timed
    return build(RbdStore(pool=POOL, user=USER, ceph_conf=conf))


def get(path: str, conf: str) -> Work:
    from imgstore.publish import PendingFile
    from imgstore.transfer import copy
    from imgstore.transfer.progress import Report
    from imgstore.transfer.sparse import open_source

    store = opened(conf)

    def work() -> None:
        with store, PendingFile(path) as file, open_source(store, KEY) as stream:
            copy.copy(stream, file, report=Report())

    return work


def put(path: str, conf: str) -> Work:
    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.transfer import sparse, upload
    from imgstore.transfer.progress import Report

    store, files = opened(conf), FilesystemStore(data_dir=os.path.dirname(path))

    def work() -> None:
        with store, files, sparse.open_source(files, os.path.basename(path)) as stream:
            upload.upload(stream, store, KEY, report=Report())

    return work


def glance_get(path: str, conf: str) -> Work:
    client, _, fsid = glance(conf)

    def work() -> None:
        chunks, _ = client.get_from_backend(f"rbd://{fsid}/{POOL}/{KEY}/{SNAP}")
        with open(path, "wb", buffering=0) as file:
            file.writelines(chunks)
        fsync(path)

    return work


def glance_put(path: str, conf: str) -> Work:
    client, settings, _ = glance(conf)

    def work() -> None:
        with open(path, "rb") as file:
            client.add_to_backend(settings, KEY, file, os.stat(path).st_size)

    return work


def glance(conf: str):
    """Gives glance_store's interface, its settings and the cluster's id; chunks are those it comes with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import glance_store
        import rados
        from oslo_config import cfg

    settings = cfg.ConfigOpts()
    glance_store.register_opts(settings)
    settings(args=[])
    given = {
        "stores": ["rbd"],
        "default_store": "rbd",
        "rbd_store_ceph_conf": conf,
        "rbd_store_user": USER,
        "rbd_store_pool": POOL,
    }
    for name, value in given.items():
        settings.set_override(name, value, group="glance_store")
    glance_store.create_stores(settings)
    with rados.Rados(conffile=conf, rados_id=USER) as cluster:
        return glance_store, settings, cluster.get_fsid()


def _remove(conf: str, key: str) -> None:
    """Removes an image, whoever made it; it is no error if there is none."""
    for argv in (["snap", "unprotect", f"{POOL}/{key}@{SNAP}"], ["snap", "purge"], ["rm"]):
        spec = [] if argv[1:2] == ["unprotect"] else ["--no-progress", f"{POOL}/{key}"]
        program(["sh", "-c", 'rbd "$@" || true', "sh", *argv, *spec])


def _size(conf: str) -> int:
    with opened(conf) as store:
        return store.stat(KEY).size


_URL = f"rbd://{POOL}/{KEY}"
# What it takes to make an image of it that Nova and Cinder clone.
_IMPORT = (
    'rbd import --no-progress "$1" "$2" && rbd snap create --no-progress "$2@snap" && '
    'rbd snap protect "$2@snap"'
)
_GET = (
    "One image into a new file on tmpfs, synced. Each in a fresh interpreter; start-up and imports are not "
    "timed, connecting is. The cluster and the contender share the machine's cores."
)
_PROGRAMS = "By programs, from start to end. A sync is added to the time of those that do not."
_PUT = (
    "A file on tmpfs into an image with a protected snapshot; start-up and imports are not timed. "
    "glance_store computes two digests, too."
)
_IMPORTING = (
    "The same by programs, from start to end; rbd import is followed by making and protecting a snapshot."
)
