"""Keys and the names of RBD images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.rbd import names
from imgstore.errors import UnsafeLocationError
from imgstore.model import check_key


def is_key(text):
    try:
        return bool(check_key(text)) and not text.startswith(names.OWN) and names.subject(text) is None
    except UnsafeLocationError:
        return False


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.text(
    "a/%@.2F\n\x7fé", min_size=1, max_size=20
)


@given(KEYS.filter(is_key))
def test_every_key_has_a_name_that_leads_back(key):
    name = names.name_of(key)
    assert names.key_of(name) == key
    assert not set(name) & {"/", "@", "\n", "\x7f"}


@given(st.text("a/%@.2Ff4\n", min_size=1, max_size=20))
def test_a_name_is_of_one_key_or_of_none(name):
    key = names.key_of(name)
    assert key is None or names.name_of(key) == name


@pytest.mark.parametrize(
    "key, name",
    [
        ("6f2c8f0e-3f6e-4d1b", "6f2c8f0e-3f6e-4d1b"),
        ("debian 12.raw", "debian 12.raw"),
        ("a/b@c%", "a%2Fb%40c%25"),
        ("a\nb", "a%0Ab"),
        ("\u00e4", "\u00e4"),
        (".imgstore", ".imgstore"),
    ],
)
def test_names_are_the_keys_where_they_can_be(key, name):
    assert names.name_of(key) == name
    assert names.key_of(name) == key


@pytest.mark.parametrize("name", ["a%zz", "a%2fb", "%61", "a/b", "a%2F%2Fb", "%2F", "..", "%FF", "a%"])
def test_what_leads_to_no_key(name):
    assert names.key_of(name) is None


def test_the_drivers_own_names_are_no_keys():
    for name in (names.draft(), names.gone(), names.replaced("key")):
        assert names.key_of(name) is None
        with pytest.raises(UnsafeLocationError, match="the driver's own"):
            names.name_of(name)
    kinds = [names.is_draft, names.is_gone, names.is_replaced]
    for name, kind in zip((names.draft(), names.gone(), names.replaced("key")), kinds, strict=True):
        assert [each(name) for each in kinds] == [each is kind for each in kinds]


def test_drafts_never_meet_and_the_replaced_of_a_key_always_do():
    assert names.draft() != names.draft()
    assert names.gone() != names.gone()
    assert names.replaced("a") == names.replaced("a") != names.replaced("b")


def test_a_name_has_the_bytes_that_ceph_takes():
    assert len(names.name_of("/".join(["a" * 255] * 4))) == 4 * 255 + 3 * 3
    assert names.name_of("@" * 680) == "%40" * 680
    with pytest.raises(UnsafeLocationError, match="2043 bytes as the name of an RBD image; Ceph takes 2040"):
        names.name_of("@" * 681)


@pytest.mark.parametrize(
    "key, subject",
    [
        ("a.meta4", "a"),
        ("a/b.meta4", "a/b"),
        ("a.meta4.meta4", "a.meta4"),
        (".meta4", None),
        ("a/.meta4", None),
        ("a.meta4x", None),
        ("a", None),
    ],
)
def test_a_key_that_ends_like_a_manifest_names_the_image_before(key, subject):
    assert names.subject(key) == subject
    if subject is None:
        assert names.name_of(key)
        assert not names.is_manifest(key)
    else:
        assert names.key_of(key) is None
        with pytest.raises(UnsafeLocationError, match="manifest"):
            names.name_of(key)


@pytest.mark.parametrize("key", ["a.meta4.meta4", f"{names.OWN}x.meta4"])
def test_what_is_no_image_has_no_manifest(key):
    with pytest.raises(UnsafeLocationError):
        names.is_manifest(key)
    assert names.is_manifest("a.meta4")
