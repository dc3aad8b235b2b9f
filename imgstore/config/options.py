"""The options that every configuration has, as an operator reads them, and their registration."""

from __future__ import annotations

from typing import Final

from oslo_config import cfg

from imgstore.stack import LayerSettings

MAIN: Final = "imgstore"
DEFAULTS: Final = "store_defaults"

# What 0 means in a file, where None cannot be written: no limit.
UNLIMITED: Final = frozenset({"deadline", "max_streams", "rate_limit"})

_built_in = LayerSettings()

MAIN_OPTIONS: Final = (
    cfg.ListOpt(
        "enabled_stores",
        default=[],
        sample_default="disks:filesystem, web:http",
        help="The stores that are open, as NAME:DRIVER, separated by commas. The options of a store stand "
        "in the section [store_NAME]; two stores may have one driver. A name has 1 to 64 characters of "
        "a-z, 0-9, _ and -, and does not begin with a hyphen; 'defaults', 'http' and 'https' mean "
        "something else. Drivers are found by their entry point in 'imgstore.drivers', so that another "
        "package can bring some; only those that are named here are imported. The driver 'mirror' makes one "
        "store of others that hold the same images. Without any store and any "
        "[store_NAME], there is one store, 'local': files below $XDG_DATA_HOME/imgstore/images "
        "(~/.local/share/imgstore/images), made when the first image is stored.",
    ),
    cfg.StrOpt(
        "default_store",
        help="The store that is meant where none is named. Not needed where there is only one.",
        sample_default="disks",
    ),
)

LAYER_OPTIONS: Final = (
    cfg.IntOpt(
        "resume_attempts",
        default=_built_in.resume_attempts,
        min=0,
        help="Tries in a row that may fail without progress until a call gives up; 64 KiB of progress, or "
        "success, start the count anew. The pauses between them grow from at most 0.2 to at most 20 seconds, "
        "so that 8 tries ride out an outage of ten to twenty seconds. 0 never tries again.",
    ),
    cfg.FloatOpt(
        "stall_timeout",
        default=_built_in.stall_timeout,
        help="Seconds, above 0, over which 'stall_floor' is measured: a read that brings less in that time "
        "is broken off and goes on over a new connection. Silence counts as well, and is noticed within 20 "
        "seconds however long this is.",
    ),
    cfg.FloatOpt(
        "stall_floor",
        default=_built_in.stall_floor,
        min=0,
        help="Bytes a second below which a read counts as stalled. The time in which the reader itself takes "
        "nothing does not count. 16 KiB is far below what an image can be used at, and above what a "
        "connection trickles that a broken middlebox keeps alive. 0 allows any speed above none.",
    ),
    cfg.FloatOpt(
        "deadline",
        default=_built_in.deadline,
        min=0,
        help="Seconds that one call (a read from its first byte to its last, a write, a listing) may take in "
        "all, tries and pauses included. 0 or nothing: as long as there is progress.",
    ),
    cfg.IntOpt(
        "skip_limit",
        default=_built_in.skip_limit,
        min=0,
        help="Bytes that may be received and thrown away where a server ignores the range that it was asked "
        "for and serves from the start. 1 GiB takes some ten seconds on a fast network; beyond it, such a "
        "server is better told apart as an error.",
    ),
    cfg.FloatOpt(
        "proof_limit",
        default=_built_in.proof_limit,
        min=0,
        help="How often the bytes of a read may be received again, as a multiple of its length, to prove "
        "that an image for which the store has no version is still the same after a break. 0: a read of "
        "such an image that breaks fails.",
    ),
    cfg.IntOpt(
        "max_streams",
        default=_built_in.max_streams,
        min=0,
        help="Reads that may be open at once in this process; more wait for one to end. 0 or nothing: any "
        "number.",
    ),
    cfg.FloatOpt(
        "rate_limit",
        default=_built_in.rate_limit,
        min=0,
        help="Bytes a second that all reads of the store in this process may receive together. 0 or nothing: "
        "as fast as it goes.",
    ),
    cfg.StrOpt(
        "verify",
        default=_built_in.verify,
        choices=[
            ("off", "Images are given as the store gives them."),
            ("if-present", "An image that has a manifest is proven by it, chunk for chunk."),
            ("required", "An image without a manifest, or with that of another image, is not given."),
        ],
        help="Whether what is read is held against the digests in the image's manifest before it is handed "
        "out. A chunk that does not match is fetched once more, alone. Reads are widened to whole chunks, "
        "and each open asks for the manifest first; the last four are remembered.",
    ),
    cfg.StrOpt(
        "manifest_store",
        sample_default="disks",
        help="The store that has the manifests, under the image's key and '.meta4'. Nothing: they are beside "
        "their images, and are then not listed.",
    ),
    cfg.BoolOpt(
        "store_manifests",
        default=_built_in.store_manifests,
        sample_default=True,
        help="Whether each image that is stored gets a manifest, computed as its bytes go by and stored "
        "after it. An image that is uploaded in parts, or copied inside the store, is read once for that, "
        "unless its source has one. Nothing: where 'verify' is 'required', since the image could not be "
        "read without.",
    ),
    cfg.IntOpt(
        "parallel",
        default=_built_in.parallel,
        min=1,
        help="Connections that one read may use at once, each for a part of the image: useful where the "
        "server or the network limits each of them. A read begins with four and has more while they make it "
        "faster; one of at most 'part_size' bytes has no second one. An image without a version and without "
        "a manifest, and a server that ignores ranges, is read over one. 1 reads over one connection.",
    ),
    cfg.IntOpt(
        "part_size",
        default=_built_in.part_size,
        min=64 << 10,
        help="Bytes of a part, where 'parallel' is above 1; at least a chunk of the image's manifest. A read "
        "holds up to 'parallel' + 2 of them in memory. Each part is a request: larger ones make up for slow "
        "answers.",
    ),
)

LAYER_NAMES: Final = frozenset(option.dest for option in LAYER_OPTIONS)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Registers the groups [imgstore] and [store_defaults] with `conf`, as `open_stores` does itself.

    Doing so again changes nothing. What stands in the sections of the stores is known once the stores are.
    """
    conf.register_opts(MAIN_OPTIONS, MAIN)
    conf.register_opts(LAYER_OPTIONS, DEFAULTS)


def group_of(store_id: str) -> str:
    """Gives the section that a store's options stand in."""
    return f"store_{store_id}"
