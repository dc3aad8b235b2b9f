"""The manifest of an image in a YAML profile: read, refused, and written in place with all else kept."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgstore.errors import ConfigError, ManifestError, StorageIOError
from imgstore.manifest import (
    STRONG,
    ChunkDigests,
    Manifest,
    SourceUrl,
    read,
    read_profile,
    write_metalink,
    write_profile,
)
from imgstore.manifest.yaml_events import DEPTH_LIMIT, KEY_LIMIT, TOKEN_LIMIT
from tests.unit.manifest.making import SAMPLES, damaged, digest, made, manifests

DATA = bytes(range(256)) * 40
ANY_ALGORITHM = {"md5", "sha1"} | STRONG
ROOT = made(DATA, 4096, key="root.img.gz", digests={"md5": digest(DATA, "md5")})


@pytest.fixture(params=["libyaml", "python"])
def either_parser(request, monkeypatch):
    """PyYAML comes with libyaml or without."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader")


def taken(text, **options):
    return read_profile(io.BytesIO(text if isinstance(text, bytes) else text.encode()), **options)


def written(manifest, old=None, **options):
    stream = io.BytesIO()
    profile = None if old is None else io.BytesIO(old if isinstance(old, bytes) else old.encode())
    write_profile(manifest, stream, profile=profile, **options)
    return stream.getvalue().decode()


@settings(max_examples=50)
@given(manifests())
@example(made(b"", 7))
def test_what_is_written_is_read_back(manifest):
    text = written(manifest)
    assert taken(text, allow=ANY_ALGORITHM, pin=manifest.pin) == manifest
    assert written(manifest, text) == text


@settings(max_examples=30)
@given(manifests())
def test_other_readers_of_yaml_see_the_same(manifest):
    """A digest of digits alone is text to them too, and 0e1 followed by digits no number."""
    (image,) = yaml.load(written(manifest), Loader=yaml.SafeLoader)["images"]
    assert image["manifest"]["chunks"] == [each.hex() for each in manifest.chunks]
    assert image["manifest"].get("digests", {}) == manifest.digests
    assert image["manifest"].get("key") == manifest.key
    assert image["manifest"].get("version") == manifest.version


@pytest.mark.usefixtures("either_parser")
def test_fuel_profile_gains_a_manifest_and_loses_nothing():
    old = (SAMPLES / "fuel-profile.yaml").read_text()
    new = written(ROOT, old, name="root.img.gz")
    start, stop = new.index("  manifest:\n"), new.index("# the second")
    assert new[:start] + new[stop:] == old
    assert taken(new, name="root.img.gz") == ROOT
    other = made(DATA[:500], 100)
    both = written(other, new, name="boot.img.gz")
    assert (taken(both, name="root.img.gz"), taken(both, name="boot.img.gz")) == (ROOT, other)
    with pytest.raises(ManifestError, match="line 39: several images would do"):
        taken(both)


