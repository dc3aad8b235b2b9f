"""Versions of objects, and the proof that they were stored."""

from __future__ import annotations

import hashlib

import pytest

from imgstore.backends._http_range import Reply
from imgstore.backends.s3.identity import Pin, described, pinned
from imgstore.backends.s3.integrity import Integrity, crc32
from imgstore.errors import BadReplyError, VersionChangedError

DATA = memoryview(b"123456789")
MD5 = hashlib.md5(DATA).hexdigest()


def reply(**fields):
    return Reply(1, 200, tuple((name.replace("_", "-"), value) for name, value in fields.items()))


@pytest.mark.parametrize(
    "fields, token",
    [
        ({"etag": '"abc-2"'}, '"abc-2"'),
        ({"etag": '"abc"', "x_amz_version_id": "null"}, '"abc"'),
        ({"etag": '"abc"', "x_amz_version_id": "3HL4.kq-_"}, '3HL4.kq-_ "abc"'),
        ({"etag": 'W/"abc"'}, None),
        ({"etag": "abc"}, None),
        ({"etag": ""}, None),
        ({"x_amz_version_id": "3HL4"}, None),
        ({"etag": '"abc"', "x_amz_version_id": 'a "b"'}, '"abc"'),
    ],
)
def test_versions(fields, token):
    pin = pinned(reply(**fields))
    assert (pin.token if pin else None) == token
    assert token is None or Pin.of(token) == pin
    assert described(reply(content_length="5", **fields), "k").version == token


@pytest.mark.parametrize(
    "token", ["", "abc", '"', '""', 'W/"a"', '"a" "b"', 'v "a" ', '"a"\r\nX: y', '"a\r\n"', "modified:Mon"]
)
def test_b11_what_is_no_version(token):
    with pytest.raises(VersionChangedError):
        Pin.of(token)


def test_which_versions_are_one():
    plain, kept = Pin('"a"'), Pin('"a"', "v1")
    assert plain.admits(kept)
    assert kept.admits(kept)
    assert not kept.admits(plain)
    assert not kept.admits(Pin('"a"', "v2"))
    assert not plain.admits(Pin('"b"'))
    assert not plain.admits(None)


def test_a_head_without_a_length_is_no_image():
    with pytest.raises(BadReplyError):
        described(reply(etag='"a"'), "k")


def test_the_checksum_is_that_of_the_standard():
    assert crc32(DATA) == "y/Q5Jg=="  # CBF43926, the check value of CRC-32


@pytest.mark.parametrize("choice", ["when_supported", "when_required", "md5"])
def test_c13_bytes_are_proven_by_echo_or_etag(choice):
    integrity = Integrity(choice)
    stamps = integrity.of_part(DATA)
    assert integrity.check(reply(etag=f'"{MD5}"'), DATA, stamps)
    with pytest.raises(BadReplyError, match="other bytes"):
        integrity.check(reply(etag=f'"{MD5[::-1]}"'), DATA, stamps)


def test_c13_an_echo_goes_before_the_etag():
    integrity = Integrity("when_supported")
    stamps = integrity.of_part(DATA)
    assert integrity.check(reply(etag='"opaque"', x_amz_checksum_crc32=crc32(DATA)), DATA, stamps)
    with pytest.raises(BadReplyError):
        integrity.check(reply(etag=f'"{MD5}"', x_amz_checksum_crc32="AAAAAA=="), DATA, stamps)


@pytest.mark.parametrize(
    "fields",
    [
        {"etag": '"0123456789abcdef0123456789abcdef-3"'},
        {"etag": f'"{MD5[::-1]}"', "x_amz_server_side_encryption": "aws:kms"},
        {"etag": f'"{MD5[::-1]}"', "x_amz_server_side_encryption_customer_algorithm": "AES256"},
        {},
    ],
)
def test_b11_what_is_no_digest_proves_nothing_and_refutes_nothing(fields):
    integrity = Integrity("when_required")
    assert not integrity.check(reply(**fields), DATA, integrity.of_part(DATA))


def test_the_services_own_keys_leave_the_etag_a_digest():
    integrity = Integrity("when_required")
    fields = {"etag": f'"{MD5}"', "x_amz_server_side_encryption": "AES256"}
    assert integrity.check(reply(**fields), DATA, {})


def test_a_checksum_that_is_not_heeded_is_not_computed_again():
    integrity = Integrity("when_supported")
    stamps = integrity.of_part(DATA)
    integrity.check(reply(etag=f'"{MD5}"'), DATA, stamps)
    assert integrity.of_part(DATA) == {}
    assert set(integrity.of_object(DATA)) == {"ContentMD5"}
