"""Rows B1-B3, B5-B9 and B13: one read never holds bytes of two versions."""

from __future__ import annotations

import time

import pytest

from imgstore.errors import (
    DigestMismatchError,
    NotFoundError,
    ProtocolViolationError,
    UnpinnableError,
    VersionChangedError,
)
from imgstore.model import ANY
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, IMAGE, OTHER, PATH, K, N

rig = rows.rig

PLACES = [1, BUFFER, K, N - 1]
OLD = 1_000_000_000  # a Last-Modified that no second change can hide behind


@pytest.mark.parametrize("at", PLACES)
def test_b1_a_replaced_image_is_refused_by_the_server(rig, at):
    rig.script(wire.Cut(at=at), wire.Swap(OTHER))
    assert len(rig.fails(VersionChangedError).data) == at
    assert rig.exchanges[1].header("If-Match") == '"v1"'
    assert (rig.requests, rig.sent) == (2, at)


@pytest.mark.parametrize("at", PLACES)
def test_b1_by_its_date_too(rig, at):
    rig.put(etag=None, last_modified=OLD)
    rig.script(wire.Cut(at=at), wire.Swap(OTHER, etag=None, last_modified=OLD + 1))
    assert len(rig.fails(VersionChangedError).data) == at
    assert rig.exchanges[1].header("If-Unmodified-Since") == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert (rig.requests, rig.sent) == (2, at)


def test_b1_one_that_is_not_replaced_is_read_on(rig):
    rig.put(etag=None, last_modified=OLD)
    rig.script(wire.Cut(at=K))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K, N)]


@pytest.mark.parametrize("validators", [{"etag": '"v2"'}, {"etag": None, "last_modified": OLD + 1}], ids=str)
@pytest.mark.parametrize("at", PLACES)
def test_b2_a_replaced_image_is_refused_by_us(rig, validators, at):
    rig.put(**({"etag": '"v1"'} if validators["etag"] else {"etag": None, "last_modified": OLD}))
    rig.script(wire.Cut(at=at), then=rows.refused(wire.Swap(OTHER, **validators), wire.IgnoreIfMatch()))
    assert len(rig.fails(VersionChangedError).data) == at
    assert (rig.requests, rig.sent) == (2, at)


@pytest.mark.parametrize("size", [K - 1, K, N - 1, N + 1])
def test_b2_also_of_another_size(rig, size):
    other = wire.Swap(OTHER.ljust(size)[:size])
    rig.script(wire.Cut(at=K), then=(other, wire.IgnoreIfMatch()))
    assert len(rig.fails(VersionChangedError).data) == K


def test_b2_the_version_asked_for_is_the_one_served(rig):
    rig.put(OTHER, etag='"v2"')
    rig.script(then=rows.refused(wire.IgnoreIfMatch()))
    assert rig.fails(VersionChangedError, version='"v1"').data == b""
    assert (rig.requests, rig.sent) == (1, 0)


@pytest.mark.parametrize("cut", [True, False])
def test_b3_a_digest_finds_other_bytes_under_the_same_etag(rig, cut):
    rig.server.shelf.put(PATH, IMAGE, etag='"v1"', headers=(rows.digest_of(IMAGE),))
    lie = wire.Overlay(K + 1000, b"\0")  # the last digest is still that of the first reply
    rig.script(*([wire.Cut(at=K)] if cut else []), lie)
    with pytest.raises(DigestMismatchError) as raised:
        rig.read()
    assert raised.value.attempts == 1 + cut


def test_b3_a_digest_that_changes_is_another_version(rig):
    rig.server.shelf.put(PATH, IMAGE, etag='"v1"', headers=(rows.digest_of(IMAGE),))
    header = wire.Header(*rows.digest_of(OTHER))
    rig.script(wire.Cut(at=K), then=rows.refused(wire.Swap(OTHER, etag='"v1"'), header))
    assert len(rig.fails(VersionChangedError).data) == K
    assert rig.sent == K


def test_b3_without_a_digest_other_bytes_under_the_same_etag_go_unseen(rig):
    rig.script(wire.Cut(at=K), wire.Swap(OTHER, etag='"v1"'))
    assert rig.read() == IMAGE[:K] + OTHER[K:]


UNPINNED = {
    "weak tag": {"etag": 'W/"v1"'},
    "bare tag": {"etag": "v1"},
    "fresh date": {"etag": None, "last_modified": None},  # see unpinned
    "weak tag, fresh date": {"etag": 'W/"v1"', "last_modified": None},
    "nothing": {"etag": None},
}


def unpinned(name):
    """Validators that promise nothing; a date within the minute, as RFC 9110 §8.8.2.2 has it, is one."""
    fresh = {"last_modified": time.time()} if "fresh" in name else {}
    return {**UNPINNED[name], **fresh}


@pytest.mark.parametrize("name", [name for name in UNPINNED if name != "nothing"])
def test_b5_a_weak_validator_is_no_version(rig, name):
    rig.put(**unpinned(name))
    store, key = rig.store()
    with store.get(key) as stream:
        assert stream.info.version is None
    assert store.stat(key).version is None


