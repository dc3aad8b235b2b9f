"""Rows C1 to C7 and C9 to C11, B3, B6 and B7 with a manifest: each with and without a break (P14)."""

from __future__ import annotations

import random

import pytest

from imgstore.errors import DigestMismatchError, ManifestError, VersionChangedError
from imgstore.layers.verify import VerifyLayer
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import IMAGE, OTHER, N
from tests.manifests import Given, manifest_of

rig = rows.rig

CHUNK = 256 << 10
COUNT = -(-N // CHUNK)
MANIFEST = manifest_of(IMAGE, CHUNK)
BREAK = 5 * CHUNK + 12_345

both = pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])


def verified(rig, *, manifest=MANIFEST, **options):
    store, key = rig.store(**options)
    layer = VerifyLayer(store, Given({key: manifest}), required=True, spare=True, observe=rig.events.append)
    return layer, key


def read(rig, **options):
    layer, key = verified(rig, **options)
    return rows.read(layer, key)


def fails(rig, kind, **options):
    """Reads, expecting an error; gives it, with what came before held to the image."""
    layer, key = verified(rig, **options)
    got = bytearray()
    with pytest.raises(kind) as raised:
        rows.read(layer, key, into=got)
    assert got == IMAGE[: len(got)]
    assert len(got) % CHUNK == 0 or len(got) == N
    return raised.value


def bounds(number):
    whole = MANIFEST.chunk_range(number)
    return whole.start, whole.stop


def breaking(rig, drop):
    """Has the first reply break once, in its midst."""
    if drop:
        rig.server.trap(rows.PATH, wire.Cut(at=BREAK))


def once(rig, fault, drop):
    """Has `fault` arrive once: behind the break it takes a second reply, as the first does not get there."""
    rig.server.trap(rows.PATH, fault, times=2 if drop and fault.at >= BREAK else 1)


def repairs(rig):
    return [(event.offset, event.offset + event.count) for event in rig.events if event.kind == "repaired"]


