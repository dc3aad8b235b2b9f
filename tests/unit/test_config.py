"""From a configuration to open stores: what it enables, where values come from, and what stops the start."""

from __future__ import annotations

import io
import sys
import traceback

import pytest
import stevedore._cache
from oslo_config import cfg
from stevedore.extension import ExtensionManager

from imgstore import Call
from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.http import HttpStore
from imgstore.backends.memory import MemoryStore
from imgstore.config import Stores, load, open_stores, register_opts
from imgstore.errors import ConfigError, ManifestError, TransientError
from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.parallel import ParallelLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.manifest.metalink import write_metalink
from imgstore.secret import reveal
from imgstore.testing.faults import SimClock
from tests import canary
from tests.manifests import manifest_of


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """Keeps what this machine has out: its home, its variables, its cache of entry points."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_DATA_HOME", "IMGSTORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(stevedore._cache._c, "_disable_caching", True)


@pytest.fixture
def write(tmp_path):
    """Gives what makes a configuration of the text of a file."""

    def made(text, name="imgstore.conf"):
        path = tmp_path / name
        path.write_text(text)
        return load(str(path))

    return made


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Gives what installs a package with one driver, as pip would leave it."""

    def brought(name, source, *, extras=()):
        folder = tmp_path / f"site-{name}"
        info = folder / f"brought_{name}-1.dist-info"
        info.mkdir(parents=True)
        told = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: brought-{name}\nVersion: 1\n{told}")
        (info / "entry_points.txt").write_text(f"[imgstore.drivers]\n{name} = brought_{name}:Driver\n")
        (folder / f"brought_{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(ExtensionManager, "ENTRY_POINT_CACHE", {})
        sys.modules.pop(f"brought_{name}", None)  # that of another test

    return brought


DRIVER = """
from oslo_config import cfg
from imgstore.errors import ConfigError
from imgstore.store import Store

class Driver(Store):
    OPTIONS = [{options}]

    def __init__(self, **options):
        self.options = options
        {body}

    def _open(self, key, start, stop, version, call):
        raise NotImplementedError

    def translate(self, exc):
        raise exc
"""


def driver(options="", body="pass"):
    return DRIVER.format(options=options, body=body)


def innermost(store):
    while isinstance(store, Layer):
        store = store.inner
    return store


def layers(store):
    found = []
    while isinstance(store, Layer):
        found.append(type(store).__name__)
        store = store.inner
    return found


def refused(conf):
    with pytest.raises(ConfigError) as caught:
        open_stores(conf)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is enabled


def test_the_stores_that_are_named(write, tmp_path):
    conf = write(
        f"""
        [imgstore]
        enabled_stores = disks:filesystem, web:http, web-2:http,scratch : memory
        default_store = web
        [store_disks]
        data_dir = {tmp_path}
        [store_web]
        url = http://h/a
        [store_web-2]
        url = http://h/b
        """.replace("        ", "")
    )
    with open_stores(conf, clock=SimClock()) as stores:  # a file that is so young may have a write to come
        assert isinstance(stores, Stores)
        assert list(stores) == ["disks", "web", "web-2", "scratch"]
        assert dict(stores.drivers) == {
            "disks": "filesystem",
            "web": "http",
            "web-2": "http",
            "scratch": "memory",
        }
        kinds = {FilesystemStore, HttpStore, MemoryStore}
        assert {type(innermost(each)) for each in stores.values()} == kinds
        assert [each.store_id for each in stores.values()] == list(stores)
        assert [innermost(each).store_id for each in stores.values()] == list(stores)
        assert stores.default is stores["web"]
        assert stores.default_id == "web"
        (tmp_path / "image").write_bytes(b"disk")
        assert stores["disks"].get("image").read() == b"disk"
        stores["scratch"].writer.put("k", io.BytesIO(b"x"))
        assert stores["scratch"].get("k").read() == b"x"


def test_the_only_store_is_the_default(write):
    with open_stores(write("[imgstore]\nenabled_stores = m:memory")) as stores:
        assert stores.default is stores["m"]


def test_several_stores_and_no_default(write):
    with open_stores(write("[imgstore]\nenabled_stores = a:memory, b:memory")) as stores:
        for ask in (lambda: stores.default, lambda: stores.default_id):
            with pytest.raises(ConfigError, match=r"set default_store in \[imgstore\] to one of a, b$"):
                ask()


def test_nothing_configured_gives_one_store_of_files(write, tmp_path, monkeypatch):
    data = tmp_path / "home/.local/share/imgstore/images"
    for conf in (write(""), write("[DEFAULT]\nx = 1\n[keystone]\nenabled_stores = y")):
        with open_stores(conf) as stores:
            assert dict(stores.drivers) == {"local": "filesystem"}
            assert stores.default_id == "local"
            assert not (tmp_path / "home").exists()
    with open_stores(write(""), clock=SimClock()) as stores:
        stores.default.writer.put("image", io.BytesIO(b"disk"))
        assert (data / "image").read_bytes() == b"disk"
    with open_stores(write(""), clock=SimClock()) as stores:
        assert stores.default.get("image").read() == b"disk"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    other = tmp_path / "elsewhere/imgstore/images"
    other.mkdir(parents=True)
    (other / "image").write_bytes(b"other")
    with open_stores(write("[store_defaults]\nresume_attempts = 0"), clock=SimClock()) as stores:
        assert stores.default.get("image").read() == b"other"
        assert layers(stores.default) == ["MetricsLayer"]
    # relative ones are to be ignored, says the specification
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    with open_stores(write(""), clock=SimClock()) as stores:
        assert stores.default.get("image").read() == b"disk"


def test_a_machine_without_a_home(write, monkeypatch):
    conf = write("")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert "set HOME or XDG_DATA_HOME" in refused(conf)


def test_sections_without_any_enabled_store(write):
    said = refused(write("[store_fast]\ndata_dir = /srv"))
    assert said == (
        "there is a section [store_fast], but enabled_stores in [imgstore] names no store; "
        "it takes fast:DRIVER"
    )


@pytest.mark.parametrize(
    "entry,said",
    [
        ("fast", "has 'fast'; NAME:DRIVER would do"),
        ("fast:", "has 'fast:'; NAME:DRIVER would do"),
        (":rbd", "'' is no name for a store"),
        ("Fast:memory", "'Fast' is no name for a store"),
        ("-f:memory", "does not begin with a hyphen"),
        ("a/b:memory", "'a/b' is no name"),
        ("a b:memory", "'a b' is no name"),
        (f"{'a' * 65}:memory", "1 to 64 characters"),
        ("defaults:memory", "no store can be named 'defaults'"),
        ("http:http", "no store can be named 'http', which means something else; http_store would do"),
        ("https:http", "no store can be named 'https'"),
        ("a:memory, b:memory, a:filesystem", "names 'a' twice"),
        (
            "a:memroy",
            "store 'a', driver 'memroy': no driver of that name is installed (did you mean 'memory'?)",
        ),
        ("a:ceph", "is installed; there are: filesystem, http, memory"),
        ("a:b:c", "driver 'b:c': no driver"),
    ],
)
def test_what_cannot_be_enabled(write, entry, said):
    assert said in refused(write(f"[imgstore]\nenabled_stores = {entry}"))


def test_names_of_one_letter_and_of_digits(write):
    names = ["c", "0", "_", "a-", "a" * 64]
    entries = ",".join(f"{name}:memory" for name in names)
    with open_stores(write(f"[imgstore]\nenabled_stores = {entries}")) as stores:
        assert list(stores) == names


def test_a_default_that_is_not_enabled(write):
    text = "[imgstore]\nenabled_stores = fast:memory, cold:memory\ndefault_store = fats"
    assert refused(write(text)) == (
        "default_store in [imgstore] is 'fats', which is not enabled (did you mean 'fast'?); "
        "there are: fast, cold"
    )


def test_a_conf_that_was_not_called():
    conf = cfg.ConfigOpts()
    register_opts(conf)
    assert "call it, conf(arguments)" in refused(conf)


# Where values come from


def test_the_nearest_section_decides(write):
    conf = write(
        "[imgstore]\nenabled_stores = near:http, far:http\n"
        "[store_defaults]\nopen_timeout = 3\nreceive_timeout = 1.5\nallow_private = yes\n"
        "resume_attempts = 2\nheaders = A: 1\nheaders = B: 2\nredirect_hosts = x, y\n"
        "[store_near]\nurl = http://near/\nopen_timeout = 7.5\nresume_attempts = 4\nheaders = C: 3\n"
        "[store_far]\nurl = http://far/"
    )
    with open_stores(conf) as stores:
        near, far = stores["near"], stores["far"]
        assert (near._attempts, far._attempts) == (4, 2)
        near, far = innermost(near), innermost(far)
        assert (near._open_timeout, far._open_timeout) == (7.5, 3.0)
        assert (near._connect_timeout, far._connect_timeout) == (5.0, 5.0)
        assert near.receive_timeout == far.receive_timeout == 1.5
        assert far._policy.private is near._policy.private is True
        assert far._credentials.headers == {"A": "1", "B": "2"}
        assert near._credentials.headers == {"C": "3"}
        assert len(far._policy.hosts) == 2


def test_drivers_that_differ_about_an_option_share_a_default(write, bring):
    options = 'cfg.IntOpt("open_timeout"), cfg.BoolOpt("ordered"), cfg.StrOpt("url")'
    bring("other", driver(options))
    conf = write(
        "[imgstore]\nenabled_stores = w:http, o:other, m:memory\n"
        "[store_defaults]\nopen_timeout = 3\nurl = http://h/\nordered = true"
    )
    with open_stores(conf) as stores:
        assert innermost(stores["w"])._open_timeout == 3.0
        assert innermost(stores["o"]).options == {"open_timeout": 3, "ordered": True, "url": "http://h/"}
        assert innermost(stores["m"]).uploader.limits.ordered is True


def test_values_of_the_program_and_of_the_environment(write, monkeypatch):
    conf = write("[imgstore]\nenabled_stores = m:memory\n[store_m]\ncapacity = 5")
    conf.set_override("resume_attempts", 3, "store_defaults")
    with open_stores(conf) as stores:
        assert stores["m"]._attempts == 3
    conf.set_override("capacity", 7, "store_m")
    monkeypatch.setenv("OS_STORE_M__RESUME_ATTEMPTS", "6")
    with open_stores(conf) as stores:
        assert innermost(stores["m"]).space.free() == 7
        assert stores["m"]._attempts == 6


def test_an_embedder_without_any_file():
    conf = cfg.ConfigOpts()
    conf([], project="imgstore-test", default_config_files=[], default_config_dirs=[])
    register_opts(conf)
    register_opts(conf)
    conf.set_override("enabled_stores", ["m:memory"], "imgstore")
    with open_stores(conf) as first, open_stores(conf) as second:
        assert list(first) == list(second) == ["m"]
        assert first["m"] is not second["m"]


def test_a_default_that_names_another_option(write, bring):
    bring(
        "refers",
        driver('cfg.StrOpt("place", default="$base/images"), cfg.StrOpt("base"), cfg.StrOpt("none")'),
    )
    conf = write("[imgstore]\nenabled_stores = r:refers\n[store_r]\nbase = /srv")
    with open_stores(conf) as stores:
        assert innermost(stores["r"]).options == {"place": "/srv/images", "base": "/srv"}


def test_an_option_that_was_renamed(write, bring):
    bring("renamed", driver('cfg.StrOpt("place", deprecated_name="folder")'))
    conf = write("[imgstore]\nenabled_stores = r:renamed\n[store_r]\nfolder = /srv")
    with open_stores(conf) as stores:
        assert innermost(stores["r"]).options == {"place": "/srv"}


def test_an_option_that_will_go_may_be_read_twice(write, bring):
    bring("aged", driver('cfg.StrOpt("place", deprecated_for_removal=True)'))
    conf = write("[imgstore]\nenabled_stores = r:aged\n[store_r]\nplace = /srv")
    for _ in range(2):
        with open_stores(conf) as stores:
            assert innermost(stores["r"]).options == {"place": "/srv"}


def test_an_option_that_is_needed(write):
    said = refused(write("[imgstore]\nenabled_stores = t:needs".replace("needs", "filesystem")))
    assert said.startswith("store 't', driver 'filesystem': ")
    assert "data_dir" in said


def test_a_needed_option_may_stand_in_the_defaults(write, bring):
    bring("needs", driver('cfg.StrOpt("path", required=True)'))
    conf = write("[imgstore]\nenabled_stores = n:needs\n[store_defaults]\npath = /a")
    with open_stores(conf) as stores:
        assert innermost(stores["n"]).options == {"path": "/a"}
    assert conf.reload_config_files()
    said = refused(write("[imgstore]\nenabled_stores = n:needs"))
    assert said == "store 'n', driver 'needs': the option 'path' is needed; set it in [store_n]"


@pytest.mark.parametrize(
    "section,line,said",
    [
        ("store_w", "open_timeout = soon", "the option 'open_timeout' in [store_w] of FILE is not valid: "),
        (
            "store_defaults",
            "open_timeout = 0.01",
            "'open_timeout' in [store_defaults] of FILE is not valid: Should be",
        ),
        ("store_w", "open_timeout = nan", "the option 'open_timeout' is nan"),
        ("store_w", "resume_attempts = -1", "'resume_attempts' in [store_w] of FILE is not valid: Should be"),
        (
            "store_defaults",
            "resume_attempts = x",
            "'resume_attempts' in [store_defaults] of FILE is not valid",
        ),
        ("store_w", "stall_timeout = 0", "stall_timeout is 0.0; it is above 0"),
        ("store_w", "stall_timeout = nan", "stall_timeout is nan"),
        ("store_w", "rate_limit = inf", "rate_limit is inf"),
        ("store_w", "url_command = x", "'url', 'url_file' and 'url_command' is needed, and no two"),
        ("store_w", "max_redirects = many", "'max_redirects' in [store_w] of FILE is not valid"),
    ],
)
def test_values_that_make_no_sense(write, tmp_path, section, line, said):
    text = f"[imgstore]\nenabled_stores = w:http\n[store_w]\nurl = http://h/\n[{section}]\n{line}"
    told = refused(write(text))
    assert told.startswith("store 'w', driver 'http': ")
    assert said.replace("FILE", str(tmp_path / "imgstore.conf")) in told


# Layers


def test_settings_choose_the_layers(write):
    conf = write(
        "[imgstore]\nenabled_stores = all:memory, bare:memory, lifted:memory\n"
        "[store_defaults]\nmax_streams = 4\ndeadline = 60\nrate_limit = 1e6\n"
        "[store_bare]\nresume_attempts = 0\nmax_streams = 0\nrate_limit = 0\n"
        "[store_lifted]\ndeadline = 0\nmax_streams = 0"
    )
    with open_stores(conf) as stores:
        assert layers(stores["all"]) == ["ResumeLayer", "LimitLayer", "MetricsLayer"]
        assert layers(stores["bare"]) == ["MetricsLayer"]
        assert layers(stores["lifted"]) == ["ResumeLayer", "LimitLayer", "MetricsLayer"]
        assert (stores["all"]._deadline, stores["lifted"]._deadline) == (60.0, None)
        assert isinstance(stores["all"], ResumeLayer)
        limit = stores["lifted"].inner
        assert isinstance(limit, LimitLayer)
        assert limit._max_streams is None


def test_a_store_is_read_over_several_connections(write):
    conf = write(
        "[imgstore]\nenabled_stores = one:memory, four:memory, kept:memory\n[store_defaults]\nparallel = 4\n"
        "[store_one]\nparallel = 1\n[store_four]\npart_size = 65536\ndeadline = 9\n"
        "[store_kept]\nverify = required\nmanifest_store = four\n"
    )
    with open_stores(conf) as stores:
        assert layers(stores["one"]) == ["ResumeLayer", "MetricsLayer"]
        assert layers(stores["four"]) == ["ParallelLayer", "ResumeLayer", "MetricsLayer"]
        assert layers(stores["kept"]) == ["ParallelLayer", "VerifyLayer", "ResumeLayer", "MetricsLayer"]
        four = stores["four"]
        assert isinstance(four, ParallelLayer)
        assert (four.streams, four.part_size, four._deadline) == (4, 65536, 9.0)


@pytest.mark.parametrize("line", ["parallel = 0", "part_size = 65535"])
def test_no_connection_and_parts_too_small_for_a_request_are_refused(write, line):
    said = refused(write(f"[imgstore]\nenabled_stores = m:memory\n[store_defaults]\n{line}"))
    assert f"the option '{line.split()[0]}' in [store_defaults] of " in said
    assert "is not valid: Should be greater" in said


IMAGE = bytes(range(256)) * 16


def seed(store, key, data, *, manifests=None):
    store.writer.put(key, io.BytesIO(data))
    if manifests is not None:
        file = io.BytesIO()
        write_metalink(manifest_of(data, 1000, key=key), file)
        manifests.writer.put(f"{key}.meta4", io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("place", ["", "manifest_store = m", "manifest_store = other"])
def test_images_are_verified_by_manifests_in_their_store_or_another(write, place):
    conf = write(
        f"[imgstore]\nenabled_stores = m:memory, other:memory\n[store_m]\nverify = required\n{place}\n"
    )
    with open_stores(conf) as stores:
        store = stores["m"]
        inside = innermost(stores["other" if "other" in place else "m"])
        seed(innermost(store), "disk", IMAGE, manifests=inside)
        seed(innermost(store), "bare", IMAGE)
        assert store.get("disk").read() == IMAGE
        with pytest.raises(ManifestError, match="no manifest of 'bare'"):
            store.get("bare")
        assert [info.key for info in store.lister.list()] == ["bare", "disk"]
        store.writer.delete("disk")
        assert "disk.meta4" not in [info.key for info in inside.lister.list()]


@pytest.mark.parametrize(
    "settings, made",
    [
        ("verify = required", "m"),
        ("verify = required\nmanifest_store = other", "other"),
        ("store_manifests = true\nmanifest_store = other", "other"),
        ("store_manifests = true", "m"),
        ("verify = required\nstore_manifests = false", None),
        ("manifest_store = other", None),
    ],
)
def test_manifests_are_stored_where_they_are_looked_for(write, settings, made):
    conf = write(f"[imgstore]\nenabled_stores = m:memory, other:memory\n[store_m]\n{settings}\n")
    with open_stores(conf) as stores:
        stores["m"].writer.put("disk", io.BytesIO(IMAGE))
        held = {name: [info.key for info in innermost(store).lister.list()] for name, store in stores.items()}
        assert [name for name, keys in held.items() if "disk.meta4" in keys] == [made] * (made is not None)
        assert [info.key for info in stores["m"].lister.list()] == ["disk"]


def test_a_store_for_manifests_that_is_not_there(write):
    said = refused(write("[imgstore]\nenabled_stores = m:memory\n[store_m]\nmanifest_store = other\n"))
    assert "manifest_store is 'other', which is not enabled" in said


def test_verify_takes_one_of_three(write):
    assert "verify" in refused(write("[imgstore]\nenabled_stores = m:memory\n[store_m]\nverify = maybe\n"))


def test_clock_and_observer_reach_every_store(write):
    clock = SimClock()
    told = []
    conf = write("[imgstore]\nenabled_stores = a:memory, b:memory")
    with open_stores(conf, clock=clock, observe=told.append) as stores:
        for name, store in stores.items():
            store.writer.put("k", io.BytesIO(name.encode()))
            assert innermost(store).clock is store.clock is clock
            assert store.get("k", call=Call()).read() == name.encode()
    assert {event.store for event in told} == {"a", "b"}


def test_stores_of_one_endpoint_share_what_retries_may_cost(write):
    conf = write(
        "[imgstore]\nenabled_stores = a:http, b:http, other:http, tls:http, m:memory, n:memory, c:http\n"
        "[store_a]\nurl = http://h/a\n[store_b]\nurl = http://H:80/b\n"
        "[store_other]\nurl = http://h:81/a\n[store_tls]\nurl = https://h/a\n[store_c]\nurl_command = x"
    )
    with open_stores(conf) as stores:
        buckets = {name: id(store._bucket) for name, store in stores.items()}
        assert buckets["a"] == buckets["b"]
        assert len(set(buckets.values())) == len(buckets) - 1
        assert stores["a"].endpoint == "http://h"


# Drivers


def test_only_enabled_drivers_are_imported(write, bring):
    bring("bomb", "raise SystemExit('imported')")
    with open_stores(write("[imgstore]\nenabled_stores = m:memory")) as stores:
        assert list(stores) == ["m"]


@pytest.mark.parametrize(
    "source,said",
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        (
            "raise ValueError('two\\nlines')",
            "it cannot be imported from brought_ill:Driver: ValueError: two lines",
        ),
        ("assert False, 'no'", "AssertionError: no"),
        ("x = 1", "AttributeError: module 'brought_ill' has no attribute 'Driver'"),
        ("class Driver: pass", "its entry point brought_ill:Driver gives no subclass of imgstore.Store"),
        ("def Driver(): pass", "gives no subclass of imgstore.Store"),
        (
            driver('cfg.IntOpt("deadline"),'),
            "its option 'deadline' has the name of a setting that every store has",
        ),
        (driver(body="raise ConfigError('the option x')"), "the option x"),
        (driver(body="raise OSError('broken')"), "OSError: broken"),
        (driver('cfg.StrOpt("path", default="/")').replace("**options", "*, folder=None"), "TypeError: "),
        (driver().replace("[]", "['path']"), "AttributeError: "),
    ],
)
def test_a_driver_that_is_broken_is_named(write, bring, source, said):
    bring("ill", source)
    told = refused(write("[imgstore]\nenabled_stores = m:memory, x:ill"))
    assert told.startswith("store 'x', driver 'ill': ")
    assert said in told


SECRETIVE = (
    'cfg.StrOpt("key", secret=True), cfg.IntOpt("pin", secret=True), cfg.MultiStrOpt("keys", secret=True)'
)


def test_a_driver_from_elsewhere_gets_its_secrets_as_text_or_to_be_asked_for(write, bring, tmp_path):
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text("first\nsecond\n")
    bring("secretive", driver(SECRETIVE))
    text = f"[imgstore]\nenabled_stores = x:secretive\n[store_x]\nkeys_file = {tmp_path}/key\npin = 12"
    with open_stores(write(text)) as stores:
        given = innermost(stores["x"]).options
    assert given.keys() == {"pin", "keys"}
    assert given["pin"] == 12
    assert reveal(given["keys"]) == "first\nsecond"


@pytest.mark.parametrize("told", ["ValueError", "ConfigError", "ZeroDivisionError"])
@pytest.mark.parametrize(
    "line", ["key = SECRET", "keys = a\nkeys = Name:SECRET", "key_file = FILE"], ids=["text", "list", "file"]
)
def test_what_a_driver_says_of_its_secrets_is_not_passed_on(write, bring, tmp_path, told, line):
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(f"{canary.PASSWORD}\n")
    show = """
        from imgstore.secret import reveal
        keys = options.get("keys") or [reveal(options["key"])]
        raise KIND("the key %r will not do" % keys[-1].removeprefix("Name:"))
    """
    bring("secretive", driver(SECRETIVE, show.replace("KIND", told)))
    line = line.replace("SECRET", canary.PASSWORD).replace("FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigError) as caught:
        open_stores(write(f"[imgstore]\nenabled_stores = x:secretive\n[store_x]\n{line}"))
    prefix = "" if told == "ConfigError" else f"{told}: "
    assert str(caught.value) == (f"store 'x', driver 'secretive': {prefix}the key '<secret>' will not do")
    assert not canary.found("".join(traceback.format_exception(caught.value)))


def test_a_secret_that_is_not_valid_is_not_shown(write, bring):
    bring("secretive", driver(SECRETIVE))
    for section in ("store_x", "store_defaults"):
        conf = write(f"[imgstore]\nenabled_stores = x:secretive\n[{section}]\npin = {canary.TOKEN}")
        with pytest.raises(ConfigError) as caught:
            open_stores(conf)
        assert str(caught.value).endswith("is not valid")
        assert not canary.found("".join(traceback.format_exception(caught.value)))


def test_what_is_missing_is_named_with_its_extra(write, bring):
    bring("needy", "import nowhere", extras=("test", "needy"))
    told = refused(write("[imgstore]\nenabled_stores = x:needy"))
    assert told.endswith("No module named 'nowhere'; pip install 'brought-needy[needy]' brings what it needs")
    bring("plain", "import nowhere", extras=("test",))
    assert refused(write("[imgstore]\nenabled_stores = x:plain")).endswith("No module named 'nowhere'")


def test_two_packages_with_one_driver(write, bring, tmp_path):
    bring("twice", driver())
    points = tmp_path / "site-twice/another-1.dist-info/entry_points.txt"
    points.parent.mkdir()
    points.write_text("[imgstore.drivers]\ntwice = another:Driver\n")
    (points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1\n")
    (tmp_path / "site-twice/another.py").write_text(driver())
    told = refused(write("[imgstore]\nenabled_stores = x:twice"))
    assert told.endswith(
        "several packages bring a driver 'twice': another:Driver, brought_twice:Driver; keep one"
    )


def test_what_was_built_is_closed_when_another_cannot_be(write, bring, monkeypatch):
    closed = []

    def close(self):
        closed.append(self.store_id)
        raise TransientError("closing fails as well")

    monkeypatch.setattr(MemoryStore, "close", close)
    bring("ill", driver(body="raise OSError('broken')"))
    text = "[imgstore]\nenabled_stores = a:memory, b:memory, x:ill, c:memory"
    assert "store 'x', driver 'ill': OSError: broken" in refused(write(text))
    assert closed == ["a", "b"]
    closed.clear()
    bring("rude", driver(body="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        open_stores(write("[imgstore]\nenabled_stores = a:memory, x:rude"))
    assert closed == ["a"]


def test_an_option_that_the_program_means_otherwise(write):
    conf = write("[imgstore]\nenabled_stores = m:memory")
    conf.register_opt(cfg.StrOpt("capacity", help="another"), "store_m")
    told = refused(conf)
    assert told.endswith("this program has given the option 'capacity' in [store_m] another meaning")


def test_building_touches_nothing(write, tmp_path):
    missing = tmp_path / "missing"
    conf = write(
        "[imgstore]\nenabled_stores = disks:filesystem, web:http\n"
        f"[store_disks]\ndata_dir = {missing}\n[store_web]\nurl = https://nowhere.invalid/"
    )
    with open_stores(conf):
        assert not missing.exists()
