"""`imgstore cp` into stores in small parts: in this process, or in one that ends itself in the midst.

Started as a program it runs the command, and sends itself a signal at the n-th point of the upload: before
and after each call of the uploader. With 0 it does not; each part that it sends it first notes in the file
that UPLOADING_LOG names, if that is set.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from imgstore.transfer import parts, resumable
from tests import canary
from tests.faults.cli import configure, ended, without_configuration

ROOT = Path(__file__).resolve().parents[2]
COUNT = 3  # parts


def make_small(part):
    """Has uploads go in parts of that size, however small the image, to whatever store."""
    parts.PART, parts.SERIAL, resumable.LEAST = part, 1, 1


class Place:
    """A store `to` and an image that goes there in parts: what it was sent, what it has, what is left."""

    def __init__(self, folder, monkeypatch, section, part):
        without_configuration(monkeypatch, folder / "home")
        monkeypatch.setattr(parts, "PART", part)
        monkeypatch.setattr(resumable, "LEAST", 1)
        self.folder, self.part = folder, part
        self.data = random.Random(part).randbytes((COUNT - 1) * part + 17)
        self.file = folder / "disk.img"
        self.file.write_bytes(self.data)
        configure(monkeypatch, folder / "imgstore.conf", section)

    def start(self, point, *argv, number=signal.SIGKILL):
        """Starts the command in a process that gets the signal at that point."""
        command = [sys.executable, "-m", __spec__.name, str(self.part), str(point), str(int(number))]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*command, *map(str, argv)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )

    def killed_at(self, point, *argv):
        """Runs the command up to that point; gives whether it came there."""
        with self.start(point, *argv) as process:
            return ended(process).status == -signal.SIGKILL

    def notes(self):
        folder = self.folder / "home/.local/state/imgstore/uploads"
        return os.listdir(folder) if folder.is_dir() else []


class OnS3(Place):
    SECTION = """\
        [imgstore]
        enabled_stores = to:s3, from:filesystem
        [store_to]
        bucket = images
        endpoint_url = {0.url}
        region = us-east-1
        access_key = {0.access_key}
        secret_key = {1}
        addressing = path
        [store_from]
        data_dir = {2}
        create_data_dir = true
        """

    def __init__(self, folder, monkeypatch, server):
        section = self.SECTION.format(server, canary.PASSWORD, folder / "from")
        super().__init__(folder, monkeypatch, section, 5 << 20)
        self.server = server

    def sent(self):
        return self.server.count("UploadPart")

    def image(self):
        return self.server.images().get("disk.img")

    def left(self):
        own, uploads = self.server.left()
        return own + uploads


class OnSwift(Place):
    SECTION = """\
        [imgstore]
        enabled_stores = to:swift
        [store_to]
        auth_url = {0.url}/auth/v1.0
        auth_version = 1
        user = test:tester
        password = {1}
        container = images
        create_container = true
        """

    def __init__(self, folder, monkeypatch, server):
        super().__init__(folder, monkeypatch, self.SECTION.format(server, canary.PASSWORD), 64 << 10)
        self.server = server

    def sent(self):
        return self.server.count("PUT", r"/images_segments/disk\.img/[0-9a-f]{32}/")

    def image(self):
        there = "disk.img" in self.server.names("images")
        return self.server.body_of("images", "disk.img") if there else None

    def left(self):
        """What there is beside the segments of the image."""
        slo = self.server.containers["images"]["disk.img"].slo if self.image() is not None else None
        own = {each["path"].strip("/").split("/", 1)[1] for each in slo or ()}
        return [name for name in self.server.names("images_segments") if name not in own]


class OnFiles(Place):
    SECTION = """\
        [imgstore]
        enabled_stores = to:filesystem
        [store_to]
        data_dir = {}
        create_data_dir = true
        """

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch, self.SECTION.format(folder / "disks"), 64 << 10)

    def image(self):
        path = self.folder / "disks/disk.img"
        return path.read_bytes() if path.exists() else None

    def logs(self):
        folder = self.folder / "disks/.imgstore/uploads"
        return list(folder.glob("*/log")) if folder.is_dir() else []

    def sent(self):
        return sum(len(re.findall(rb'{"part":', log.read_bytes())) for log in self.logs())

    def left(self):
        """What is begun and not done: the answers of those that are, are kept."""
        return [log for log in self.logs() if b'"done":' not in log.read_bytes()]


def _run(part, point, number, argv):
    from imgstore.cli import main

    make_small(part)
    points = itertools.count(1)

    def reached():
        if next(points) == point:
            os.kill(os.getpid(), number)

    def note(what):
        if path := os.environ.get("UPLOADING_LOG"):
            with open(path, "a") as log:
                log.write(f"{what}\n")

    class Uploader:
        def __init__(self, inner):
            self._inner, self.limits = inner, inner.limits

        def __getattr__(self, name):
            def call(*args, **options):
                reached()
                if name == "put_part":
                    note(args[1])
                result = getattr(self._inner, name)(*args, **options)
                reached()
                return result

            return call

    made = resumable.ResumableUpload.__init__

    def make(self, *args, **options):
        made(self, *args, **options)
        self._uploader = Uploader(self._uploader)

    resumable.ResumableUpload.__init__ = make
    return main(argv)


if __name__ == "__main__":
    sys.exit(_run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