@both
@pytest.mark.parametrize("place", [0, 3 * CHUNK + 1, BREAK, N - 1])
def test_c1_c2_a_flipped_bit_costs_its_chunk(rig, place, drop):
    breaking(rig, drop)
    once(rig, wire.Flip(at=place, mask=1), drop)
    assert read(rig) == IMAGE
    bad = bounds(place // CHUNK)
    assert repairs(rig) == [bad]
    assert rig.sent == N + bad[1] - bad[0]
    assert bad in rig.spans


@both
@pytest.mark.parametrize("seed", range(5))
def test_c3_bad_chunks_cost_what_they_hold_and_good_ones_nothing(rig, promise, seed, drop):
    breaking(rig, drop)
    numbers = sorted(random.Random(seed).sample(range(COUNT), 4))
    for number in numbers:
        once(rig, wire.Flip(at=bounds(number)[0] + seed), drop)
    assert read(rig) == IMAGE
    bad = [bounds(number) for number in numbers]
    assert repairs(rig) == bad
    wanted = N + sum(stop - start for start, stop in bad)
    promise("P5", "bytes sent beyond the image and its bad chunks", rig.sent - wanted, 0)
    assert sorted(each for each in rig.spans if each in bad) == bad


@both
def test_c4_a_chunk_that_is_bad_for_good_is_named_after_two_attempts(rig, drop):
    breaking(rig, drop)
    rig.server.trap(rows.PATH, wire.Flip(at=bounds(9)[0] + 7), times=None)
    error = fails(rig, DigestMismatchError)
    assert error.chunks == (9,)
    assert error.offset == bounds(9)[0]
    assert rig.spans.count(bounds(9)) == 1


@both
def test_c5_a_source_of_bad_chunks_is_left_early(rig, drop):
    breaking(rig, drop)
    rig.server.trap(rows.PATH, wire.Overlay(0, OTHER), times=None)
    assert fails(rig, DigestMismatchError).chunks == (0,)
    assert rig.sent < N


@both
def test_c5_one_that_lies_once_each_time_too(rig, drop):
    breaking(rig, drop)
    for number in range(COUNT):
        once(rig, wire.Flip(at=bounds(number)[0]), drop)
    assert fails(rig, DigestMismatchError).chunks == (4,)
    assert len(repairs(rig)) == 4


@both
def test_c6_the_whole_digest_finds_what_no_manifest_is_there_for(rig, drop):
    rig.server.shelf.put(rows.PATH, IMAGE, etag='"v1"', headers=(rows.digest_of(IMAGE),))
    breaking(rig, drop)
    once(rig, wire.Flip(at=N - 5), drop)
    with pytest.raises(DigestMismatchError):
        rig.read()


@both
def test_c7_an_image_cut_off_at_a_chunk_is_another(rig, drop):
    rig.server.put(rows.PATH, IMAGE[: 8 * CHUNK], etag='"v1"')
    breaking(rig, drop)
    fails(rig, ManifestError)
    assert rig.counted("delivered") == 0


@both
def test_c7_bytes_behind_the_end_are_not_of_the_image(rig, drop):
    rig.server.put(rows.PATH, IMAGE + b"more", etag='"v1"')
    breaking(rig, drop)
    fails(rig, ManifestError)


@both
def test_c7_a_body_that_ends_at_a_chunk_is_read_on(rig, drop):
    breaking(rig, drop)
    rig.server.trap(rows.PATH, wire.Cut(at=8 * CHUNK))
    assert read(rig) == IMAGE
    assert rig.sent == N


@both
def test_c7_a_tail_of_zeros_is_seen(rig, drop):
    breaking(rig, drop)
    rig.server.trap(rows.PATH, wire.Overlay(14 * CHUNK, bytes(N - 14 * CHUNK)), times=None)
    assert fails(rig, DigestMismatchError).chunks == (14,)


@both
@pytest.mark.parametrize(
    "manifest",
    [manifest_of(IMAGE[:-1], CHUNK), manifest_of(IMAGE, CHUNK, version='"v0"')],
    ids=["size", "version"],
)
def test_c9_a_manifest_of_another_image_is_refused_before_the_first_byte(rig, manifest, drop):
    breaking(rig, drop)
    error = fails(rig, ManifestError, manifest=manifest)
    assert "of another image" in str(error)
    assert rig.counted("delivered") == 0


@both
def test_c10_exchanged_chunks_are_both_bad(rig, drop):
    breaking(rig, drop)
    for at, taken in ((3, 11), (11, 3)):
        once(rig, wire.Overlay(bounds(at)[0], IMAGE[slice(*bounds(taken))]), drop)
    assert read(rig) == IMAGE
    assert repairs(rig) == [bounds(3), bounds(11)]


@both
def test_b3_other_bytes_under_the_same_etag_are_named(rig, drop):
    breaking(rig, drop)
    rig.server.trap(rows.PATH, wire.Overlay(6 * CHUNK, OTHER[6 * CHUNK :]), times=None)
    assert fails(rig, DigestMismatchError).chunks == (6,)


@both
@pytest.mark.parametrize("validators", [{"etag": None}, {"etag": 'W/"v1"'}], ids=str)
def test_b6_without_validators_the_manifest_proves_the_splice(rig, validators, drop):
    rig.put(**validators)
    breaking(rig, drop)
    assert read(rig) == IMAGE
    assert rig.sent == N  # nothing is read again for a proof


@both
def test_b6_and_finds_an_image_that_was_replaced(rig, drop):
    rig.put(etag=None)
    rig.script(*([wire.Cut(at=BREAK)] if drop else []), then=wire.Swap(OTHER, etag=None))
    assert fails(rig, DigestMismatchError).chunks == ((5,) if drop else (0,))


def test_b7_replicas_with_tags_of_their_own_serve_one_image(rig):
    rig.script(wire.Cut(at=BREAK), then=wire.ReplaceValidator(etag='"other"'))
    assert read(rig) == IMAGE
    assert rig.sent == N


@both
def test_b7_a_version_that_is_asked_for_is_held_to_all_the_same(rig, drop):
    layer, key = verified(rig)
    breaking(rig, drop)
    assert rows.read(layer, key, version='"v1"') == IMAGE
    with pytest.raises(VersionChangedError):
        rows.read(layer, key, version='"v0"')
