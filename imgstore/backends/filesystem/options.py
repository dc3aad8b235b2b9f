"""The options of the filesystem driver."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends.filesystem.directories import DataDirectory
from imgstore.errors import ConfigError
from imgstore.store import LazyOptions

if TYPE_CHECKING:
    from oslo_config.cfg import Opt


def _options() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "data_dir",
            help="The folder that holds the images. The key of an image is its path below it; folders in "
            "keys are made and removed as images come and go. It may be a link itself; links below it are "
            "never followed, and only regular files are images. The folder '.imgstore' in it, and names like "
            "'.NAME.0123456789abcdef.part', are the driver's own. '~' in front is the home directory; a "
            "relative path begins where the process is when it opens the store, which is for trials alone. "
            "Either this option or data_dirs is needed.",
            sample_default="/var/lib/imgstore/images",
        ),
        cfg.MultiStrOpt(
            "data_dirs",
            help="A folder that holds images, as 'PATH:PRIORITY' or 'PATH' with the priority 0; may be given "
            "several times, for example once for each disk. A new image goes to the folder with the highest "
            "priority among those with room for it, and among equals to the one with most room. Reads look "
            "everywhere, highest priority first. Images are not moved when priorities change. A folder that "
            "is not there is an error for new images and for listings, never an image that is not found; "
            "images in the others can be read. Excludes data_dir.",
            sample_default=["/mnt/fast/images:200", "/mnt/large/images:100"],
        ),
        cfg.BoolOpt(
            "create_data_dir",
            default=False,
            help="Whether a data directory that is not there is made at first use. Leave it off where the "
            "directory is on a disk that is mounted: images would fill the disk below while it is not.",
        ),
        cfg.BoolOpt(
            "thin",
            default=False,
            help="Whether blocks of zeros are left out on the disk when an image is stored: they become "
            "holes, which take no room and read as zeros. It costs next to nothing. What a source says are "
            "holes is left out in any case.",
        ),
        cfg.BoolOpt(
            "read_back",
            default=False,
            help="Whether an image that is put is read once more from the disk, past what the kernel has of "
            "it in memory, and compared, before it gets its name. Otherwise what was right on receipt "
            "counts. "
            "It takes as long as reading the image, and the time of a core: about a second for 1.6 GB.",
        ),
        cfg.StrOpt(
            "file_mode",
            help="The permissions of the files of images, in octal. Without it they are what the umask of "
            "the process leaves of 0666, and a file that is replaced hands on its own. The owner must be "
            "able to read.",
            sample_default="0640",
        ),
    )


OPTIONS: Final = LazyOptions(_options)


def directories(
    data_dir: str | os.PathLike[str] | None,
    data_dirs: Sequence[str | os.PathLike[str]] | None,
    *,
    create: bool,
) -> list[DataDirectory]:
    """Gives the data directories that the options name. Raises: ConfigError."""
    if bool(data_dir) == bool(data_dirs):
        raise ConfigError(
            "data_dir and data_dirs exclude each other"
            if data_dir
            else "either data_dir or data_dirs is needed"
        )
    if data_dir:
        return [DataDirectory(_absolute(os.fspath(data_dir), "data_dir"), create=create)]
    found = [_directory(os.fspath(each), create=create) for each in data_dirs or ()]
    paths = [os.path.normpath(each.path) for each in found]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"data_dirs names {path} more than once")
    return found


def _directory(given: str, *, create: bool) -> DataDirectory:
    if ", " in given:
        raise ConfigError(f"data_dirs: {given!r} is one folder; the option is given once for each")
    path, colon, priority = given.rpartition(":")
    try:
        number = int(priority) if colon else 0
    except ValueError:
        raise ConfigError(
            f"data_dirs: {given!r} does not end in a whole number, its priority; {given + ':0'!r} would do"
        ) from None
    path = path if colon else given
    if not path:
        raise ConfigError(f"data_dirs: {given!r} has no path; a folder is given as PATH:PRIORITY")
    return DataDirectory(_absolute(path, "data_dirs"), number, create)


def _absolute(given: str, option: str) -> str:
    """Gives the path as it stays when the process goes elsewhere; nothing in it is resolved."""
    path = os.path.expanduser(given)
    if path.startswith("~"):
        raise ConfigError(f"{option}: {given!r} begins with a home directory that is not known; write it out")
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as exc:
        raise ConfigError(
            f"{option}: {given!r} is relative, and where this process is cannot be told: {exc.strerror}"
        ) from exc


def mode(file_mode: str | None) -> int | None:
    """Gives the permissions that `file_mode` names. Raises: ConfigError."""
    if file_mode is None:
        return None
    try:
        bits = int(file_mode, 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o777 or not bits & 0o400:
        raise ConfigError(
            f"file_mode is {file_mode!r}; it is octal, at most 777, and lets the owner read: 0640 for one"
        )
    return bits
