"""One image in real nginx, S3 (radosgw) and Swift: one is killed, one falls silent, one flips a bit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys

import pytest

from imgstore.config import load, open_stores
from imgstore.manifest import SourceUrl, write_metalink
from imgstore.model import Call
from imgstore.transfer.progress import Report
from tests.manifests import manifest_of

MIB = 1 << 20
CHUNK = MIB
SIZE = 64 * MIB + 4321  # several times what the socket buffers of both ends hold
DATA = random.Random(64).randbytes(SIZE)
WHOLE = hashlib.sha256(DATA).hexdigest()
MANIFEST = manifest_of(DATA, CHUNK, key="disk.img", digests={"sha256": WHOLE})
BAD = SIZE - 1000
LAST = len(MANIFEST.chunks) - 1
# Read from each of the first two before it is disturbed.
TAKEN = 4 * MIB


def flipped():
    data = bytearray(DATA)
    data[BAD] ^= 1
    return bytes(data)


class Places:
    """The three servers by the names of their stores, and the daemon of each that answers."""

    def __init__(self, folder, nginx, ceph, swift):
        self.path = folder / "imgstore.conf"
        self.nginx = nginx
        self.servers = {"web": (nginx, "nginx"), "cold": (ceph, "rgw"), "objects": (swift, "proxy")}
        s3, tester = ceph.s3, swift.tester
        self.sections = {
            "notes": {"data_dir": folder / "notes", "create_data_dir": True},
            "web": {"url": nginx.url("files", ""), "trust_env": False},
            "cold": {
                "bucket": "mirror",
                "endpoint_url": s3.url,
                "region": s3.region,
                "addressing": "path",
                "access_key": s3.access_key,
                "secret_key": s3.secret_key,
                "create_bucket": True,
                "trust_env": False,
            },
            "objects": {
                "auth_url": tester.auth,
                "auth_version": "1",
                "user": tester.user,
                "password": tester.key,
                "container": "mirror",
                "create_container": True,
            },
        }

    def configure(self, legs="web, cold, objects", **defaults):
        """Writes the configuration with these `legs` of the store `either`."""
        drivers = "notes:filesystem, web:http, cold:s3, objects:swift, either:mirror"
        defaults = {"stall_timeout": 2.0, "resume_attempts": 2, "open_timeout": 4.0, **defaults}
        sections = {
            "imgstore": {"enabled_stores": drivers, "default_store": "either"},
            "store_defaults": defaults,
            **{f"store_{name}": options for name, options in self.sections.items()},
            "store_either": {"legs": legs},
        }
        text = [
            f"[{name}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
            for name, options in sections.items()
        ]
        self.path.write_text("\n".join(text))
        return open_stores(load(str(self.path)))

    def seed(self, key, *, bad=None):
        """Puts the image under `key` into all three, with a bit flipped in `bad`."""
        with self.configure() as stores:
            for name in self.servers:
                data = flipped() if name == bad else DATA
                if name == "web":
                    self.nginx.put(key, data)
                else:
                    stores[name].writer.put(key, io.BytesIO(data), len(data), overwrite=True)
            notes = io.BytesIO()
            write_metalink(MANIFEST, notes)
            stores["notes"].writer.put(f"{key}.meta4", io.BytesIO(notes.getvalue()))

    def disturb(self, name, how):
        server, daemon = self.servers[name]
        getattr(server, how)(daemon)

    def heal(self, *names):
        for name in names:
            self.servers[name][0].come_back()


@pytest.fixture
def places(tmp_path, nginx, ceph, swift):
    return Places(tmp_path, nginx, ceph, swift)


class Watched(Report):
    """A read of a mirror in pieces, and what it told so far."""

    def __init__(self, mirror, key):
        super().__init__()
        self.digest = hashlib.sha256()
        self.source = None  # who serves
        self.stream = mirror.get(key, call=Call(observe=self.observe))

    def observe(self, event):
        super().observe(event)
        if event.kind == "source":
            self.source = event.store

    def take(self, count):
        """Reads `count` bytes on, or to the end."""
        while count > 0 and (piece := self.stream.read(min(count, MIB))):
            self.digest.update(piece)
            count -= len(piece)

    def take_until(self, source):
        """Reads until the bytes come from `source`."""
        while self.source != source:
            assert self.stream.delivered < SIZE
            self.take(MIB)


@pytest.mark.promise
@pytest.mark.parametrize(
    "killed, silent, lying",
    [("web", "cold", "objects"), ("cold", "objects", "web"), ("objects", "web", "cold")],
)
def test_one_killed_one_silent_one_flipping_a_bit(places, killed, silent, lying):
    key = f"{killed}.img"
    places.seed(key, bad=lying)
    legs = f"{killed}:1, {silent}:2, {lying}:3"
    with places.configure(legs, verify="required", manifest_store="notes") as stores:
        read = Watched(stores["either"], key)
        with read.stream as stream:
            assert stream.info.version == MANIFEST.pin
            read.take(TAKEN)
            places.disturb(killed, "kill9")
            read.take_until(silent)
            read.take(TAKEN)
            places.disturb(silent, "pause")
            read.take_until(lying)
            places.heal(killed, silent)
            read.take(SIZE)
            assert stream.delivered == SIZE
    assert read.digest.hexdigest() == WHOLE
    assert [each.source for each in read.failures] == [killed, silent, lying]
    assert [each.type for each in read.failures][1:] == ["RetriesExhaustedError", "DigestMismatchError"]
    assert read.failures[2].offset == LAST * CHUNK
    assert read.stalls >= 1
    assert all(read.sources[name] >= TAKEN for name in (killed, silent, lying))
    # the last chunk, wrong twice from the liar, came from one that is back
    assert read.source == killed


def test_the_command_goes_round_what_is_down(places, tmp_path, nginx):
    places.seed("cli.img", bad="cold")
    places.configure().close()
    source = SourceUrl(nginx.url("files", "cli.img"), 1)
    with open(tmp_path / "cli.meta4", "wb") as file:
        write_metalink(manifest_of(DATA, CHUNK, sources=(source,)), file)
    places.disturb("objects", "kill9")
    command = ["cp", "--json", "--manifest", "cli.meta4", "objects:cli.img", "cold:cli.img", "new.img"]
    done = subprocess.run(
        [sys.executable, "-m", "imgstore.cli", *command],
        check=False,
        capture_output=True,
        timeout=100,
        cwd=tmp_path,
        env={**os.environ, "IMGSTORE_CONFIG": str(places.path)},
    )
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((tmp_path / "new.img").read_bytes()).hexdigest() == WHOLE
    told = json.loads(done.stdout)
    url = source.url
    assert [each["source"] for each in told["failures"]] == ["objects", "cold"]
    assert told["failures"][1]["type"] == "DigestMismatchError"
    assert told["sources"].keys() == {"cold", url}
    assert told["sources"][url] == SIZE - LAST * CHUNK
    assert done.stderr.splitlines()[-1].endswith(b"; cold failed: DigestMismatchError")