@pytest.mark.parametrize("name", UNPINNED)
@pytest.mark.parametrize("at", PLACES)
def test_b6_without_a_version_what_was_delivered_is_read_again(rig, name, at):
    rig.put(**unpinned(name))
    rig.script(wire.Cut(at=at))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, at), (0, N)]
    assert rig.counted("refetched") == at
    sent = {name for each in rig.exchanges for name, _ in each.headers if name.startswith("If-")}
    assert sent == set()


@pytest.mark.parametrize("name", UNPINNED)
@pytest.mark.parametrize("flipped", [0, K - 1])
def test_b6_and_is_another_version_if_one_byte_differs(rig, name, flipped):
    validators = unpinned(name)
    rig.put(**validators)
    rig.script(wire.Cut(at=K), then=wire.Flip(at=flipped))
    assert len(rig.fails(VersionChangedError).data) == K
    assert rig.requests == 2


def test_b6_a_range_is_proven_from_its_own_start(rig):
    rig.put(etag=None)
    rig.script(wire.Cut(at=K))
    assert rig.read(1000) == IMAGE[1000:]
    assert rig.spans == [(1000, K), (1000, N)]


def test_b6_a_break_within_the_proof_begins_it_anew(rig):
    rig.put(etag=None)
    rig.script(wire.Cut(at=K), wire.Cut(at=K // 2))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (0, K // 2), (0, N)]
    assert rig.counted("refetched") == K // 2 + K


def test_b6_a_size_that_changed_is_another_version(rig):
    rig.put(etag=None)
    rig.script(wire.Cut(at=K), then=rows.refused(wire.Swap(IMAGE + b"more", etag=None)))
    assert len(rig.fails(VersionChangedError).data) == K
    assert rig.sent == K


@pytest.mark.parametrize("limit,breaks", [(0, 1), (1, 2), (2, 3)])
def test_b6_a_proof_that_costs_too_much_is_not_made(rig, limit, breaks):
    rig.put(etag=None)
    rig.script(then=wire.Cut(at=N - 1))
    assert len(rig.fails(UnpinnableError, proof_limit=limit).data) == N - 1
    assert rig.requests == breaks
    assert rig.sent <= (1 + limit) * N


def test_b6_where_nothing_was_delivered_there_is_nothing_to_prove(rig):
    rig.put(etag=None)
    rig.script((wire.WholeInstead(), wire.Cut(at=K)))
    assert rig.read(2 * K, 1000) == IMAGE[2 * K : 2 * K + 1000]
    assert rig.spans == [(0, K), (2 * K, 2 * K + 1000)]


def test_b7_a_tag_of_another_replica_is_another_version(rig):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.ReplaceValidator('"replica-2"'), wire.IgnoreIfMatch()))
    assert len(rig.fails(VersionChangedError).data) == K
    assert rig.requests == 2


def test_b7_any_version_will_do_for_who_proves_the_bytes(rig):
    replica = (wire.ReplaceValidator('"replica-2"'), wire.IgnoreIfMatch())
    rig.script(wire.Cut(at=K), replica)
    assert rig.read(version=ANY) == IMAGE
    assert rig.spans == [(0, K), (K, N)]
    assert rig.exchanges[1].header("If-Match") is None


TAGS = {
    "case": '"V1"',
    "no quotes": "v1",
    "single quotes": "'v1'",
    "suffix": '"v1-gzip"',
    "colon suffix": '"v1:br"',
    "weak": 'W/"v1"',
    "space within": '"v1 "',
    "escaped": '"\\v1"',
}


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_b8_a_tag_that_is_not_the_same_is_another_version(rig, tag):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.ReplaceValidator(tag), wire.IgnoreIfMatch()))
    assert len(rig.fails(VersionChangedError).data) == K
    assert (rig.requests, rig.sent) == (2, K)


def test_b8_no_tag_in_mid_read_costs_a_try(rig):
    rig.script(wire.Cut(at=K), rows.refused(wire.NoValidators()))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K, N)]


def test_b8_two_tags_are_none(rig):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.Header("ETag", '"v1"', '"v2"')))
    assert len(rig.fails(ProtocolViolationError).data) == K
    assert rig.sent == K


@pytest.mark.parametrize("code", [404, 410])
def test_b9_a_deleted_image_is_gone_at_the_offset(rig, code):
    rig.script(wire.Cut(at=K), then=wire.Swap(None) if code == 404 else wire.Status(410))
    broken = rig.fails(NotFoundError)
    assert (broken.error.offset, len(broken.data)) == (K, K)
    assert broken.error.attempts == rig.requests == 2


@pytest.mark.parametrize("code", [404, 410])
def test_b9_one_that_never_was_is_not_there(rig, code):
    rig.script(then=wire.Status(code))
    assert not rig.fails(NotFoundError).error.offset
    assert rig.requests == 1


def test_b13_the_version_is_that_of_the_reply_to_get(rig):
    stale = (wire.ReplaceValidator('"v0"'), wire.Header("Content-Length", "5"))
    rig.script(then=stale, method="HEAD")
    store, key = rig.store()
    assert (store.stat(key).size, store.stat(key).version) == (5, '"v0"')
    with store.get(key) as stream:
        assert (stream.info.size, stream.info.version) == (N, '"v1"')
        assert b"".join(map(bytes, stream.chunks(BUFFER))) == IMAGE
    rig.fails(VersionChangedError, version='"v0"')