# Between the signs of a paragraph stand what was there and what is there now; NEW is the manifest.
CHANGES = {
    "image in a list": "images:\n- name: a\n§§  NEW\n§",
    "no line break at the end": "images:\n- name: a§§\n  NEW\n§",
    "comment at the end": "images:\n- name: a # x\n§§  NEW\n§# y\n",
    "indented list": "images:\n  -   name: a\n      b: 1\n§§      NEW\n§c: 2\n",
    "profile of one image": "# x\nname: a\nb: [1,\n  2] # y\n§§NEW\n§",
    "end of document": "---\nname: a\n§§NEW\n§...\n",
    "value that is none": "images:\n- name: a\n  b:\n§§  NEW\n§",
    "text on lines": "images:\n- name: a\n  b: |\n    c\n    d\n\n\n§§  NEW\n§# e\n",
    "text on lines without an end": "name: a\nb: |-\n  c§§\nNEW\n§",
    "folded text": "images:\n- name: a\n  b: >+\n    c\n\n§§  NEW\n§- name: b\n",
    "nested mapping": "images:\n- name: a\n  b:\n    c: {d: e}\n§§  NEW\n§- f: 1\n",
    "text over lines": "name: a\nb: c\n  d\n  e # f\n§§NEW\n§",
    "quoted over lines": 'name: a\nb: "c\n  d"\n§§NEW\n§',
    "anchors elsewhere": "x: &x {y: 1}\nimages:\n- &a\n  name: a\n  b: *x\n§§  NEW\n§",
    "tags elsewhere": "name: a\nb: !vault x\n§§NEW\n§",
    "older manifest": "name: a\n§manifest: {size: 1} # x\n§NEW\n§b: 1\n",
    "older manifest first": "images:\n- §manifest:\n    size: 1\n    chunks:\n    - a\n§NEW\n§  name: a\n",
    "older manifest last": "images:\n- name: a\n  §manifest:\n    size: 1\n§NEW\n§# x\n- b: 1\n",
    "manifest that is none": "§manifest: null\n§NEW\n§name: a\n",
    "manifest without a value": "name: a\n§manifest:\n§NEW\n§",
    "other line breaks": "images:\r\n- name: a\r\n§§  NEW\r\n§",
    "other characters": "# \u00e9\U0001f600\nname: a # \U0001f600\nb: \U0001f600\n§§NEW\n§# \U0001f600\n",
    "byte order mark": "\ufeffname: a\n§§NEW\n§",
    "brackets": "{images: [{§§JSON, §name: a, b: [1]} ] }\n",
    "nothing in brackets": "{§§JSON§}",
    "brackets with an older manifest": "{name: a, §manifest: {size: 1}§JSON§, b: 1}",
    "brackets in a list": "images:\n- {§§JSON, §name: a}\n",
}


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize("case", CHANGES)
def test_profile_is_changed_in_place(case):
    manifest = replace(ROOT, key=None)
    old = re.sub("§([^§]*)§[^§]*§", r"\1", CHANGES[case])
    new = written(manifest, old, name="a" if "name" in old else None)
    assert taken(new) == manifest
    assert without_manifests(new) == without_manifests(old)
    shown = re.sub(r'manifest:\r?\n +size(.|\n)*"[0-9a-f]{64}"(?=\r?\n)', "NEW", new)
    shown = re.sub(r'"manifest": \{.*"\]\}', "JSON", shown)
    assert shown == re.sub("§[^§]*§([^§]*)§", r"\1", CHANGES[case])


class Untagged(yaml.SafeLoader):
    """Reads a tag of somebody else's as text."""


Untagged.add_multi_constructor("!", lambda loader, suffix, node: (suffix, node.value))


def without_manifests(text):
    profile = yaml.load(text, Loader=Untagged)
    for image in [profile, *(profile.get("images") or [])]:
        image.pop("manifest", None)
    return profile


def test_json_profile_stays_json():
    old = {"images": [{"name": "a", "x": None}], "version": 1}
    new = json.loads(written(ROOT, json.dumps(old)))
    assert new["images"][0].pop("manifest")["chunks"] == [each.hex() for each in ROOT.chunks]
    assert new == old


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("ab \n:#-'\"|>[]{}&*!%@`\\\u00e9\U0001f600\x85\u2028", max_size=12)
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_scalars, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    st.lists(
        st.dictionaries(st.text("ab:# \n", max_size=4), _values, min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 2),
    st.sampled_from([None, False, True]),
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.integers(2, 6),
    st.booleans(),
)
def test_any_profile_keeps_all_else(others, which, flow, style, indent, again):
    which = min(which, len(others) - 1)
    profile = {
        "x": 1,
        "images": [{**each, "name": str(at)} for at, each in enumerate(others)],
        "y": [{"z": "z"}],
    }
    old = yaml.dump(profile, default_flow_style=flow, default_style=style, indent=indent, allow_unicode=True)
    new = written(ROOT, old, name=str(which))
    if again:
        new = written(replace(ROOT, key="again"), new, name=str(which))
    assert taken(new, name=str(which)).chunks == ROOT.chunks
    assert without_manifests(new) == without_manifests(old)


