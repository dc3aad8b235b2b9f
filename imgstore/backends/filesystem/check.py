"""The data directories, looked at one by one before anything is stored in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial

from imgstore.backends.filesystem.directories import DataDirectory
from imgstore.errors import ImgstoreError, PermissionDeniedError
from imgstore.model import Call
from imgstore.steps import NotApplicableError, Step


def steps(directories: Iterable[DataDirectory]) -> list[Step]:
    """Gives a step for each directory; it is vital where it is the only one."""
    found = list(directories)
    alone = len(found) == 1
    return [Step("folder", partial(_look, each), partial(_advise, each), vital=alone) for each in found]


def _look(directory: DataDirectory, _: Call) -> str:
    if directory.create and not os.path.lexists(directory.path):
        raise NotApplicableError(f"{directory.path} is not there yet; it is made at first use")
    with directory.opened() as root:
        found = os.fstatvfs(root)
        mode = os.fstat(root).st_mode & 0o7777
    mounted = "read-only" if found.f_flag & os.ST_RDONLY else "for writing"
    return f"{directory.path} has mode {mode:04o} and is mounted {mounted}"


def _advise(directory: DataDirectory, error: ImgstoreError) -> str:
    if isinstance(error, PermissionDeniedError):
        return f"let user {os.geteuid()} enter and read {directory.path} and the folders above it"
    if getattr(error, "errno", None) == errno.ENOENT:
        return "mount the disk, create the folder, correct the option, or set create_data_dir"
    return "look into the system's log: the disk or its connection may be broken"
