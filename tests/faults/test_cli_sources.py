"""`cp` from several places of one image: who serves, who goes on, what is told and what is not sent."""

from __future__ import annotations

import hashlib
import io
import os

import pytest

from imgstore.cli.location import parse
from imgstore.cli.sources import name_of
from imgstore.manifest import SourceUrl, read, write_metalink
from imgstore.testing.server import Cut, Flip, Header, ScriptedServer, Status
from tests import canary
from tests.faults.cli import IMAGE, PATH, configure, run_here, without_configuration
from tests.faults.rows import digest_of
from tests.manifests import manifest_of

N = len(IMAGE)
CHUNK = 256 << 10
GONE = Status(503, {"Retry-After": "0"})


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    without_configuration(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.img").write_bytes(IMAGE)
    return tmp_path


@pytest.fixture
def imgstore(folder, capfdbinary):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def servers():
    """Three servers, each with the image."""
    running = [ScriptedServer() for _ in range(3)]
    try:
        for server in running:
            server.put(PATH, IMAGE)
            server.start()
        yield running
    finally:
        for server in running:
            server.stop()
            server.log.wait_closed()


def manifest(path, *urls, data=IMAGE, key="disk.img"):
    """Writes the manifest of the image, with these copies of it, the best first."""
    sources = tuple(SourceUrl(url, number) for number, url in enumerate(urls, 1))
    file = io.BytesIO()
    write_metalink(manifest_of(data, CHUNK, key=key, sources=sources), file)
    path.write_bytes(file.getvalue())
    return path


def asked(server):
    return [each.range_asked for each in server.log.exchanges(PATH) if each.method == "GET"]


def failures(ran):
    return [(each["source"], each["type"]) for each in ran.told["failures"]]


def test_each_that_fails_is_followed_by_the_next(imgstore, folder, servers):
    urls = [server.url(PATH) for server in servers]
    at = 5 * CHUNK + 9
    servers[0].script(PATH, [Cut(at=at)], then=GONE)
    servers[1].trap(PATH, Flip(at=10 * CHUNK), times=None)
    ran = imgstore("cp", "--manifest", manifest(folder / "m"), *urls, "new.img", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == IMAGE
    assert failures(ran) == [(urls[0], "RetriesExhaustedError"), (urls[1], "DigestMismatchError")]
    assert [each["offset"] for each in ran.told["failures"]] == [5 * CHUNK, 10 * CHUNK]
    assert list(ran.told["sources"]) == urls
    assert sum(ran.told["sources"].values()) == ran.told["received"]
    assert ran.told["sources"][urls[0]] == at
    assert asked(servers[2]) == [f"bytes={10 * CHUNK}-{N - 1}"]
    last = ran.err.splitlines()[-1]
    assert f"; 1.3 MiB from {urls[0]}; " in last
    assert last.endswith(f"; {urls[0]} failed: RetriesExhaustedError; {urls[1]} failed: DigestMismatchError")


def test_an_equal_digest_will_do(imgstore, folder, servers):
    digest = Header(*digest_of(IMAGE))
    servers[0].script(PATH, [(digest, Cut(at=1_000_000))], then=GONE)
    servers[1].script(PATH, then=digest)
    ran = imgstore("cp", *(server.url(PATH) for server in servers[:2]), "new.img", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == IMAGE
    assert list(ran.told["sources"].values()) == [1_000_000, N - 1_000_000]
    assert ran.told["digests"] == {"sha256": hashlib.sha256(IMAGE).hexdigest()}


def test_without_proof_nothing_is_spliced(imgstore, folder, servers):
    servers[0].script(PATH, [Cut(at=1_000_000)], then=GONE)
    ran = imgstore("cp", *(server.url(PATH) for server in servers), "new.img")
    assert ran.status == 6
    assert not (folder / "new.img").exists()
    assert asked(servers[1]) == asked(servers[2]) == []


def test_without_proof_the_first_that_opens_serves(imgstore, folder, servers):
    servers[0].script(PATH, then=Status(404))
    ran = imgstore("cp", servers[0].url(PATH), "a.img", servers[1].url(PATH), "new.img", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == IMAGE
    assert ran.told["sources"] == {"a.img": N}
    assert failures(ran) == [(servers[0].url(PATH), "NotFoundError")]


def test_all_that_fail_are_named(imgstore, folder, servers):
    urls = [server.url(PATH) for server in servers[:2]]
    servers[0].script(PATH, then=Status(404))
    servers[1].script(PATH, then=Status(403))
    ran = imgstore("cp", *urls, "new.img")
    assert ran.status == 7
    last = ran.err.splitlines()[-1]
    assert f"no leg of the mirror could serve 'disk.img': {urls[0]}: NotFoundError: " in last
    assert f"; {urls[1]}: PermissionDeniedError: " in last


# What a manifest names


@pytest.mark.parametrize(
    "key, urls, name",
    [
        ("images/disk.img", ["http://h/x.img"], "disk.img"),
        (None, ["http://[/", "http://h/x%20y.img"], "x y.img"),
        (None, ["http://h/"], ""),
        (None, [], ""),
    ],
)
def test_what_an_image_is_called(folder, key, urls, name):
    made = read(io.BytesIO(manifest(folder / "m", *urls, key=key).read_bytes()))
    assert name_of([], made) == name
    assert name_of([parse("b.img"), parse("local:c.img")], made) == name
    assert name_of([parse("b.img"), parse("local:a/b.img")], made) == "b.img"
    assert name_of([parse("b.img"), parse("local:c.img")], None) == ""


def test_a_manifest_is_enough(imgstore, folder, servers):
    urls = [server.url(PATH) for server in servers]
    servers[0].script(PATH, then=Status(404))
    path = manifest(folder / "m", *urls)
    ran = imgstore("cp", "--manifest", path, "local:", "--json")
    assert ran.status == 0, ran.err
    assert list(ran.told["sources"]) == urls[1:2]
    assert imgstore("cp", "local:disk.img", "new.img").status == 0
    assert (folder / "new.img").read_bytes() == IMAGE


def test_what_is_typed_goes_before_what_a_manifest_names(imgstore, folder, servers):
    urls = [server.url(PATH) for server in servers]
    servers[1].script(PATH, [Cut(at=2 * CHUNK)], then=GONE)
    path = manifest(folder / "m", urls[1], urls[0])
    ran = imgstore("cp", "--manifest", path, urls[1], "absent.img", "new.img", "--json")
    assert (ran.status, ran.line) == (3, "there is no file absent.img")
    short = ["b.img", "c.img"]
    for name in short:
        (folder / name).write_bytes(IMAGE[:-1])
    header = f"X: {canary.HEADER}"
    ran = imgstore("cp", "--manifest", path, urls[1], *short, "new.img", "--json", "--header", header)
    assert ran.status == 0, ran.err
    assert ran.told["sources"].items() >= {urls[1]: 2 * CHUNK, urls[0]: N - 2 * CHUNK}.items()
    assert failures(ran) == [
        (urls[1], "RetriesExhaustedError"),
        ("b.img", "ManifestError"),
        ("c.img", "ManifestError"),
    ]
    assert len(asked(servers[1])) == 1 + 2
    assert {each.header("X") for each in servers[1].log.exchanges(PATH)} == {canary.HEADER}
    assert {each.header("X") for each in servers[0].log.exchanges(PATH)} == {None}


def test_only_web_servers_are_read_from_a_manifest(imgstore, folder, servers):
    (folder / "secret.img").write_bytes(IMAGE)
    odd = [f"file://{folder}/secret.img", "s3://bucket/key", "ftp://h/x", "http://h:x/y"]
    path = manifest(folder / "m", *odd, servers[0].url(PATH))
    ran = imgstore("cp", "--manifest", path, "new.img", "--json")
    assert ran.status == 0, ran.err
    assert list(ran.told["sources"]) == [servers[0].url(PATH)]
    assert ran.line == f"{odd[0]} and 3 more in the manifest left out: it is read for http and https alone"
    manifest(folder / "m", *odd)
    ran = imgstore("cp", "--manifest", path, "b.img")
    assert ran.status == 2
    assert (
        ran.err.splitlines()[-1] == "imgstore: the manifest names no copy that can be read; give SRC as well"
    )
    assert not (folder / "b.img").exists()


def test_zeros_that_a_manifest_proves_are_not_read(imgstore, folder, servers):
    data = IMAGE[: 2 * CHUNK] + bytes(8 * CHUNK) + IMAGE[10 * CHUNK :]
    for server in servers:
        server.put(PATH, data)
    path = manifest(folder / "m", *(server.url(PATH) for server in servers), data=data)
    ran = imgstore("cp", "--manifest", path, "new.img", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == data
    assert os.stat("new.img").st_blocks * 512 < N - 7 * CHUNK
    assert ran.told["received"] == N - 8 * CHUNK


# Stores


@pytest.fixture
def either(monkeypatch, folder, servers):
    """A store of files, one of a server, and the mirror of both."""
    (folder / "images").mkdir()
    configure(
        monkeypatch,
        folder / "imgstore.conf",
        f"""\
        [imgstore]
        enabled_stores = disks:filesystem, web:http, either:mirror
        default_store = either
        [store_defaults]
        resume_attempts = 2
        [store_disks]
        data_dir = {folder}/images
        [store_web]
        url = {servers[0].url("/")}
        [store_either]
        legs = disks:1, web:2
        """,
    )


@pytest.mark.usefixtures("either")
def test_a_mirror_is_copied_from_like_any_store(imgstore, folder):
    assert imgstore("cp", "either:disk.img", "new.img").status == 0
    assert (folder / "new.img").read_bytes() == IMAGE
    ran = imgstore("cp", "either:disk.img", "disks:disk.img", "--json")
    assert (ran.status, failures(ran)) == (0, [("disks", "NotFoundError")])
    assert ran.told["sources"] == {"web": N}
    assert imgstore("cat", "either:disk.img", "--offset", "5", "--length", "7").out == IMAGE[5:12]
    assert imgstore("stat", "either:disk.img", "--json").told["version"].startswith("disks:")


@pytest.mark.usefixtures("either")
def test_what_a_mirror_is_shown_as(imgstore):
    listed = {each["name"]: each for each in imgstore("stores", "--json").told["stores"]}
    assert listed["either"] == {
        "name": "either",
        "driver": "mirror",
        "location": "disks:1, web:2",
        "facets": [],
    }
    ran = imgstore("ls", "either:")
    assert (ran.status, ran.line) == (1, "either: this store cannot list its images")
    assert (
        imgstore("cp", "a.img", "either:b.img").line == "either: the store is only read; it takes no images"
    )
    ran = imgstore("check", "either:disk.img")
    assert ran.status == 3
    lines = ran.out.decode().splitlines()
    assert any(line.startswith("leg disks       failed") for line in lines)
    assert any(line.startswith(f"leg web         ok       {N} bytes, not proven: version ") for line in lines)


@pytest.mark.usefixtures("either")
def test_options_of_a_run_are_those_of_the_legs(imgstore, servers):
    servers[0].script(PATH, then=GONE)
    assert imgstore("cp", "either:disk.img", "new.img", "--no-resume").status == 6
    assert len(asked(servers[0])) == 1


# What cannot be meant


def test_secrets_in_urls_are_not_told(imgstore, folder, servers):
    """Two URLs that differ in their signatures alone are two sources."""
    urls = [f"{servers[0].url(PATH)}?X-Amz-Signature={canary.PRESIGNED_QUERY}{end}" for end in "ab"]
    servers[0].script(PATH, [Cut(at=3 * CHUNK), GONE, GONE])
    ran = imgstore("cp", "--manifest", manifest(folder / "m"), *urls, "new.img", "--json")
    assert ran.status == 0, ran.err
    shown = f"{servers[0].url(PATH)}?..."
    assert ran.told["sources"] == {shown: 3 * CHUNK, f"{shown} (2)": N - 3 * CHUNK}
    assert not canary.found(ran.err + ran.out.decode())


URLS = "http://h/disk.img http://other/disk.img"


@pytest.mark.parametrize(
    "line, status, said",
    [
        ("cp - a.img new.img", 2, "standard input has no other copies; give - as the only SRC"),
        ("cp a.img a.img new.img", 2, "a.img is given twice; once would do"),
        ("cp http://h/disk.img b.img new.img", 3, "there is no file b.img"),
        ("cp http://h/disk.img a.img a.img", 2, "a.img and a.img are one file"),
        ("cp http://h/disk.img a.img local:", 2, "and a.img are taken for one image; write it as local:NAME"),
        (f"cp {URLS} folder", 2, "name the file in it, such as folder/disk.img"),
        (
            f"cp {URLS} new.img --token-file t",
            2,
            "--token-file would be sent to http://h/disk.img and http://o",
        ),
        ("cp a.img c.img new.img --proxy http://p", 2, "--proxy is for http and https; a.img is neither"),
        ("cp a.img c.img new.img --header A:b", 2, "--header is for a URL as SRC, and there is none"),
        ("cp --manifest m new.img", 2, "the manifest names no copy that can be read; give SRC as well"),
        ("cp --manifest n new.img --user me", 2, "--user is for a URL as SRC, and there is none"),
        ("cp --manifest m - a.img new.img", 2, "cannot be fetched again from standard input"),
    ],
)
def test_one_line_and_nothing_is_asked(imgstore, folder, line, status, said):
    (folder / "folder").mkdir()
    (folder / "c.img").write_bytes(IMAGE)
    manifest(folder / "m")
    manifest(folder / "n", "http://127.0.0.1:9/x")
    ran = imgstore(*line.split())
    assert (ran.status, ran.out) == (status, b"")
    assert said in ran.line
    assert not (folder / "new.img").exists()
