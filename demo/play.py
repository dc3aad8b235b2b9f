"""Plays a scene: the scripted server at one end, the installed `imgstore cp` at the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from demo.figures import Figures, logged, reported
from demo.images import Image
from demo.interrupts import whole
from demo.scenes import Ending, Scene
from imgstore.testing.server import ScriptedServer

# No scene needs a tenth of it; a copy that hangs must end all the same.
LIMIT = 60


@dataclass(frozen=True)
class Outcome:
    """How a scene ended: as it must if there are no `complaints`. `copy` None says that there is none."""

    scene: Scene
    image: Image
    status: int
    said: str
    seconds: float
    log: Figures
    report: Figures
    copy: str | None
    complaints: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "scene": self.scene.name,
            "image": self.image.name,
            "size": self.image.size,
            "status": self.status,
            "ending": self.scene.ending.name.lower(),
            "seconds": round(self.seconds, 3),
            "server": asdict(self.log),
            "cp": asdict(self.report),
            "source_sha256": self.image.sha256,
            "copy_sha256": self.copy,
            "complaints": list(self.complaints),
        }


@dataclass(frozen=True)
class Run:
    """What a command left of itself."""

    status: int
    report: dict[str, Any]
    said: str
    seconds: float


def command() -> list[str]:
    """The installed command: the one beside this interpreter, or else that of the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "imgstore")
    return [beside if os.path.exists(beside) else shutil.which("imgstore") or "imgstore"]


def environment() -> dict[str, str]:
    """The environment for a client of the server, which no proxy stands in front of."""
    return {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}


def play(scene: Scene, image: Image, stage: str) -> Outcome:
    """Plays `scene` with `image`; works in the folder `stage`, where the last good copy stays."""
    path = f"/{image.name}"
    with (
        whole(tempfile.TemporaryDirectory(dir=stage, prefix="copy-")) as folder,
        whole(ScriptedServer()) as server,
    ):
        target = os.path.join(folder, image.name)
        server.put(path, image.data, etag=scene.etag)
        server.script(path, scene.faults(image))
        run = _copy(server.url(path), target, scene, image)
        server.log.wait_idle()
        log = logged(server.log.exchanges(path))
        left = sorted(os.listdir(folder))
        copy = digest(target) if image.name in left else None
        complaints = [
            *_wrong_ending(scene.ending, run, image, left, copy),
            *log.differences(reported(run.report)),
            *_wrong_cost(scene, image, log, server.unused(path)),
        ]
        if copy == image.sha256:
            os.replace(target, os.path.join(stage, image.name))
    return Outcome(
        scene, image, run.status, run.said, run.seconds, log, reported(run.report), copy, tuple(complaints)
    )


def digest(path: str) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


@contextlib.contextmanager
def child(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block, and that Ctrl-C on our terminal does not reach."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, env=environment(), start_new_session=True, bufsize=0, **options
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _copy(url: str, target: str, scene: Scene, image: Image) -> Run:
    progress = "none" if scene.interrupt is None else "json"
    words = [*command(), "cp", url, target, "--json", "--progress", progress, *scene.options]
    began = time.monotonic()
    with whole(child(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as process:
        if scene.interrupt is not None:
            _interrupt(process, scene.interrupt(image))
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    seconds = time.monotonic() - began
    said = err.decode(errors="replace").strip().rpartition("\n")[2]
    return Run(process.returncode, _last_object(out), said, seconds)


def _interrupt(process: subprocess.Popen[bytes], place: int) -> None:
    """Sends what Ctrl-C sends, once the copy tells that it has come to `place`."""
    assert process.stderr is not None
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and (line := process.stderr.readline()):
        with contextlib.suppress(ValueError):
            if json.loads(line).get("bytes", 0) >= place:
                process.send_signal(signal.SIGINT)
                return


def _last_object(out: bytes) -> dict[str, Any]:
    try:
        found = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _wrong_ending(ending: Ending, run: Run, image: Image, left: list[str], copy: str | None) -> list[str]:
    complaints = []
    if run.status != ending.status:
        complaints.append(f"exit status {run.status}, not {ending.status}: {run.said or 'not a word'}")
    if ending is Ending.INTERRUPTED and left == [f"{image.name}.part", f"{image.name}.part.journal"]:
        left = []  # what the same command goes on with; a copy below 64 MiB keeps nothing
    if ending is not Ending.COPIED:
        return complaints + [f"left behind: {name}" for name in left]
    if left != [image.name]:
        complaints.append(f"in the target's folder: {', '.join(left) or 'nothing'}")
    told = run.report.get("digests", {}).get("sha256")
    if {copy, told} != {image.sha256}:
        complaints.append(f"source {image.sha256}, copy {copy}, cp --json says {told}")
    if run.report.get("bytes") != image.size:
        complaints.append(f"cp --json says {run.report.get('bytes')} bytes, the image has {image.size}")
    return complaints


def _wrong_cost(scene: Scene, image: Image, log: Figures, unused: int) -> list[str]:
    complaints = []
    if log.received != scene.cost(image):
        complaints.append(f"the server sent {log.received} bytes, it takes {scene.cost(image)}")
    if unused:
        complaints.append(f"{unused} of the faults met no request")
    return complaints
