"""A large image that is mostly hole costs what its data costs."""

from __future__ import annotations

from functools import partial

from benchmarks import images
from benchmarks.harness import Bench, BrokenRunError, Contender, program
from benchmarks.images import BLOCK
from benchmarks.programs import IMGSTORE

_SPREAD = 16  # the image's size, in those of `--size`
_DATA = 5  # the part of `--size` that is data: 200 MiB, more or less, of a 16 GiB image


def run(bench: Bench) -> None:
    data = bench.size // _DATA // BLOCK * BLOCK
    source, target = bench.disk / "sparse", bench.disk / "copy"
    solid, solid_copy = bench.disk / "solid", bench.disk / "solid-copy"
    expected = images.sparse(source, bench.size * _SPREAD, data, seed=bench.seed)
    images.dense(solid, data)
    allocated: list[float] = []

    def prepare() -> None:
        target.unlink(missing_ok=True)
        solid_copy.unlink(missing_ok=True)

    def check() -> None:
        if target.exists():
            allocated.append(images.allocated(target) / images.allocated(source))
            if images.content(target) != expected:
                raise BrokenRunError("the copy of the sparse image is another image")

    ours = [*IMGSTORE, "cp", "--no-progress"]
    shell = 'cp --sparse=always "$1" "$2" && sync "$2"'
    contenders = [
        Contender("imgstore cp", partial(program, [*ours, source, target])),
        # the same bytes without a hole among them: what is in proportion takes no longer, but for the seeks
        Contender("imgstore cp, data only", partial(program, [*ours, solid, solid_copy]), limit=1.5),
        Contender("cp --sparse=always && sync", partial(program, ["sh", "-c", shell, "sh", source, target])),
    ]
    about = (
        f"A path to a path of the same disk: {bench.size * _SPREAD >> 20} MiB with {data >> 20} MiB of data "
        "in pieces of 1 MiB, beside a file that has only as much data."
    )
    bench.compare("sparse", about, contenders, prepare=prepare, check=check)
    bench.figure(
        "sparse, blocks", "Allocated by the copy, for each byte of the source.", "x", allocated, 1.05
    )
    for each in (source, target, solid, solid_copy):
        each.unlink(missing_ok=True)
