"""Row A31: who the peer is, and what may end a TLS connection."""

from __future__ import annotations

import ssl
from contextlib import closing

import pytest

from imgstore.errors import (
    ConnectionLostError,
    ProtocolViolationError,
    RetriesExhaustedError,
    TlsError,
    TruncatedError,
)
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import IMAGE, PATH, TRIES, K, N

rig = rows.rig
secure = rows.secure
authority = rows.authority


def serving(authority, certificate):
    """A TLS server that shows `certificate`, with the image."""
    made = rows.Rig(tls=authority.context(getattr(authority, certificate)))
    return closing(made)


def test_a31_a_server_that_proves_itself_is_read(secure, authority):
    assert secure.read(ca_file=str(authority.ca)) == IMAGE
    assert secure.sent == N


@pytest.mark.parametrize("certificate", ["expired", "wrong_host", "self_signed"])
def test_a31_one_that_does_not_is_not_asked(authority, certificate):
    with serving(authority, certificate) as secure:
        assert secure.fails(TlsError, ca_file=str(authority.ca)).data == b""
        assert (secure.log.connections, secure.requests) == (1, 0)


def test_a31_an_authority_that_is_not_ours_vouches_for_nobody(secure):
    secure.fails(TlsError)
    assert (secure.log.connections, secure.requests) == (1, 0)


def test_a31_a_server_that_wants_our_certificate_is_not_asked_again(authority):
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca)
    with closing(rows.Rig(tls=context)) as secure:
        secure.fails(TlsError, ca_file=str(authority.ca))
        assert (secure.log.connections, secure.requests) == (1, 0)
        assert secure.read(ca_file=str(authority.ca), client_cert=str(authority.good)) == IMAGE


@pytest.mark.parametrize(
    "fault", [wire.Cut, wire.TlsTruncate, wire.Reset, wire.TlsAlert, wire.PlaintextOnTls]
)
@pytest.mark.parametrize("at", [0, K, N - 1])
def test_a31_an_end_in_mid_read_is_resumed_at_its_byte(secure, authority, fault, at):
    secure.script(fault(at=at))
    assert secure.read(ca_file=str(authority.ca)) == IMAGE
    assert secure.spans == [span for span in [(0, at), (at, N)] if span[0] < span[1]]


@pytest.mark.parametrize("fault", [wire.Cut, wire.TlsTruncate])
def test_a31_no_end_of_the_connection_proves_that_of_a_body(secure, authority, fault):
    secure.script(then=(wire.NoRanges(), wire.CloseDelimited(), fault(at=K)))
    broken = secure.fails(TruncatedError, ca_file=str(authority.ca))
    assert len(broken.data) == K
    assert secure.requests == 1


@pytest.mark.parametrize("fault", [wire.PlaintextOnTls(), wire.TlsAlert()], ids=["plaintext", "alert"])
def test_a31_no_handshake_is_no_weather(secure, authority, fault):
    secure.server.greet([fault])
    secure.fails(TlsError, ca_file=str(authority.ca))
    assert (secure.log.connections, secure.requests) == (1, 0)


@pytest.mark.parametrize("fault", [wire.Cut(), wire.Reset()], ids=["cut", "reset"])
def test_a31_a_handshake_that_breaks_is_tried_again(secure, authority, fault):
    secure.server.greet([fault])
    assert secure.read(ca_file=str(authority.ca)) == IMAGE
    assert secure.log.connections == 2


def test_a31_https_to_a_plain_server_sends_it_nothing(rig):
    rig.fails(TlsError, url=rig.server.url(PATH).replace("http:", "https:"))
    assert (rig.log.connections, rig.requests) == (1, 0)


def test_a31_http_to_a_tls_server_is_refused(secure):
    error = secure.fails(RetriesExhaustedError, url=secure.server.url(PATH).replace("https:", "http:")).error
    assert type(error.__cause__) is ConnectionLostError
    assert (secure.log.connections, secure.requests) == (TRIES, 0)


def test_a31_a_switch_to_plain_http_is_refused(secure, authority):
    secure.script(then=wire.Status(101, {"Upgrade": "h2c", "Connection": "Upgrade"}))
    secure.fails(ProtocolViolationError, ca_file=str(authority.ca))
