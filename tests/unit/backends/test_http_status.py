"""What each status means, by the table of FAULTS.md A14 and A16."""

from __future__ import annotations

import pytest

from imgstore.backends._http.status import REFUSALS, refusal, retry_after
from imgstore.backends._http_range import Reply
from imgstore.errors import (
    AuthenticationError,
    BadReplyError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ThrottledError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import ANY

NOW = 1_000_000_000.0
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"  # NOW
LATER = "Sun, 09 Sep 2001 01:47:00 GMT"  # 20 s later

MEANINGS = {
    400: PermanentError,
    401: AuthenticationError,
    402: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    406: PermanentError,
    407: AuthenticationError,
    408: UnavailableError,
    409: UnavailableError,
    410: NotFoundError,
    411: PermanentError,
    414: PermanentError,
    418: PermanentError,
    421: UnavailableError,
    425: UnavailableError,
    429: ThrottledError,
    451: PermissionDeniedError,
    499: PermanentError,
    500: UnavailableError,
    501: UnsupportedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
    505: UnsupportedError,
    507: UnavailableError,
    509: ThrottledError,
    529: UnavailableError,
    999: UnavailableError,
}


def head(status, *fields):
    return Reply(1, status, fields)


def test_the_table_is_told_apart_here():
    assert set(REFUSALS) <= set(MEANINGS)


@pytest.mark.parametrize("status,kind", MEANINGS.items())
def test_each_status_has_its_error(status, kind):
    error = refusal(head(status, ("x-request-id", "r1")), None, now=NOW)
    assert type(error) is kind
    assert f"(status {status})" in str(error)
    assert error.request_id == "r1"


@pytest.mark.parametrize("status", [100, 101, 201, 204, 205, 300, 304, 305, 399, 412])
def test_no_answer_to_what_was_asked(status):
    error = refusal(head(status), None, now=NOW)
    assert type(error) is BadReplyError
    assert f"status {status}" in str(error)


def test_a_failed_precondition_is_a_change():
    assert type(refusal(head(412), '"v1"', now=NOW)) is VersionChangedError
    # Nothing was demanded, so nothing can have failed.
    assert type(refusal(head(412), ANY, now=NOW)) is BadReplyError


@pytest.mark.parametrize("status", [429, 503, 500, 408])
def test_when_to_come_back(status):
    error = refusal(head(status, ("Retry-After", "7")), None, now=NOW)
    assert error.retry_after == 7.0
    assert refusal(head(status), None, now=NOW).retry_after is None


@pytest.mark.parametrize(
    "values,seconds",
    [
        ([], None),
        (["0"], 0.0),
        (["7"], 7.0),
        (["86399"], 86399.0),
        (["86401"], 86400.0),
        (["999999999"], 86400.0),
        (["1000000000"], 86400.0),
        (["9" * 5000], 86400.0),
        (["-5"], None),
        (["+5"], None),
        (["5.5"], None),
        (["\u0665"], None),
        (["\xb2"], None),
        ([""], None),
        (["soon"], None),
        (["1", "1"], None),
        ([LATER], 20.0),
        ([DATE], 0.0),
        (["Sun, 06 Nov 1994 08:49:37 GMT"], 0.0),
        (["Fri, 31 Dec 9999 23:59:59 GMT"], 86400.0),
    ],
)
def test_retry_after(values, seconds):
    assert retry_after(head(503, *(("retry-after", value) for value in values)), now=NOW) == seconds


def test_a_date_counts_by_the_servers_own_clock():
    told = head(503, ("retry-after", LATER), ("date", DATE))
    assert retry_after(told, now=0.0) == 20.0
    for date in ("nonsense", LATER):
        wrong = head(503, ("retry-after", LATER), ("date", date))
        assert retry_after(wrong, now=NOW) == (20.0 if date == "nonsense" else 0.0)
    two = head(503, ("retry-after", LATER), ("date", LATER), ("date", LATER))
    assert retry_after(two, now=NOW) == 20.0
