"""From nginx into a file on tmpfs."""

from __future__ import annotations

from functools import partial

from benchmarks import downloads, images
from benchmarks.harness import Bench, BrokenRunError, Contender, library, program
from benchmarks.nginx import serving
from benchmarks.programs import IMGSTORE
from imgstore.transfer.copy import BUFFER as BLOCK

# Of the bare loop's time: what layers, checks and the framing of the body may cost.
BARE_LIMIT = 1.2


def run(bench: Bench) -> None:
    source, target = bench.memory / "www" / "image", bench.memory / "copy"
    source.parent.mkdir()
    expected = images.dense(source, bench.size)

    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was downloaded is not what is on the server")

    with serving(source.parent, bench.memory / "nginx") as base:
        url = f"{base}/{source.name}"
        readers = [
            Contender("imgstore", partial(library, downloads.imgstore, url, target, BLOCK)),
            Contender("bare loop", partial(library, downloads.bare_loop, url, target, BLOCK), BARE_LIMIT),
            *(
                Contender(each.__name__, partial(library, each, url, target, BLOCK))
                for each in (downloads.urllib3, downloads.requests, downloads.obstore, downloads.glance_store)
            ),
        ]
        remove = partial(target.unlink, missing_ok=True)
        bench.compare("libraries", _LIBRARIES, readers, prepare=remove, check=check)
        programs = [
            Contender("imgstore cp", partial(program, [*IMGSTORE, "cp", "--no-progress", url, target])),
            Contender("curl", partial(program, ["curl", "-sSf", "-o", target, url], sync=target)),
            Contender("rclone", partial(program, ["rclone", "copyurl", url, target], sync=target)),
        ]
        bench.compare("programs", _PROGRAMS, programs, prepare=remove, check=check)
    remove()
    source.unlink()
    source.parent.rmdir()


_LIBRARIES = (
    "One GET into a new file on tmpfs, synced. Each in a fresh interpreter; start-up and imports are not "
    "timed, connecting is. Blocks of 2 MiB for all that let one say."
)
_PROGRAMS = (
    "The same by programs, from start to end. curl and rclone do not sync; a sync is added to their time."
)
