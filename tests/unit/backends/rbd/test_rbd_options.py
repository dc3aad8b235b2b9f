"""The options of the RBD driver, its URLs, and what it says where Ceph's modules are missing."""

import importlib.util
import inspect
import subprocess
import sys

import pytest

from imgstore.backends.rbd import RbdStore, bindings
from imgstore.backends.rbd.options import OPTIONS
from imgstore.errors import ConfigError
from imgstore.layers.metrics import MetricsLayer
from imgstore.stack import LayerSettings, Patient, build

PARAMETERS = {
    name: each
    for name, each in inspect.signature(RbdStore.__init__).parameters.items()
    if each.kind is each.KEYWORD_ONLY
}


@pytest.fixture
def modules(monkeypatch):
    """Has the modules be there; nothing here connects."""
    monkeypatch.setattr(bindings, "check", lambda: None)


def test_options_are_the_arguments_with_the_same_defaults():
    assert [option.dest for option in OPTIONS] == list(PARAMETERS)
    assert {option.dest: option.default for option in OPTIONS} == {
        name: each.default for name, each in PARAMETERS.items()
    }
    assert all(option.help and len(option.help) > 40 for option in OPTIONS)
    assert not any(option.secret for option in OPTIONS)  # the key stays in its keyring


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    "options, said",
    [
        ({"pool": ""}, "'pool' is empty"),
        ({"snapshot": ""}, "'snapshot' is empty"),
        ({"user": "client.images"}, "without 'client.'"),
        ({"object_size": 3 << 20}, "'object_size' is 3145728; it is a power of two"),
        ({"object_size": 2048}, "'object_size' is 2048"),
        ({"object_size": 64 << 20}, "from 4096 to 33554432"),
        ({"stripe_unit": 65536}, "'stripe_unit' and 'stripe_count' go together"),
        ({"stripe_count": 4}, "go together"),
        ({"stripe_unit": 3000, "stripe_count": 4}, "'stripe_unit' is 3000; it divides"),
        ({"stripe_unit": 65536, "stripe_count": 0}, "'stripe_count' is 0"),
        ({"features": ["layering"]}, "'features' lacks exclusive-lock"),
        ({"features": []}, "lacks layering and exclusive-lock"),
        ({"connect_timeout": 0}, "'connect_timeout' is 0"),
        ({"op_timeout": -1.0}, "'op_timeout' is -1"),
        ({"receive_timeout": 0}, "'receive_timeout' is 0"),
        ({"io_size": 0}, "'io_size' is 0"),
        ({"in_flight": 0}, "'in_flight' is 0"),
    ],
)
def test_what_makes_no_sense_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        RbdStore(**options)


@pytest.mark.usefixtures("modules")
def test_a_store_says_where_it_is():
    assert RbdStore().location == RbdStore().endpoint == "rbd://images"
    assert RbdStore(pool="p", namespace="n").location == "rbd://p/n"


@pytest.mark.usefixtures("modules")
def test_a_reader_waits_no_longer_than_the_stall_window():
    store = RbdStore()
    assert isinstance(store, Patient)
    build(store, LayerSettings(stall_timeout=3.0))
    assert store.receive_timeout == 3.0
    assert MetricsLayer(store).OPTIONS is RbdStore.OPTIONS


def test_missing_modules_say_how_to_get_them(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "rbd" else found(name) or name
    )
    with pytest.raises(
        ConfigError, match=r"no module 'rbd'.*python3-rados and python3-rbd.*--system-site-packages"
    ):
        RbdStore()


def test_importing_the_driver_imports_neither_module_nor_oslo_config():
    program = (
        "import sys, imgstore.backends.rbd as rbd; from imgstore.stack import build; "
        "rbd.bindings.check = lambda: None; build(rbd.RbdStore()); "
        "print([each for each in ('rados', 'rbd', 'oslo_config') if each in sys.modules])"
    )
    program = program.replace("rbd.bindings", "rbd.driver.bindings")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    "url, key, options",
    [
        ("rbd://images/disk", "disk", {"pool": "images", "snapshot": "snap", "require_protected": True}),
        ("RBD://p/disk@daily", "disk", {"pool": "p", "snapshot": "daily", "require_protected": False}),
        ("rbd://p/tenant/disk", "disk", {"pool": "p", "namespace": "tenant"}),
        ("rbd://p/debian%2012", "debian 12", {"pool": "p"}),
        # the name of an image, and so the key that it encodes
        ("rbd://p/a%252Fb", "a/b", {"pool": "p"}),
    ],
)
def test_urls(url, key, options, monkeypatch):
    monkeypatch.delenv("CEPH_ARGS", raising=False)
    store, found = RbdStore.at(url)
    assert found == key
    assert {name: getattr(store._settings, name) for name in options} == options


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    "url",
    [
        "rbd://", "rbd:///disk", "rbd://p", "rbd://p/", "rbd://p/a/b/c", "rbd://p/a@", "rbd://u@p/a",
        "rbd://p/a?x=1", "rbd://p/a#x", "rbd://p//a", "s3://p/a", "rbd://[p/a",
    ],
)  # fmt: skip
def test_what_is_no_such_url_says_the_form(url):
    with pytest.raises(ConfigError, match=r"rbd://POOL\[/NAMESPACE\]/IMAGE\[@SNAPSHOT\]"):
        RbdStore.at(url)


@pytest.mark.usefixtures("modules")
def test_a_url_of_the_drivers_own_image_is_refused():
    with pytest.raises(ConfigError, match="the driver's own"):
        RbdStore.at("rbd://p/.imgstore-new-0")


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    "arguments, user, conf, keyring",
    [
        ("--id glance", "glance", None, None),
        ("--user=glance -c /c -k /k", "glance", "/c", "/k"),
        ("-n client.glance --conf=/c --keyring '/a b'", "glance", "/c", "/a b"),
        ("", None, None, None),
    ],
)
def test_the_environment_is_that_of_cephs_tools(arguments, user, conf, keyring, monkeypatch):
    monkeypatch.setenv("CEPH_ARGS", arguments)
    settings = RbdStore.at("rbd://p/a")[0]._settings
    assert (settings.user, settings.ceph_conf, settings.keyring) == (user, conf, keyring)
    assert RbdStore.at("rbd://p/a", user="me")[0]._settings.user == "me"
