"""The images of the demo: one that it builds, and one out of a Debian package. Both are ISO 9660."""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import io
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from unittest import mock

import pycdlib

from demo.interrupts import whole

MIB = 1 << 20
FILES = 8
# Packages that hold a bootable ISO and nothing that needs to be installed.
PACKAGES = ("grub-rescue-pc", "memtest86+")
# With a network, apt needs a second; without one it must not hold up everything else.
PATIENCE = 20


class ImageUnavailableError(Exception):
    """An image can't be had on this machine; the text says why, in one line."""


@dataclass(frozen=True)
class Image:
    """The bytes of an image, and what is known of the files in it (path to SHA-256; None is not known)."""

    name: str
    origin: str
    data: bytes = field(repr=False)
    files: dict[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def half(self) -> int:
        return self.size // 2

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def repr_digest(self) -> str:
        """What a server says of the whole image beside any part of it (RFC 9530 §3)."""
        return f"sha-256=:{base64.b64encode(bytes.fromhex(self.sha256)).decode()}:"

    @property
    def changed(self) -> bytearray:
        """The next version of the image: as large, and different in every block of 64 KiB."""
        other = bytearray(self.data)
        for place in range(0, self.size, 64 << 10):
            other[place] ^= 0xFF
        return other


def built(folder: str, mebibytes: int) -> Image:
    """The image of some `mebibytes` that is made here, or was by an earlier run."""
    name = f"demo-{mebibytes}.iso"
    path = os.path.join(folder, name)
    contents = _contents(mebibytes)
    files = {each: hashlib.sha256(data).hexdigest() for each, data in contents.items()}
    if not (os.path.exists(path) and _holds(path, files)):
        with whole(tempfile.TemporaryDirectory(dir=folder, prefix="build-")) as scratch:
            draft = os.path.join(scratch, name)
            _build(draft, contents)
            os.replace(draft, path)
    with open(path, "rb") as file:
        return Image(name, f"{FILES} files of noise, put together by pycdlib", file.read(), files)


def packaged(folder: str) -> Image:
    """A bootable ISO that Debian ships. The package is unpacked, not installed.

    Raises: ImageUnavailableError.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ImageUnavailableError(f"there is no {tool} here")
    reasons = []
    for package in PACKAGES:
        place = os.path.join(folder, package)
        try:
            if not os.path.isdir(place):
                _fetch(folder, package, place)
        except ImageUnavailableError as error:
            reasons.append(str(error))
            continue
        if found := sorted(glob.glob(f"{place}/**/*.iso", recursive=True)):
            with open(found[0], "rb") as file:
                name = os.path.basename(found[0])
                return Image(name, f"from Debian's {package}", file.read(), dict.fromkeys(_listed(found[0])))
    raise ImageUnavailableError(reasons[0] if reasons else "no package holds an ISO")


def inspect(path: str, files: dict[str, str | None]) -> str:
    """Opens an image and reads its largest file; gives a line about it.

    Raises: ValueError when the files are not those of `files`, or that one is not what it was.
    """
    listed = _listed(path)
    if set(listed) != set(files):
        raise ValueError(f"{os.path.basename(path)} holds other files than its source")
    largest = max(listed, key=lambda each: listed[each])
    digest = _digest(path, largest)
    if files[largest] not in {None, digest}:
        raise ValueError(f"{largest} in {os.path.basename(path)} is not what was put there")
    return f"{len(listed)} files; {largest}, {listed[largest]} bytes, sha256 {digest[:16]}…"


def _contents(mebibytes: int) -> dict[str, bytes]:
    noise = random.Random(f"imgstore {mebibytes}")  # a str seeds alike in every version of Python
    size = mebibytes * MIB // FILES
    return {f"/part{number}.bin": noise.randbytes(size) for number in range(FILES)}


def _build(path: str, contents: dict[str, bytes]) -> None:
    with _midnight():
        iso = pycdlib.PyCdlib()
        iso.new(vol_ident="IMGSTORE", joliet=3)
        for name, data in contents.items():
            iso.add_fp(io.BytesIO(data), len(data), f"{name.upper()};1", joliet_path=name)
        iso.write(path)
        iso.close()


@contextlib.contextmanager
def _midnight() -> Iterator[None]:
    """Holds the clock that pycdlib reads, so that the same contents give the same image."""
    with mock.patch.multiple(time, time=lambda: 0.0, localtime=time.gmtime):
        yield


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pycdlib.PyCdlib]:
    iso = pycdlib.PyCdlib()
    iso.open(path)
    try:
        yield iso
    finally:
        iso.close()


def _facade(iso: pycdlib.PyCdlib) -> pycdlib.facade.PyCdlibISO9660:
    if iso.has_joliet():
        return iso.get_joliet_facade()
    return iso.get_rock_ridge_facade() if iso.has_rock_ridge() else iso.get_iso9660_facade()


def _listed(path: str) -> dict[str, int]:
    """The files of an image with their sizes."""
    with _opened(path) as iso:
        facade = _facade(iso)
        found = {}
        for folder, _, names in facade.walk("/"):
            for name in names:
                place = f"{folder.rstrip('/')}/{name}"
                found[place] = facade.get_record(place).get_data_length()
        return found


def _digest(path: str, name: str) -> str:
    with _opened(path) as iso, _facade(iso).open_file_from_iso(name) as file:
        found = hashlib.sha256()
        while piece := file.read(MIB):
            found.update(piece)
        return found.hexdigest()


def _holds(path: str, files: dict[str, str]) -> bool:
    """Whether an earlier run's image is whole: a disk may have filled up, or somebody have played with it."""
    try:
        return set(_listed(path)) == set(files) and all(_digest(path, each) == files[each] for each in files)
    except (pycdlib.pycdlibexception.PyCdlibException, OSError):
        return False


def _fetch(folder: str, package: str, place: str) -> None:
    with whole(tempfile.TemporaryDirectory(dir=folder, prefix="fetch-")) as scratch:
        _command(scratch, "apt-get", "download", package)
        for archive in glob.glob(f"{scratch}/*.deb"):
            _command(scratch, "dpkg-deb", "-x", archive, "unpacked")
        os.replace(os.path.join(scratch, "unpacked"), place)


def _command(folder: str, *words: str) -> None:
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageUnavailableError(f"{' '.join(words)} took more than {PATIENCE} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["E: it failed"]
        raise ImageUnavailableError(f"{' '.join(words)}: {said[0][2:].strip()}")
