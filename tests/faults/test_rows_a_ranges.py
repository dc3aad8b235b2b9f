"""Rows A16-A21, A24, A25 and A34: a reply of another status, range or origin than the one asked for."""

from __future__ import annotations

import pytest

from imgstore.errors import (
    AuthenticationError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    ThrottledError,
    UnavailableError,
    UnsafeLocationError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import IMAGE, PATH, TRIES, K, N

rig = rows.rig

PASSING = [408, 409, 421, 425, 429, 500, 502, 503, 504, 507, 509, 520, 599]
FINAL = {
    400: PermanentError,
    401: AuthenticationError,
    402: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    407: AuthenticationError,
    410: NotFoundError,
    418: PermanentError,
    451: PermissionDeniedError,
    501: UnsupportedError,
    505: UnsupportedError,
}


@pytest.mark.parametrize("code", PASSING)
def test_a16_a_passing_status_costs_one_more_request(rig, code):
    rig.script(wire.Status(code))
    assert rig.read() == IMAGE
    assert (rig.requests, rig.sent) == (2, N)


@pytest.mark.parametrize("code", PASSING)
def test_a16_a_lasting_one_exhausts_the_tries(rig, code):
    rig.script(then=wire.Status(code))
    error = rig.fails(RetriesExhaustedError).error
    assert type(error.__cause__) is (ThrottledError if code in {429, 509} else UnavailableError)
    assert error.attempts == rig.requests == TRIES


@pytest.mark.parametrize("code,kind", FINAL.items())
def test_a16_a_final_status_costs_no_further_request(rig, code, kind):
    rig.script(then=wire.Status(code))
    assert not rig.fails(kind).error.retryable
    assert rig.requests == 1


@pytest.mark.parametrize("code,kind", FINAL.items())
def test_a16_in_mid_read_too(rig, code, kind):
    rig.script(wire.Cut(at=K), then=wire.Status(code))
    assert rig.fails(kind).error.offset == K
    assert rig.requests == 2


@pytest.mark.parametrize("at", [1, K, N - 1])
def test_a17_a_whole_image_is_skipped_forward(rig, at):
    rig.script(wire.Cut(at=at), wire.WholeInstead())
    assert rig.read() == IMAGE
    assert rig.spans == [(0, at), (0, N)]
    assert rig.counted("refetched") == at


def test_a17_to_the_limit_and_not_beyond(rig):
    rig.script(wire.Cut(at=K), wire.WholeInstead())
    assert rig.read(skip_limit=K) == IMAGE
    rig.script(wire.Cut(at=K), then=rows.refused(wire.WholeInstead()))
    before = rig.sent
    assert len(rig.fails(ProtocolViolationError, skip_limit=K - 1).data) == K
    assert rig.sent - before == K


def test_a17_the_first_reply_is_skipped_too(rig):
    rig.script(then=wire.WholeInstead())
    assert rig.read(K, 1000) == IMAGE[K : K + 1000]
    assert rig.requests == 1


@pytest.mark.parametrize("size", [1, K - 1, K, N - 1])
def test_a17_a_whole_image_of_another_size_delivers_nothing(rig, size):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.WholeInstead(size)))
    assert len(rig.fails(VersionChangedError).data) == K
    assert (rig.requests, rig.sent) == (2, K)


def test_a17_an_empty_one_is_another_version(rig):
    rig.script(wire.Cut(at=K), then=wire.WholeInstead(0))
    assert len(rig.fails(VersionChangedError).data) == K
    assert (rig.requests, rig.sent) == (2, K)


def test_a18_a_part_that_tells_no_range_is_refused(rig):
    rig.script(then=rows.refused(wire.ContentRange(None)))
    assert rig.fails(ProtocolViolationError).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


def test_a18_the_next_try_is_served(rig):
    rig.script(wire.Cut(at=K), rows.refused(wire.ContentRange(None)))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K, N)]


@pytest.mark.parametrize("shift", [(-1, 0), (-K, 0), (0, +1), (-1, +1), (-K, +K)], ids=str)
def test_a19_what_is_beside_the_range_is_trimmed(rig, shift):
    rig.script(then=wire.ShiftRange(*shift))
    assert rig.read(K, 1000) == IMAGE[K : K + 1000]
    assert rig.requests == 1


