"""What must not be shown of a secret option's value."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from imgstore.secret import secret_texts
from tests import canary


@pytest.mark.parametrize(
    "value, texts",
    [
        ("swordfish", {"swordfish"}),
        (" sword\r\nfish\n", {"sword", "fish"}),
        (["X-Key: swordfish", "X: y"], {"X-Key: swordfish", "swordfish", "X: y"}),
        ({"X-Key": "swordfish"}, {"swordfish"}),
        (12345, {"12345"}),
        ("abc", set()),
        ("http://host/images/", set()),
        ("HTTPS://host:8443/images/", set()),
        ("http://host", set()),
        ("https://host/x?sig=swordfish&v=1", {"sig=swordfish&v=1", "swordfish"}),
        ("https://host?sig=swordfish#part", {"sig=swordfish#part", "swordfish"}),
        ("http://user:swordfish@host/", {"user:swordfish", "user", "swordfish"}),
        ("http://swordfish@host", {"swordfish"}),
        # a password with a slash of its own, and what is no URL
        ("http://u:sw/ord@host/", {"http://u:sw/ord@host/", "//u:sw/ord@host/", "u:sw/ord@host/"}),
        ("ftp://u:p@host", {"ftp://u:p@host", "//u:p@host", "u:p@host"}),
    ],
)
def test_what_is_hidden(value, texts):
    assert secret_texts(value) == texts


def test_a_password_in_a_url_as_it_stands_there_and_as_it_is_sent():
    quoted = quote(canary.PASSWORD, safe="")
    assert {quoted, canary.PASSWORD} <= secret_texts(f"http://me:{quoted}@host/")
