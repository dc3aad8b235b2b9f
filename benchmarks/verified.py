"""From nginx into a file on tmpfs that is proven by digests: ours by chunks, before they are written."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks import images
from benchmarks.harness import Bench, BrokenRunError, Contender, program
from benchmarks.nginx import serving
from benchmarks.programs import IMGSTORE
from imgstore.manifest import SourceUrl, write_metalink
from imgstore.stack import build
from imgstore.transfer.digest import digest
from imgstore.transfer.progress import Report

_ABOUT = (
    "One GET, proven by SHA-256, by programs from start to end: imgstore and aria2 by one Metalink file, "
    "with digests of chunks of 4 MiB and of the whole; after curl sha256sum reads the file again. imgstore "
    "syncs; for the others a sync is added to their time."
)


def run(bench: Bench) -> None:
    source, target = bench.memory / "www" / "image", bench.memory / "copies" / "image"
    source.parent.mkdir()
    target.parent.mkdir()
    expected = images.dense(source, bench.size)

    def prepare() -> None:
        shutil.rmtree(target.parent)
        target.parent.mkdir()

    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was downloaded is not what is on the server")

    with serving(source.parent, bench.memory / "nginx") as base:
        url = f"{base}/{source.name}"
        metalink, sums = bench.memory / "image.meta4", bench.memory / "image.sha256"
        _describe(source, url, metalink)
        sums.write_text(f"{expected}  {target}\n")
        ours = [*IMGSTORE, "cp", "--no-progress", "--manifest", metalink, url, target]
        # its sums are checked by default while it downloads; it allocates nothing that it then has to fill
        aria2 = ["aria2c", "-q", "--no-conf", "--file-allocation=none", "--check-integrity=true"]
        aria2 += ["--max-connection-per-server=1", f"--dir={target.parent}", f"--metalink-file={metalink}"]
        curl = f"curl -sSf -o {target} {url} && sha256sum --status -c {sums}"
        contenders = [
            Contender("imgstore cp --manifest", partial(program, ours)),
            Contender("curl && sha256sum", partial(program, ["sh", "-c", curl], sync=target)),
            Contender("aria2", partial(program, aria2, sync=target)),
        ]
        bench.compare("verified copy", _ABOUT, contenders, prepare=prepare, check=check)
    for path in (source, metalink, sums):
        path.unlink()
    for folder in (source.parent, target.parent):
        shutil.rmtree(folder)


def _describe(source: Path, url: str, metalink: Path) -> None:
    from imgstore.backends.filesystem import FilesystemStore

    with build(FilesystemStore(data_dir=source.parent)) as store, store.get(source.name) as stream:
        manifest = digest(stream, report=Report(), sources=[SourceUrl(url)])
    with open(metalink, "wb") as file:
        write_metalink(manifest, file)
