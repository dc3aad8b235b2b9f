"""Folders in folders, further down than a path may be long."""

from __future__ import annotations

import os


def nest(path, depth):
    at = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("z", dir_fd=at)
        below = os.open("z", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
