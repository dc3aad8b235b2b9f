"""`imgstore digest`."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.location import Location, same_file
from imgstore.cli.meter import MODES, json_events, shown
from imgstore.cli.options import (
    FILE,
    LOCATION,
    POSITIVE_SIZE,
    json_option,
    layer_settings,
    name_option,
    source_options,
)
from imgstore.cli.output import Terminal, table
from imgstore.cli.source import Source, opened
from imgstore.cli.target import admit
from imgstore.errors import ConfigError, ManifestError, NotFoundError
from imgstore.model import Call
from imgstore.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from imgstore.manifest import Manifest

_ITSELF: Final = "is the image itself; a manifest is a file of its own"


@click.command(
    cls=Command,
    examples=(
        "imgstore digest disk.img",
        "imgstore digest disk.img -o disk.img.meta4 --url https://example.org/disk.img",
        "imgstore digest disks:debian.raw -o disks:debian.raw.meta4",
        "imgstore digest disk.img --profile profile.yaml",
    ),
)
@click.argument("source", type=LOCATION, metavar="SRC")
@click.option(
    "-o",
    "--output",
    type=LOCATION,
    metavar="DST",
    help="Write the manifest (Metalink 4) to a path or STORE:KEY.",
)
@click.option("--profile", type=FILE, metavar="FILE", help="Add the manifest to this YAML image profile.")
@name_option
@click.option("--force", is_flag=True, help="Replace DST if it exists.")
@click.option(
    "--algorithm",
    "algorithms",
    multiple=True,
    metavar="NAME",
    help="A digest of the whole image, such as sha512 or md5; may be repeated. [default: sha256]",
)
@click.option(
    "--chunk-algorithm",
    type=click.Choice(("sha256", "sha384", "sha512")),
    default="sha256",
    help="The digest of each chunk. [default: sha256]",
)
@click.option(
    "--chunk-size",
    type=POSITIVE_SIZE,
    metavar="SIZE",
    help="Bytes of a chunk. [default: 4MiB, more above 2 TiB]",
)
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="Where a copy is; the best first. May be repeated."
)
@json_option
@click.option(
    "--progress", type=click.Choice(MODES), default="auto", help="As for imgstore cp. [default: auto]"
)
@source_options
@click.pass_obj
def digest(terminal: Terminal, /, source: Location, output: Location | None, **given: Any) -> None:
    """Read the image SRC once, and tell its digests or write them as a manifest.

    A manifest has the size of the image, a digest of each chunk and those of the whole. With it imgstore
    verify finds what is damaged, and cp --manifest fetches a bad chunk again; aria2 and others read it, too.
    One that is written into the store of its image names the version of the image.
    """
    from imgstore.transfer.digest import digest as digested
    from imgstore.transfer.progress import Report

    report = Report()
    locations = [source] if output is None else [source, output]
    _check(source, output, given)
    sources = _sources(given["urls"])
    with (
        needed(locations, terminal, layer_settings(given)) as stores,
        opened(source, given, terminal, stores, json_events(given["progress"], terminal, report)) as origin,
        _taken(output, stores, origin.call, overwrite=given["force"]) as write,
        shown(report, terminal, given["progress"], origin.name),
        _bare(origin).open() as stream,
    ):
        if stream.range.stop is None:
            raise ConfigError(
                f"{source.shown} tells no size, which a manifest needs; copy it to a file first"
            )
        inside = output is not None and output.kind == "store" and output.store == source.store
        _check_count(stream.range.stop, given)
        manifest = digested(
            stream,
            report=report,
            algorithm=given["chunk_algorithm"],
            chunk_size=given["chunk_size"],
            whole=given["algorithms"] or ("sha256",),
            version=stream.info.version if inside else None,
            sources=sources,
        )
        write(manifest)
    if given["profile"]:
        _add_to_profile(manifest, given["profile"], given["name"])
    _tell(terminal, source, manifest, as_json=given["as_json"])


def _bare(origin: Source) -> Source:
    """Gives the source as it is, whatever another manifest says of it."""
    if origin.store is None:
        return origin
    from imgstore.stack import unproven

    return replace(origin, store=unproven(origin.store)[0])


def _check(source: Location, output: Location | None, given: dict[str, Any]) -> None:
    """Refuses, before anything is read, what cannot be meant. Raises: ConfigError, ManifestError."""
    from imgstore.manifest import CHUNK_LIMIT

    if output is not None and output.kind not in {"path", "store"}:
        raise ConfigError(f"{output.shown}: a manifest is written to a path or STORE:KEY")
    if given["chunk_size"] is not None and given["chunk_size"] > CHUNK_LIMIT:
        raise ConfigError(f"--chunk-size is {given['chunk_size']}; 1 to {CHUNK_LIMIT} bytes would do")
    if output == source:
        raise ConfigError(f"{source.shown} {_ITSELF}")
    paths = [given["profile"], output.text if output is not None and output.kind == "path" else None]
    for path in filter(None, paths):
        if source.kind == "path" and same_file(source.text, path):
            raise ConfigError(f"{path} {_ITSELF}")
    if given["profile"]:
        _rehearse(given["profile"], given["name"])
    elif given["name"]:
        raise ConfigError("--name goes with --profile, and is that of an image in it")


def _check_count(size: int, given: dict[str, Any]) -> None:
    """Refuses chunks of which there would be too many. Raises: ConfigError."""
    from imgstore.manifest import most_chunks

    most = most_chunks(given["chunk_algorithm"])
    if given["chunk_size"] is not None and size > most * given["chunk_size"]:
        count = -(-size // given["chunk_size"])
        raise ConfigError(
            f"--chunk-size: a manifest of {count} chunks could not be read; {-(-size // most)} bytes would do"
        )


def _sources(urls: tuple[str, ...]) -> list[Any]:
    from imgstore.manifest import SourceUrl

    try:
        return [SourceUrl(url, priority) for priority, url in enumerate(urls, 1)]
    except ManifestError as exc:
        raise ConfigError(f"--url: {exc}") from exc


@contextlib.contextmanager
def _taken(
    output: Location | None, stores: Mapping[str, Store], call: Call, *, overwrite: bool
) -> Iterator[Callable[[Manifest], None]]:
    """Gives what takes the manifest; a place that cannot is refused before the image is read."""
    from imgstore.publish import PendingFile

    if output is None:
        yield lambda _: None
    elif output.kind == "path":
        with PendingFile(output.text, overwrite=overwrite) as target:

            def publish(manifest: Manifest) -> None:
                target.write(data := _metalink(manifest))
                target.publish(len(data))

            yield publish
    else:
        writer = stores[output.store].writer
        if writer is None:
            raise ConfigError(f"the store {output.store} is only read; write the manifest to a path")
        admit(stores[output.store], output, call, overwrite=overwrite)

        def put(manifest: Manifest) -> None:
            data = _metalink(manifest)
            writer.put(output.key, io.BytesIO(data), len(data), overwrite=overwrite)

        yield put


def _metalink(manifest: Manifest) -> bytes:
    from imgstore.manifest import write_metalink

    file = io.BytesIO()
    write_metalink(manifest, file)
    return file.getvalue()


def _rehearse(path: str, name: str | None) -> None:
    """Finds out whether a manifest fits into the profile. Raises: ConfigError; ManifestError."""
    from imgstore.manifest import CHUNK_SIZE, ChunkDigests, Manifest, write_profile

    nothing = Manifest(0, CHUNK_SIZE, "sha256", ChunkDigests(b"", 32))
    try:
        with _profile(path) as old:
            write_profile(nothing, io.BytesIO(), profile=old, name=name)
    except ManifestError as exc:
        raise ManifestError(f"{path}: {exc}") from exc


@contextlib.contextmanager
def _profile(path: str) -> Iterator[BinaryIO | None]:
    """Gives the profile that is there, None where there is none. Raises: ConfigError."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except FileNotFoundError:
            file = None
        except IsADirectoryError:
            raise ConfigError(f"{path} is a folder; name the profile in it") from None
        yield file