def test_profile_of_several_images_wants_a_name():
    old = "images:\n- name: a\n- name: b\n- raw_name: b\n"
    with pytest.raises(ManifestError, match="the profile has 3 images; the name of one would do"):
        written(ROOT, old)
    with pytest.raises(ManifestError, match="the profile has 2 images named 'b'"):
        written(ROOT, old, name="b")
    with pytest.raises(ManifestError, match="the profile has 0 images named 'c'"):
        written(ROOT, old, name="c")


@pytest.mark.parametrize(
    "old", ["", "# nothing\n", "- a\n", "text", "images: {}\n", "images:\n- a\n", "a: b\na: c\n", "%"]
)
def test_nothing_is_written_where_there_is_no_profile(old):
    stream = io.BytesIO()
    with pytest.raises(ManifestError):
        write_profile(ROOT, stream, profile=io.BytesIO(old.encode()))
    assert stream.getvalue() == b""


def test_manifest_that_cannot_be_read_back_is_not_written():
    stream = io.BytesIO()
    with pytest.raises(ManifestError):
        write_profile(ROOT, stream, profile=io.BytesIO(b"name: a\n? manifest\n: {size: 1}\n"))
    assert stream.getvalue() == b""


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize("old", ["images:\n  [name: a]\n", 'images:\n  ["b": 1, ? name : a]\n'])
def test_an_image_without_braces_has_no_room_for_a_second_pair(old):
    """It would be another image."""
    stream = io.BytesIO()
    with pytest.raises(ManifestError, match="line 2: the image stands in brackets without braces"):
        write_profile(ROOT, stream, profile=io.BytesIO(old.encode()), name="a")
    assert stream.getvalue() == b""


def test_old_profile_has_to_be_utf8():
    with pytest.raises(ManifestError, match="line 2: the profile is not UTF-8"):
        written(ROOT, b"name: a\nb: \xff\n")


def other(old, new):
    """Gives a profile with one thing changed in its manifest."""
    return profile(GOOD.replace(old, new, 1))


def profile(manifest="size: 1", head=""):
    return f"{head}name: a\nmanifest:\n" + "".join(f"  {line}\n" for line in manifest.splitlines())


GOOD = f"size: 1\nchunk_size: 1\nalgorithm: sha256\nchunks:\n- {digest(b'x')}"
MD5 = f"size: 1\nchunk_size: 1\nalgorithm: md5\nchunks: ['{digest(b'x', 'md5')}']"


@pytest.mark.usefixtures("either_parser")
def test_keys_come_in_any_order_and_unknown_ones_are_passed_over():
    lines = GOOD.splitlines()
    for text in (
        "\n".join(lines[3:] + lines[:3]),
        f"{GOOD}\nx: [{{y: z}}]\nversion: ~\nkey: null\ndigests: {{}}",
    ):
        manifest = taken(profile(text))
        assert (manifest.size, manifest.version, manifest.key) == (1, None, None)
    assert taken(profile(f"{GOOD}\nkey: 'null'")).key == "null"