@pytest.mark.parametrize("shift", [(-1, 0), (-K, 0)], ids=str)
def test_a19_in_mid_read_too(rig, shift):
    rig.script(wire.Cut(at=K), wire.ShiftRange(*shift))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K + shift[0], N)]
    assert rig.counted("refetched") == -shift[0]


def test_a19_a_shorter_part_is_gone_on_behind(rig):
    rig.script(wire.ShiftRange(0, -300), wire.ShiftRange(0, -200))
    assert rig.read(K, 1000) == IMAGE[K : K + 1000]
    assert rig.spans == [(K, K + 700), (K + 700, K + 800), (K + 800, K + 1000)]


@pytest.mark.parametrize("shift", [(+1, 0), (+1, +1), (-900, -700)], ids=str)
def test_a19_a_part_without_the_first_byte_is_refused(rig, shift):
    rig.script(then=rows.refused(wire.ShiftRange(*shift)))
    assert rig.fails(ProtocolViolationError, K, 500).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


RANGES = {
    "no total": "bytes {start}-{last}/*",
    "backward": "bytes {last}-{start}/{size}",
    "end behind the total": "bytes {start}-{stop}/{size}",
    "start behind the total": "bytes {size}-{size}/{size}",
    "other unit": "lines {start}-{last}/{size}",
    "upper case": "Bytes {start}-{last}/{size}",
    "as in a request": "bytes={start}-{last}/{size}",
    "no unit": "{start}-{last}/{size}",
    "letters": "bytes a-b/c",
    "hexadecimal": "bytes 0x0-0xff/{size}",
    "negative": "bytes -1-{last}/{size}",
    "signed": "bytes +{start}-{last}/{size}",
    "unsatisfied": "bytes */{size}",
    "two": "bytes {start}-{last}/{size}, 1-2/{size}",
    "trailing": "bytes {start}-{last}/{size} x",
    "no end": "bytes {start}-/{size}",
    "huge": "bytes {start}-99999999999999999999/999999999999999999999",
    "beyond 2**63": f"bytes {{start}}-{{last}}/{2**63}",
    "empty": "",
}


@pytest.mark.parametrize("value", RANGES.values(), ids=RANGES)
def test_a20_a_range_that_is_none_is_refused(rig, value):
    rig.script(then=rows.refused(wire.ContentRange(value)))
    assert rig.fails(ProtocolViolationError).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


@pytest.mark.parametrize("value", RANGES.values(), ids=RANGES)
def test_a20_in_mid_read_too(rig, value):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.ContentRange(value)))
    assert len(rig.fails(ProtocolViolationError).data) == K
    assert rig.sent == K


def test_a20_two_ranges_are_refused(rig):
    rig.script(then=rows.refused(wire.Header("Content-Range", f"bytes 0-9/{N}", f"bytes 0-{N - 1}/{N}")))
    assert rig.fails(ProtocolViolationError).data == b""
    assert rig.sent == 0


@pytest.mark.parametrize("size", [N - 1, N + 1, K + 1])
def test_a20_another_total_in_mid_read_is_another_version(rig, size):
    rig.script(wire.Cut(at=K), then=rows.refused(wire.ContentRange(f"bytes {{start}}-{K}/{size}")))
    assert len(rig.fails(VersionChangedError).data) == K
    assert (rig.requests, rig.sent) == (2, K)


def test_a21_several_ranges_for_one_are_refused(rig):
    rig.script(then=rows.refused(wire.Multipart()))
    assert rig.fails(ProtocolViolationError, K, 1000).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


def test_a21_also_with_a_content_range(rig):
    rig.script(then=rows.refused(wire.Multipart(), wire.ContentRange("bytes {start}-{last}/{size}")))
    assert rig.fails(ProtocolViolationError, K, 1000).data == b""


def unsatisfied(size):
    return wire.Status(416, {"Content-Range": f"bytes */{size}"})


def test_a24_the_end_of_the_image_is_not_asked_for(rig):
    rig.script(wire.Cut(at=N))
    assert rig.read() == IMAGE
    assert rig.requests == 1


@pytest.mark.parametrize("size", [0, 1, K - 1, K])
def test_a24_an_end_before_the_offset_is_another_version(rig, size):
    rig.script(wire.Cut(at=K), then=unsatisfied(size))
    assert len(rig.fails(VersionChangedError).data) == K
    assert rig.requests <= 3


