"""What other tools make of a scene, where they are installed; measured in the same run, judged by nobody."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from demo.images import Image
from demo.interrupts import whole
from demo.play import child, digest
from demo.scenes import Scene
from imgstore.testing.server import ScriptedServer

# Each told to try again and to go on where it was, as far as it can be told; their own settings left out.
TOOLS = {
    "curl": ("-q", "--silent", "--retry", "3", "--retry-all-errors", "--continue-at", "-", "--remote-name"),
    "wget": ("--no-config", "--quiet", "--tries=3", "--waitretry=1", "--continue"),
}
LIMIT = 60


@dataclass(frozen=True)
class Other:
    """How a tool ended: its exit status, what it took of the server, and what the file then was."""

    tool: str
    options: str
    scene: str
    status: int
    sent: int
    ratio: float
    seconds: float
    left: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def others(scene: Scene, image: Image, stage: str) -> Iterator[Other]:
    """Plays `scene` with each tool at hand."""
    for tool, options in TOOLS.items():
        if shutil.which(tool):
            yield _play(tool, options, scene, image, stage)


def _play(tool: str, options: tuple[str, ...], scene: Scene, image: Image, stage: str) -> Other:
    path = f"/{image.name}"
    with (
        whole(tempfile.TemporaryDirectory(dir=stage, prefix="copy-")) as folder,
        whole(ScriptedServer()) as server,
    ):
        server.put(path, image.data, etag=scene.etag)
        server.script(path, scene.faults(image))
        words = [tool, *options, server.url(path)]
        began, quiet = time.monotonic(), subprocess.DEVNULL
        with whole(child(words, cwd=folder, stdout=quiet, stderr=quiet)) as process:
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        seconds = round(time.monotonic() - began, 3)
        server.log.wait_idle()
        sent = server.log.body_bytes(path)
        served = server.shelf.find(path)
        latest = None if served is None else hashlib.sha256(served.data).hexdigest()
        left = _left(os.path.join(folder, image.name), image, latest)
    shown = " ".join(each for each in options if each not in {"-q", "--no-config", "--silent", "--quiet"})
    ratio = round(sent / image.size, 2)
    return Other(tool, shown, scene.name, process.returncode, sent, ratio, seconds, left)


def _left(path: str, image: Image, latest: str | None) -> str:
    if not os.path.exists(path):
        return "no file"
    found = digest(path)
    if found == image.sha256:
        return "byte-identical"
    return "the new version, whole" if found == latest else "a file that is neither version"
