"""A driver from elsewhere: installed by pip, found by its entry point, read through every layer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import canary

ROOT = Path(__file__).parents[2]
IMAGE = bytes(range(256)) * 1000

# What an embedder's program is, told apart from this one so that nothing here is imported there.
PROGRAM = """
import json, sys
import imgstore, imgstore.config
from imgstore.layers.base import Layer

events = []
conf = imgstore.config.load(sys.argv[1])
try:
    stores = imgstore.open_stores(conf, observe=lambda event: events.append(event.kind))
except imgstore.ImgstoreError as exc:
    sys.exit(f"{type(exc).__name__}: {exc}")
with stores:
    store, layers = stores.default, []
    while isinstance(store, Layer):
        layers.append(type(store).__name__)
        store = store.inner
    import hashlib
    with stores.default.get("disk") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    with stores.default.get("disk", 100_000, 50_000) as stream:
        part = hashlib.sha256(stream.read()).hexdigest()
    told = [type(store).__module__, layers, digest, part, events.count("resumed")]
    print(json.dumps([*told, "imgstore_pieces.tapes" in sys.modules]))
"""


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Gives the folder that pip installed the package into, without any index."""
    folder = tmp_path_factory.mktemp("plugin")
    # pip builds in place, and the tree is to stay as it is
    shutil.copytree(ROOT / "tests/plugin", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    how = ["--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(folder / "source")]
    done = run([*pip, *how])
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def started(installed, tmp_path):
    """Gives what runs the program with a configuration, in a process that has the package."""

    def start(text):
        (tmp_path / "imgstore.conf").write_text(text)
        paths = [str(installed), str(ROOT)]
        # stevedore's cache would stay in the home of whoever runs this
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return run([sys.executable, "-c", PROGRAM, str(tmp_path / "imgstore.conf")], env=env, cwd=tmp_path)

    return start


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images/disk"
    folder.mkdir(parents=True)
    for number, begin in enumerate(range(0, len(IMAGE), 70_001)):
        (folder / f"{number:03}").write_bytes(IMAGE[begin : begin + 70_001])
    (folder / ".passphrase").write_text(canary.PASSWORD)
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text(f"{canary.PASSWORD}\n")
    return tmp_path / "images"


def test_it_loads_by_its_entry_point_and_is_read_through_every_layer(started, images, tmp_path):
    done = started(
        "[imgstore]\nenabled_stores = cut:pieces\n"
        "[store_defaults]\nmax_streams = 1\nrate_limit = 1e9\nresume_attempts = 3\n"
        f"[store_cut]\nfolder = {images}\nbreaks_after = 99999\npassphrase_file = {tmp_path / 'passphrase'}\n"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "imgstore_pieces",
        ["ResumeLayer", "LimitLayer", "MetricsLayer"],
        hashlib.sha256(IMAGE).hexdigest(),
        hashlib.sha256(IMAGE[100_000:150_000]).hexdigest(),
        2,
        False,
    ]


def test_its_options_are_checked_as_ours_are(started, images):
    done = started(
        f"[imgstore]\nenabled_stores = cut:pieces\n[store_cut]\nfolder = {images}\nbreak_after = 1\n"
    )
    assert done.stderr.endswith("[store_cut] has no option 'break_after' (did you mean 'breaks_after'?)\n")
    done = started("[imgstore]\nenabled_stores = cut:pieces\n")
    assert done.stderr == (
        "ConfigError: store 'cut', driver 'pieces': the option 'folder' is needed; set it in [store_cut]\n"
    )
    done = started("[imgstore]\nenabled_stores = cut:pieces\n[store_cut]\nfolder = x\nbreaks_after = soon\n")
    assert done.stderr.startswith(
        "ConfigError: store 'cut', driver 'pieces': the option 'breaks_after' in [store_cut]"
    )


def test_one_that_is_broken_is_named_with_what_would_mend_it(started, images):
    done = started(f"[imgstore]\nenabled_stores = cut:pieces, old:tapes\n[store_cut]\nfolder = {images}\n")
    assert done.stderr == (
        "ConfigError: store 'old', driver 'tapes': it cannot be imported from "
        "imgstore_pieces.tapes:TapesStore: ModuleNotFoundError: No module named 'a_library_of_tapes'; "
        "pip install 'imgstore-pieces[tapes]' brings what it needs\n"
    )


def test_one_that_is_not_installed_is_told_with_those_that_are(started):
    done = started("[imgstore]\nenabled_stores = cut:peaces\n")
    assert (
        "no driver of that name is installed (did you mean 'pieces'?); there are: filesystem, http,"
        in done.stderr
    )
    assert "memory, mirror, pieces, rbd" in done.stderr