@pytest.mark.parametrize("size", [N, N + 1, "x"])
def test_a24_a_416_that_makes_no_sense_costs_a_try(rig, size):
    rig.script(wire.Cut(at=K), unsatisfied(size))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K, N)]
    rig.script(wire.Cut(at=K), then=unsatisfied(size))
    assert len(rig.fails(ProtocolViolationError).data) == K


def test_a24_one_that_names_no_size_is_asked_about_once_a_try(rig):
    rig.script(then=wire.Status(416))
    rig.fails(ProtocolViolationError)
    assert rig.requests <= 2 * TRIES


@pytest.mark.parametrize("offset", [N, N + 1, 2 * N])
def test_a24_an_offset_behind_the_end_is_final(rig, offset):
    assert rig.fails(RangeNotSatisfiableError, offset).data == b""
    assert rig.requests == 1


def test_a24_an_empty_image_is_an_empty_stream(rig):
    rig.put(b"")
    assert rig.read() == b""
    store, key = rig.store()
    with store.get(key) as stream:
        assert (stream.info.size, stream.read()) == (0, b"")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a25_the_same_version_elsewhere_goes_on(rig, code):
    other = rig.another()
    other.put("/moved.img", IMAGE, etag='"v1"')
    rig.script(wire.Cut(at=K), wire.Redirect(other.url("/moved.img"), code))
    assert rig.read(allow_private=True) == IMAGE
    assert rig.spans == [(0, K)]
    other.log.wait_idle()
    assert other.log[0].range_taken == (K, N)
    assert other.log[0].header("If-Match") == '"v1"'


def test_a25_another_version_elsewhere_delivers_nothing(rig):
    other = rig.another()
    other.put("/moved.img", rows.OTHER, etag='"v2"')
    other.script("/moved.img", then=rows.refused(wire.IgnoreIfMatch()))
    rig.script(wire.Cut(at=K), then=wire.Redirect(other.url("/moved.img")))
    assert len(rig.fails(VersionChangedError, redirect_hosts=["127.0.0.1"]).data) == K
    assert other.log.body_bytes() == 0


def test_a25_an_origin_that_is_not_allowed_is_not_asked(rig):
    other = rig.another()
    other.put("/moved.img", IMAGE, etag='"v1"')
    rig.script(wire.Cut(at=K), then=wire.Redirect(other.url("/moved.img")))
    assert len(rig.fails(UnsafeLocationError).data) == K
    assert (other.log.connections, rig.requests) == (0, 2)


def test_a25_a_redirect_within_the_origin_is_followed(rig):
    rig.server.put("/moved.img", IMAGE, etag='"v1"')
    rig.script(then=wire.Redirect("/moved.img", 307))
    assert rig.read() == IMAGE
    assert rig.log.body_bytes("/moved.img") == N


PAGE = b"<html><body>Please log in to the network</body></html>"
SANDWICH = {
    "no validator": {},
    "of its own": {"ETag": '"page"'},
    "weak": {"ETag": 'W/"page"'},
    "dated": {"Last-Modified": "Mon, 01 Jan 2001 00:00:00 GMT"},
}


def sandwich(headers, body=PAGE):
    return wire.Status(200, {"Content-Type": "text/html", **headers}, body=body)


@pytest.mark.parametrize("headers", SANDWICH.values(), ids=SANDWICH)
@pytest.mark.parametrize("body", [PAGE, PAGE.ljust(N)], ids=["short", "of the image's size"])
def test_a34_a_page_in_mid_read_is_not_delivered(rig, headers, body):
    rig.script(wire.Cut(at=K), then=sandwich(headers, body))
    kind = VersionChangedError if headers else ProtocolViolationError
    assert len(rig.fails(kind).data) == K
    assert rig.requests == (2 if headers else 1 + TRIES)


@pytest.mark.parametrize("headers", SANDWICH.values(), ids=SANDWICH)
def test_a34_a_page_in_place_of_a_version_is_not_delivered(rig, headers):
    rig.script(then=sandwich(headers))
    kind = VersionChangedError if headers else ProtocolViolationError
    assert rig.fails(kind, version='"v1"').data == b""


def test_a34_a_page_without_validator_is_outlived(rig):
    rig.script(wire.Cut(at=K), sandwich({}))
    assert rig.read() == IMAGE
    assert rig.server.unused(PATH) == 0


def test_a34_without_a_version_the_first_page_passes_for_the_image(rig):
    rig.script(then=sandwich({}))
    assert rig.read() == PAGE