HOSTILE = {
    "nothing": ("", "line 1: the document is empty"),
    "no mapping": ("- 1", "line 1: a profile is a mapping"),
    "no YAML": ("name: [", "line [12]: not well-formed"),
    "bad character": (b"name: \xff", "not well-formed"),
    "NUL": ("name: \0", "not well-formed"),
    "escape above Unicode": ('name: "\\UFFFFFFFF"', "not well-formed"),
    "version of digits": (f"%YAML {'1' * 5000}.1\n---\nname: a", "not well-formed"),
    "short tags": ("%TAG ! tag:x,2000:\n---\nname: !a b\n", "line 1: a %TAG directive is not read"),
    "two documents": (profile(GOOD) + "---\na: b\n", "a second document begins"),
    "unknown directive and tag": (
        "--- !!python/object/apply:os.system [id]\n",
        "line 1: a profile is a mapping",
    ),
    "images is no list": ("images: {a: b}\n", "line 1: images is no list"),
    "image is no mapping": ("images:\n- name: a\n- b\n", "line 3: an image of a profile is a mapping"),
    "key twice": (profile(GOOD) + "manifest:\n", "line 8: 'manifest' is there twice"),
    "deep": ("a: " + "[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT, "deeper than 32"),
    "keys": (
        "".join(f"a{i}: 1\n" for i in range(KEY_LIMIT + 1)),
        "line 10001: a mapping has more than 10000 keys",
    ),
    "long text": (f"a: {'x' * 2 * TOKEN_LIMIT}", "a text or comment of more than 262144 bytes"),
    "long comment": (f"#{'x' * 2 * TOKEN_LIMIT}\na: b", "a text or comment of more than 262144 bytes"),
    "no manifest": ("name: a\n", "the profile has no manifest of any image"),
    "null": ("name: a\nmanifest: ~\n", "the profile has no manifest of any image"),
    "manifest is no mapping": ("manifest: [1]\n", "line 1: the manifest is no mapping"),
    "manifest is an alias": ("x: &x {size: 1}\nmanifest: *x\n", "line 2: the manifest is no mapping, or has"),
    "manifest has an anchor": (
        "manifest: &x {size: 1}\n",
        "line 1: the manifest is no mapping, or has a tag",
    ),
    "alias within": (profile(f"{GOOD}\nkey: *x", "x: &x 1\n"), "line 9: .*without anchor, alias or tag"),
    "anchor within": (other("- ", "- &x "), "line 7: .*without anchor, alias or tag"),
    "tag within": (other("size: 1", "size: !!int 1"), "line 3: .*without anchor, alias or tag"),
    "merge": (
        profile(f"<<: *x\n{GOOD.partition(chr(10))[2]}", "x: &x {size: 1}\n"),
        "the size of the image is missing",
    ),
    "size negative": (other("size: 1", "size: -1"), "line 3: the size is '-1'"),
    "size as a float": (other("size: 1", "size: 1e308"), "line 3: the size is '1e308'"),
    "size in sixties": (other("size: 1", "size: 1:00"), "line 3: the size is '1:00'"),
    "size of Python": (other("size: 1", "size: 1_0"), "line 3: the size is '1_0'"),
    "size list": (other("size: 1", "size: [1]"), "line 3: a manifest has a plain value here"),
    "size twice": (profile(f"size: 1\n{GOOD}"), "line 4: 'size' is there twice"),
    "chunk size 0": (other("chunk_size: 1", "chunk_size: 0"), "line 3: the chunk size is 0"),
    "chunk size 2^63": (other("chunk_size: 1", f"chunk_size: {1 << 63}"), "line 4: the chunk size"),
    "gap": (other("size: 1", "size: 2"), "line 3: 1 chunk digests for 2 bytes in chunks of 1"),
    "no chunks": (profile(GOOD.partition("chunks")[0]), "0 chunk digests for 1 bytes"),
    "chunks are no list": (profile(GOOD.partition("chunks")[0] + "chunks: x"), "line 6: chunks is no list"),
    "chunk of digits": (other(digest(b"x"), "1" * 63), "line 7: the digest of chunk 0 is '111"),
    "chunks of two kinds": (profile(f"{GOOD}\n- {digest(b'x', 'md5')}"), "line 8: the digest of chunk 1 is"),
    "another algorithm": (other("sha256", "sha512"), "have the length of sha256, not sha512"),
    "no algorithm": (other("algorithm", "x"), "a manifest has a size, a chunk_size, an algorithm"),
    "weak": (profile(MD5), "chunk digests of sha256, sha384, sha512 are missing: there are 'md5'"),
    "unknown algorithm": (profile(MD5.replace("md5", "crc32")), "are missing: there are 'crc32'"),
    "digests": (profile(f"{GOOD}\ndigests: [a]"), "line 8: the digests are a mapping"),
    "digest": (profile(f"{GOOD}\ndigests: {{sha256: no}}"), "line 3: the sha256 of the image is 'no'"),
    "digest of another": (
        profile(f"{GOOD}\ndigests: {{sha256: '{'0' * 64}'}}"),
        "not that of its only chunk",
    ),
    "sources": (profile(f"{GOOD}\nsources: 1"), "line 8: sources is no list"),
    "source": (profile(f"{GOOD}\nsources: [1]"), "line 8: a source is a mapping with a url"),
    "source without a url": (
        profile(f"{GOOD}\nsources:\n- priority: 1"),
        "line 9: the location '<url>' is no URL|''",
    ),
    "priority": (
        profile(f"{GOOD}\nsources: [{{url: 'http://a/', priority: x}}]"),
        "line 8: the priority .* is 'x'",
    ),
    "too many sources": (
        profile(GOOD + "\nsources:\n" + "- {url: 'http://a/'}\n" * 1025),
        "more than 1024 locations",
    ),
    "key upwards": (profile(f"{GOOD}\nkey: ../a"), "line 3: made of an image with an unusable key"),
    "wrong pin": (profile(f"{GOOD}\npin: sha256:00"), "the pin in the file is 'sha256:00'"),
}


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_profiles_are_refused_with_their_line(case):
    text, message = HOSTILE[case]
    with pytest.raises(ManifestError, match=message) as caught:
        taken(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.usefixtures("either_parser")
def test_laughs_elsewhere_are_not_even_smiled_at():
    bomb = "a0: &a0 [x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    assert taken(bomb + profile(GOOD)).size == 1


def test_weak_and_wrong_arguments():
    assert taken(profile(MD5), allow=["md5"]).algorithm == "md5"
    with pytest.raises(ConfigError):
        taken(profile(MD5), allow=["crc32"])
    with pytest.raises(ManifestError, match="another than the pinned one"):
        taken(profile(GOOD), pin=ROOT.pin)
    with pytest.raises(ManifestError, match="no manifest of an image named 'b'"):
        taken(profile(GOOD), name="b")


def test_no_more_is_read_than_the_limit():
    text = profile(GOOD).encode()
    assert taken(text, limit=len(text)).size == 1
    with pytest.raises(ManifestError, match=f"of more than {len(text) - 1} bytes is not read"):
        taken(text, limit=len(text) - 1)


def test_failure_of_the_stream_is_its_own():
    class Broken:
        def read(self, size):
            raise StorageIOError("the disk is gone")

    for reader in (read_profile, read):
        with pytest.raises(StorageIOError, match="the disk is gone"):
            reader(Broken())


def test_formats_are_told_apart():
    manifest = replace(ROOT, sources=(SourceUrl("http://a/"),))
    metalink = io.BytesIO()
    write_metalink(manifest, metalink)
    text = metalink.getvalue().decode()
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.partition("\n")[2].encode("utf-16")):
        assert read(io.BytesIO(data), pin=manifest.pin) == manifest
    assert read(io.BytesIO(b" \n" + text.partition("\n")[2].encode())) == manifest
    assert read(io.BytesIO(written(manifest).encode())) == manifest
    with pytest.raises(ManifestError, match="more than 99 bytes"):
        read(io.BytesIO(text.encode()), limit=99)


def test_memory_is_that_of_the_digests():
    count = 5_000
    manifest = Manifest(count * 4096, 4096, "sha256", ChunkDigests(bytes(range(32)) * count, 32))
    stream = io.BytesIO(written(manifest).encode())
    read_profile(stream)
    stream.seek(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        back = read_profile(stream)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert back == manifest
    assert after - before < 32 * count + (64 << 10)
    assert peak - before < 36 * count + (512 << 10)


@given(damaged(written(made(DATA[:300], 100, digests={"sha256": digest(DATA[:300])}, key="a")).encode()))
def test_damaged_profiles_are_manifests_or_refused(text):
    try:
        manifest = taken(text, allow=ANY_ALGORITHM)
    except ManifestError:
        return
    assert manifest.size <= manifest.chunk_size * len(manifest.chunks)


@settings(max_examples=50)
@given(damaged((SAMPLES / "fuel-profile.yaml").read_bytes()))
def test_damaged_profiles_are_written_right_or_not(old):
    try:
        new = written(ROOT, old, name="root.img.gz")
    except ManifestError:
        return
    assert taken(new, name="root.img.gz") == ROOT
