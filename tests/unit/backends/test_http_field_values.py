"""Values of header fields that a careless reader takes for something else."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from imgstore.backends._http_range import Reply, describe, http_date

DIGEST = hashlib.sha256(b"image")
FIELD = f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/St_Johns"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_a_date_is_the_same_second_wherever_it_is_read(zone, text):
    assert http_date(text) == 784111777.0


def digests(field):
    return describe(Reply(1, 200, (("Repr-Digest", field),)), "image", 5).digests


@pytest.mark.parametrize("field", [FIELD, f" {FIELD}\t", f"unixsum=:GQU=:, {FIELD}", f"{FIELD},"])
def test_a_digest_is_read_among_blanks_and_others(field):
    assert digests(field) == {"sha256": DIGEST.hexdigest()}


@pytest.mark.parametrize("field", [f"~{FIELD}", f"{FIELD}~", f"{FIELD};a=1", FIELD.replace("=:", "="), ""])
def test_what_is_not_quite_a_digest_is_none(field):
    assert digests(field) == {}
