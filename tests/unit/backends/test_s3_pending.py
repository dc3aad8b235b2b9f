"""Tokens of uploads: whole, opaque, and never trusted."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.s3.pending import Pending
from imgstore.errors import UploadLostError

PENDING = Pending("images", "a/ü", "2~abc.def", "0123abcd", 5, overwrite=True, digests={"sha256": "00"})


def forged(**changes):
    told = {
        "bucket": "images", "key": "k", "upload_id": "u", "marker": "m1", "size": 5, "overwrite": False,
        "digests": {}, **changes,
    }  # fmt: skip
    return "s3.1." + base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def test_a_token_is_read_back():
    assert Pending.of(PENDING.token, "images") == PENDING
    assert Pending.of(json.loads(json.dumps(PENDING.token)), "images") == PENDING
    assert Pending.of(forged(), "images").key == "k"
    assert PENDING.token.isascii()
    assert PENDING.token.isprintable()
    assert not set(PENDING.token) & set(" /+=&?#")


@pytest.mark.parametrize(
    "token",
    [
        "", "kit-no-such-upload", "s3.1.", "s3.1.!!!", "s3.1.e30", "s3.2." + PENDING.token[5:],
        "s3.1." + "A" * 20_000,
        forged(key="../x"), forged(key=5), forged(size=-1), forged(size="5"), forged(size=True),
        forged(overwrite=0), forged(marker="../../x"), forged(marker=""), forged(upload_id="a\nb"),
        forged(digests=[]), forged(digests={"sha256": 1}), forged(extra=1),
    ],
)  # fmt: skip
def test_what_is_none_is_lost(token):
    with pytest.raises(UploadLostError):
        Pending.of(token, "images")


def test_one_of_another_bucket_is_lost():
    with pytest.raises(UploadLostError, match="to this bucket"):
        Pending.of(PENDING.token, "other")


@given(st.binary(max_size=60))
def test_noise_is_lost(noise):
    with pytest.raises(UploadLostError):
        Pending.of("s3.1." + base64.urlsafe_b64encode(noise).decode(), "images")
