"""What the Swift driver takes and refuses before it does anything, and what leads to it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest

from imgstore.backends import swift
from imgstore.backends.swift import SwiftStore, line
from imgstore.backends.swift.layout import Layout, segments_of
from imgstore.backends.swift.location import options_at
from imgstore.errors import ConfigError
from imgstore.model import NO_CALL
from tests import canary

V1 = {"auth_url": "http://host/auth/v1.0", "auth_version": "1", "user": "a:b", "password": canary.PASSWORD}
V3 = {"auth_url": "https://host:5000/v3", "user": "u", "password": canary.PASSWORD, "project_name": "p"}
CREDENTIAL = {
    "auth_url": "https://host:5000/v3",
    "application_credential_id": "i",
    "application_credential_secret": canary.TOKEN,
}


@pytest.mark.parametrize("options", [V1, V3, CREDENTIAL], ids=["v1", "v3", "credential"])
def test_what_is_enough(options):
    store = SwiftStore(**options)
    assert store.endpoint.endswith("host") or store.endpoint.endswith("host:5000")
    assert store.location == f"swift://images by {options['auth_url']}"
    for each in (store, store._identity):
        assert not canary.found(repr(each))


@pytest.mark.parametrize(
    "options,told",
    [
        ({**V1, "auth_url": "ftp://host"}, "'auth_url' is no http or https URL"),
        ({**V1, "endpoint": "host"}, "'endpoint' is no http or https URL"),
        ({**V1, "auth_version": "2.0"}, "'auth_version' is '2.0'; it is 3, or 1"),
        ({**V1, "user": None}, "'user' and 'password' are needed"),
        ({**V3, "password": None}, "'user' and 'password' are needed, or an application credential"),
        ({**V3, "project_name": None}, "'project_name' or 'project_id' is needed"),
        ({**V3, "project_id": "x"}, "'project_name' and 'project_id' exclude each other"),
        ({**V3, "user_domain_name": "x", "user_domain_id": "y"}, "'user_domain_name' and 'user_domain_id'"),
        ({**V3, "interface": "outer"}, "'interface' is 'outer'"),
        ({**CREDENTIAL, "auth_version": "1"}, "they need auth_version 3"),
        ({**CREDENTIAL, "application_credential_id": None}, "need each other"),
        ({**CREDENTIAL, "user": "u"}, "in place of 'user' and 'password'"),
        ({**V1, "container": "a/b"}, "has no slash"),
        ({**V1, "container": ""}, "'container' is ''"),
        ({**V1, "container": "x" * 230}, "longer than 216 bytes"),
        ({**V1, "multiple_containers_seed": 9}, "it takes 0 to 8"),
        ({**V1, "multiple_containers_seed": 1, "multi_tenant": True}, "exclude each other"),
        ({**V1, "segment_size": 0}, "'segment_size' is 0; it is 1 or more"),
        ({**V1, "max_concurrency": 0}, "'max_concurrency' is 0"),
        ({**V1, "open_timeout": 0}, "'open_timeout' is 0; it takes seconds above 0"),
        ({**V1, "work_timeout": -1}, "'work_timeout' is -1"),
        ({**V1, "client_key": "k"}, "'client_key' needs 'client_cert'"),
    ],
)
def test_what_makes_no_sense_names_its_option(options, told):
    with pytest.raises(ConfigError, match=told) as caught:
        SwiftStore(**options)
    assert not canary.found(f"{caught.value!r}{pickle.dumps(caught.value)}")


def test_the_options_of_the_plug_in_are_read_at_each_login():
    secrets = ["one"]
    store = SwiftStore(**{**V3, "password": lambda: secrets[0]}, project_domain_id="d")
    told = store._identity._plugin()
    assert told["password"] == "one"
    assert (told["user_domain_name"], told["user_domain_id"]) == ("Default", None)
    assert (told["project_domain_name"], told["project_domain_id"]) == (None, "d")
    secrets[0] = "two"
    assert store._identity._plugin()["password"] == "two"
    assert set(SwiftStore(**CREDENTIAL)._identity._plugin()) == set(CREDENTIAL)


def test_a_missing_library_is_told_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "swiftclient.client", None)
    line.functions.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'python-swiftclient>=4\.0'$"):
        line.functions()
    monkeypatch.setitem(sys.modules, "imgstore.backends.swift.keystone", None)
    monkeypatch.delattr(swift, "keystone", raising=False)  # where another test has imported it
    with pytest.raises(ConfigError, match=r"pip install 'keystoneauth1>=5\.0' requests$"):
        SwiftStore(**V3)._identity._login(None, NO_CALL)


def test_the_libraries_are_imported_at_first_use():
    told = "import sys, imgstore.backends.swift as b; b.SwiftStore(auth_url='http://h', auth_version='1', "
    told += "user='u', password='p'); print([m for m in sys.modules if m.split('.')[0] in "
    told += "{'swiftclient', 'keystoneauth1', 'requests', 'oslo_config', 'yaml'}])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_facets_follow_the_options():
    assert SwiftStore(**V1).acls is None
    assert SwiftStore(**V1, multi_tenant=True).acls is not None


def test_tenants_become_acls():
    acls = SwiftStore(**V1, multi_tenant=True, admin_tenants=["root", "a:b"]).acls
    assert acls.fields(["x", "y:z", "*"], ["w"]) == {
        "X-Container-Read": "x:*,y:z,.r:*,root:*,a:b",
        "X-Container-Write": "w:*,root:*,a:b",
    }
    for bad in ("", "a,b", ".r:*", "a b", "a\r\nb"):
        with pytest.raises(ValueError, match="names no project"):
            acls.fields([bad], [])


OS = {
    "OS_AUTH_URL": "http://k/v3",
    "OS_USERNAME": "u",
    "OS_PASSWORD": canary.PASSWORD,
    "OS_TENANT_NAME": "old",
    "OS_PROJECT_NAME": "p",
    "OS_ENDPOINT_TYPE": "internalURL",
    "OS_REGION_NAME": "r",
}
ST = {"ST_AUTH": "http://s/auth/v1.0", "ST_USER": "a:b", "ST_KEY": canary.PASSWORD}


def test_the_environment_of_openstack():
    found, key = options_at("swift://c%20d/a%2Fb%3F/c", OS)
    assert key == "a/b?/c"
    assert found == {
        "auth_version": "3",
        "container": "c d",
        "auth_url": "http://k/v3",
        "user": "u",
        "password": canary.PASSWORD,
        "project_name": "p",
        "interface": "internal",
        "region": "r",
    }
    SwiftStore(**found)


def test_the_environment_of_swift_goes_first():
    found, _ = options_at("swift://c/o", {**OS, **ST})
    assert found["auth_url"] == "http://s/auth/v1.0"
    assert found["auth_version"] == "1"
    SwiftStore(**found)


def test_a_credential_needs_no_project():
    added = {"OS_APPLICATION_CREDENTIAL_ID": "i", "OS_APPLICATION_CREDENTIAL_SECRET": canary.TOKEN}
    SwiftStore(**options_at("swift://c/o", {**OS, **added})[0])


@pytest.mark.parametrize(
    "url,environment,told",
    [
        ("swift:///o", OS, "not of the form"),
        ("swift://user@c/o", OS, "not of the form"),
        ("swift://c/o?x=1", OS, "not of the form"),
        ("swift://c/o#x", OS, "not of the form"),
        ("swift://c/o", {}, "the environment names no account"),
        ("swift://c/o", {"ST_AUTH": "http://s"}, "has ST_AUTH, but not ST_KEY"),
        ("swift://c/o", {"OS_CLOUD": "nowhere", "OS_CLIENT_CONFIG_FILE": "/nonexistent"}, "no clouds.yaml"),
    ],
)
def test_a_location_that_leads_nowhere(url, environment, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=told):
        options_at(url, environment)


def test_a_cloud_of_clouds_yaml(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clouds.yaml").write_text(
        "clouds:\n  mine:\n    region_name: r\n    cacert: /ca\n    verify: false\n"
        "    auth: {auth_url: 'http://k/v3', username: u, project_id: p, project_name: n}\n"
    )
    (tmp_path / "secure.yaml").write_text(f"clouds: {{mine: {{auth: {{password: '{canary.PASSWORD}'}}}}}}\n")
    found, _ = options_at("swift://c/o", {"OS_CLOUD": "mine", **ST})
    assert found == {
        "container": "c",
        "auth_version": "3",
        "auth_url": "http://k/v3",
        "user": "u",
        "password": canary.PASSWORD,
        "project_id": "p",
        "region": "r",
        "ca_file": "/ca",
        "verify_tls": False,
    }
    SwiftStore(**found)
    (tmp_path / "clouds.yaml").write_text("clouds: {mine: [\n")
    with pytest.raises(ConfigError, match="is no YAML"):
        options_at("swift://c/o", {"OS_CLOUD": "mine"})


def test_keys_and_their_containers():
    assert Layout("c").place("a/b") == "c"
    spread = Layout("c", digits=2)
    assert spread.place("a") == "c_ca"  # sha256 of "a" begins ca978112
    own = Layout("c", per_image=True)
    for key in ("a/b", "a b", "ä", "a%2Fb", "a_segments"):
        assert own.key_of(own.place(key)) == key
    assert len({own.place(key) for key in ("a/b", "a%2Fb", "a b", "a+b")}) == 4


def test_containers_of_images_and_of_segments_are_never_the_same():
    """Access to one image would be access to another."""
    layout = Layout("tenants", per_image=True)
    keys = ["a", "a_segments", "a%5Fsegments", "_segments", "a_segments_segments", "a/b"]
    places = [layout.place(key) for key in keys]
    assert len({*places, *map(segments_of, places)}) == 2 * len(keys)
    assert [layout.key_of(place) for place in places] == keys
    listed = SimpleNamespace(containers=lambda **_: sorted([*places, *map(segments_of, places)]))
    assert sorted(layout.containers(listed, NO_CALL)) == sorted(places)
    assert sorted(layout.segment_containers(listed, NO_CALL)) == sorted(map(segments_of, places))