def _add_to_profile(manifest: Manifest, path: str, name: str | None) -> None:
    """Writes the profile anew with the manifest in it, all else as it was; a new one where there is none."""
    from imgstore.manifest import write_profile
    from imgstore.publish import PendingFile

    with _profile(path) as old:
        new = io.BytesIO()
        write_profile(manifest, new, profile=old, name=name)
        mode = None if old is None else os.fstat(old.fileno()).st_mode & 0o777
        with PendingFile(path, overwrite=True, mode=mode) as target:
            target.write(new.getvalue())
            target.publish()


def _tell(terminal: Terminal, source: Location, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(
            {
                "location": source.shown,
                "size": manifest.size,
                "digests": dict(manifest.digests),
                "chunk_size": manifest.chunk_size,
                "chunk_algorithm": manifest.algorithm,
                "chunks": len(manifest.chunks),
                "pin": manifest.pin,
            }
        )
        return
    chunks = f"{len(manifest.chunks)} of {manifest.chunk_size} bytes, {manifest.algorithm}"
    rows = [("location", source.shown), ("size", f"{manifest.size} bytes"), *manifest.digests.items()]
    terminal.print(table([*rows, ("chunks", chunks), ("pin", manifest.pin)]))


def read_manifest(
    path: str, *, name: str | None = None, pin: str | None = None, weak: bool = False
) -> Manifest:
    """Reads a manifest from a file. Raises: NotFoundError, ManifestError naming the file; OSError."""
    from imgstore.manifest import ALGORITHMS, STRONG, read

    try:
        with open(path, "rb") as file:
            return read(file, allow=ALGORITHMS if weak else STRONG, pin=pin, name=name)
    except FileNotFoundError:
        raise NotFoundError(f"there is no manifest {path}") from None
    except ManifestError as exc:
        raise ManifestError(f"{path}: {exc}") from exc
