"""The files of a configuration: which are read, and that nothing in them goes unread in silence."""

from __future__ import annotations

import logging
import os
from urllib.parse import quote

import pytest
from oslo_config import cfg

# urllib3 binds a socket at its import, to see whether there is IPv6: not within a unit test
import imgstore.backends.http  # noqa: F401
from imgstore.config import load, open_stores
from imgstore.errors import ConfigError
from imgstore.secret import SecretFile
from tests import canary

TEXT = "[imgstore]\nenabled_stores = m:memory\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Gives the home directory of a machine on which nothing is configured."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_DATA_HOME", "IMGSTORE_CONFIG", "SNAP", "SNAP_COMMON"):
        monkeypatch.delenv(name, raising=False)
    return folder


def opened(conf):
    with open_stores(conf) as stores:
        return sorted(stores)


def refused(conf):
    with pytest.raises(ConfigError) as caught:
        open_stores(conf)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def called(*arguments):
    """Gives the conf of a service that was started with `arguments`."""
    conf = cfg.ConfigOpts()
    conf(list(arguments), project="service", default_config_files=[], default_config_dirs=[])
    return conf


# Which file is read


def test_the_path_goes_before_the_variable_and_that_before_the_home(tmp_path, home, monkeypatch):
    assert opened(load()) == ["local"]
    written(home / ".imgstore/imgstore.conf", TEXT.replace("m:", "home:"))
    assert opened(load()) == ["home"]
    monkeypatch.setenv(
        "IMGSTORE_CONFIG", written(tmp_path / "variable.conf", TEXT.replace("m:", "variable:"))
    )
    assert opened(load()) == ["variable"]
    path = written(tmp_path / "path.conf", TEXT.replace("m:", "path:"))
    assert opened(load(path)) == ["path"]
    monkeypatch.setenv("IMGSTORE_CONFIG", "")
    assert opened(load()) == ["home"]


def test_a_folder_beside_the_default_file(home):
    written(home / ".imgstore/imgstore.conf", TEXT)
    written(home / ".imgstore/imgstore.conf.d/10.conf", "[store_m]\ncapacity = 5\n")
    conf = load()
    assert opened(conf) == ["m"]
    assert conf.store_m.capacity == 5
    written(home / ".imgstore/imgstore.conf.d/20.conf", "[store_m]\ncapacty = 5\n")
    assert "20.conf: [store_m] has no option 'capacty'" in refused(load())


def test_a_path_in_the_home_and_one_from_here(home, tmp_path, monkeypatch):
    written(home / "mine.conf", TEXT)
    assert opened(load("~/mine.conf")) == ["m"]
    monkeypatch.chdir(home)
    conf = load("mine.conf")
    monkeypatch.chdir(tmp_path)
    assert opened(conf) == ["m"]


def test_a_file_that_is_named_must_be_there(tmp_path, monkeypatch):
    missing = str(tmp_path / "missing.conf")
    for ask in (lambda: load(missing), load):
        with pytest.raises(ConfigError, match=f"^the configuration {missing} cannot be read: No such file"):
            ask()
        monkeypatch.setenv("IMGSTORE_CONFIG", missing)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "text,said",
    [
        ("[store_m]\nSECRET\n", "line 2: No ':' or '=' found in assignment"),
        ("password = SECRET\n", "line 1: Section must be started before assignment"),
        ("[store_m]\n= SECRET\n", "line 2: Key cannot be empty"),
        ("[store_m SECRET\n", "line 1: Invalid section"),
        ("[a]\n\n  SECRET\n", "line 3: Unexpected continuation line"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_and_not_shown(tmp_path, text, said):
    path = written(tmp_path / "ill.conf", text.replace("SECRET", canary.PASSWORD))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {said}")
    assert caught.value.__cause__ is None
    assert not canary.found(f"{caught.value!r} {caught.value.__context__!r}")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "ill.conf"
    path.write_bytes(b"[imgstore]\nx = \xff\xfe")
    with pytest.raises(ConfigError, match=f"^{path} is no text$"):
        load(str(path))


# What nobody reads


def test_misspelt_options_are_told_with_file_section_and_the_nearest_name(tmp_path):
    path = written(
        tmp_path / "a.conf",
        "[imgstore]\nenabled_stores = web:http\nenabled_store = x\n"
        "[store_defaults]\nopen_timeut = 3\n"
        f"[store_web]\nurl = http://h/\npasswd = {canary.PASSWORD}\nxyzzy = 1\nOPEN_TIMEOUT = 4\n",
    )
    assert refused(load(path)).split("; ") == [
        f"{path}: [imgstore] has no option 'enabled_store' (did you mean 'enabled_stores'?)",
        f"{path}: [store_defaults] has no option 'open_timeut' (did you mean 'open_timeout'?)",
        f"{path}: [store_web] has no option 'OPEN_TIMEOUT'",
        f"{path}: [store_web] has no option 'passwd' (did you mean 'password'?)",
        f"{path}: [store_web] has no option 'xyzzy'",
    ]


def test_every_file_of_the_service_is_looked_at(tmp_path):
    first = written(tmp_path / "1.conf", TEXT + "[service]\nwhatever = 1\n[DEFAULT]\nx = 1\n")
    second = written(tmp_path / "2.conf", "[STORE_M]\ncapacty = 1\n")
    third = written(tmp_path / "d/3.conf", "[store_m]\nmax_parts = 3\nmax_prats = 3\n")
    fourth = written(tmp_path / "e/4.conf", "[store_m]\nmni_part = 3\n")
    folders = ["--config-dir", str(tmp_path / "d"), "--config-dir", str(tmp_path / "e")]
    told = refused(called("--config-file", first, "--config-file", second, *folders))
    assert told.split("; ") == [
        f"{second}: [store_m] has no option 'capacty' (did you mean 'capacity'?)",
        f"{third}: [store_m] has no option 'max_prats' (did you mean 'max_parts'?)",
        f"{fourth}: [store_m] has no option 'mni_part' (did you mean 'min_part'?)",
    ]
    assert opened(called("--config-file", first)) == ["m"]


def test_sections_in_any_case_are_read(tmp_path):
    path = written(tmp_path / "a.conf", "[ImgStore]\nenabled_stores = m:memory\n[Store_M]\ncapacity = 5\n")
    conf = load(path)
    assert opened(conf) == ["m"]
    assert conf.store_m.capacity == 5


def test_an_option_that_the_service_added_is_known(tmp_path):
    path = written(tmp_path / "a.conf", TEXT + "extra = 1\n")
    assert "[imgstore] has no option 'extra'" in refused(load(path))
    conf = called("--config-file", path)
    conf.register_opt(cfg.IntOpt("extra"), "imgstore")
    assert opened(conf) == ["m"]


@pytest.mark.parametrize(
    "section,said",
    [
        ("store_fsat", "no enabled store reads [store_fsat] (did you mean 'store_fast'?)"),
        ("store_default", "no enabled store reads [store_default] (did you mean 'store_defaults'?)"),
    ],
)
def test_a_section_that_is_nearly_the_one_of_an_enabled_store(tmp_path, section, said):
    path = written(
        tmp_path / "a.conf", f"[imgstore]\nenabled_stores = fast:memory\n[{section}]\nmax_parts = 1\n"
    )
    assert refused(load(path)) == f"{path}: {said}"


@pytest.mark.parametrize("section", ["store_cold", "store_fast2", "store_faster"])
def test_a_store_that_is_switched_off_is_a_warning(tmp_path, section, caplog):
    """fast has a section of its own here, so that another of nearly its name is no slip of the pen."""
    path = written(
        tmp_path / "a.conf",
        f"[imgstore]\nenabled_stores = fast:memory\n[store_fast]\nmax_parts = 5\n[{section}]\nurl = x\n",
    )
    with caplog.at_level(logging.WARNING):
        assert opened(load(path)) == ["fast"]
    assert [each.getMessage() for each in caplog.records if each.name.startswith("imgstore")] == [
        f"{path}: [{section}] counts for nothing: no such store is enabled"
    ]


@pytest.mark.parametrize(
    "section, said",
    [
        ("store-defaults", "nobody reads [store-defaults] (did you mean 'store_defaults'?)"),
        ("Stores_Disks", "nobody reads [stores_disks] (did you mean 'store_disks'?)"),
        ("stroe_disks", "nobody reads [stroe_disks] (did you mean 'store_disks'?)"),
        ("imgstor", "nobody reads [imgstor] (did you mean 'imgstore'?)"),
        ("default_store", "default_store is no section; it is an option in [imgstore]"),
    ],
)
def test_a_section_of_nearly_our_name(tmp_path, section, said):
    text = "[imgstore]\nenabled_stores = disks:memory\n[store_disks]\ncapacity = 5\n"
    path = written(tmp_path / "a.conf", f"{text}[{section}]\ncapacity = 7\n")
    assert refused(load(path)) == f"{path}: {said}"


@pytest.mark.parametrize(
    "section", ["glance_store", "image_store", "keystone_authtoken", "database", "restore_disks", "store"]
)
def test_a_section_of_the_service(tmp_path, section, caplog):
    with open_stores(load(written(tmp_path / "a.conf", f"{TEXT}[{section}]\nx = 1\n"))) as stores:
        assert list(stores) == ["m"]
    assert not [each for each in caplog.records if each.name.startswith("imgstore")]


def test_a_file_that_may_not_be_read_again(tmp_path, caplog):
    path = tmp_path / "a.conf"
    conf = load(written(path, TEXT + "[store_m]\ncapacity = 5\n"))
    os.unlink(path)
    with caplog.at_level(logging.WARNING), open_stores(conf) as stores:
        assert list(stores) == ["m"]
    assert f"the configuration {path} cannot be read: No such file" in caplog.text


# Secrets in files of their own


def web(tmp_path, *lines, defaults=()):
    told = "\n".join(["[imgstore]\nenabled_stores = w:http", "[store_defaults]", *defaults])
    return load(written(tmp_path / "a.conf", "\n".join([told, "[store_w]\nurl = http://h/", *lines])))


def credentials(conf):
    with open_stores(conf) as stores:
        return stores["w"].inner.inner._credentials


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(f"{canary.PASSWORD}\n")
    return path


def test_a_secret_in_a_file_is_read_at_each_use(tmp_path, secret):
    conf = web(tmp_path, "username = u", f"password_file = {secret}")
    with open_stores(conf) as stores:
        asked = stores["w"].inner.inner._credentials.password
        assert asked() == canary.PASSWORD
        secret.write_text("new ")
        assert asked() == "new "
        secret.write_text("new\r\n")
        assert asked() == "new"
        assert repr(asked) == f"<SecretFile '{secret}'>"
        secret.unlink()
        with pytest.raises(ConfigError, match=f"^the password_file '{secret}' cannot be read: No such file"):
            asked()


def test_each_secret_option_has_a_file(tmp_path, secret):
    secret.write_text(f"X-Key: {canary.HEADER}\n")
    made = credentials(web(tmp_path, f"headers_file = {secret}"))
    assert made.headers() == f"X-Key: {canary.HEADER}"
    secret.write_text(canary.TOKEN)
    assert credentials(web(tmp_path, f"token_file = {secret}")).token() == canary.TOKEN
    secret.write_text("http://proxy:1")
    with open_stores(web(tmp_path, f"proxy_file = {secret}")) as stores:
        assert stores["w"].inner.inner._proxies._option() == "http://proxy:1"


def test_a_url_may_hold_secrets(tmp_path, secret, caplog):
    url = f"http://me:{quote(canary.PASSWORD, safe='')}@h/images/?sig={canary.PRESIGNED_QUERY}"
    secret.write_text(f"{url}\n")
    for line in (f"url = {url}", f"url_file = {secret}"):
        conf = load(written(tmp_path / "a.conf", f"[imgstore]\nenabled_stores = w:http\n[store_w]\n{line}"))
        hidden = set()
        with open_stores(conf, hide=hidden.update) as stores:
            driver = stores["w"].inner.inner
            assert driver.location == "http://h/images/?..."
            assert driver._credentials.password == canary.PASSWORD
            assert {canary.PASSWORD, canary.PRESIGNED_QUERY} <= hidden
            # what a service does with its options, once it runs
            with caplog.at_level(logging.INFO):
                conf.log_opt_values(logging.getLogger("service"), logging.INFO)
    assert "store_w.url " in caplog.text
    assert not canary.found(caplog.text)


def test_a_url_without_secrets_is_shown(tmp_path):
    conf = load(
        written(tmp_path / "a.conf", "[imgstore]\nenabled_stores = w:http\n[store_w]\nurl = http://h%/x")
    )
    assert refused(conf) == (
        "store 'w', driver 'http': the option 'url' 'http://h%/x' has no valid host;"
        " https://host/path would do"
    )


def test_what_is_in_the_file_of_a_url(tmp_path, secret):
    secret.write_text(f"htp://u:{canary.TOKEN}@h/")
    text = f"[imgstore]\nenabled_stores = w:http\n[store_w]\nurl_file = {secret}"
    assert refused(load(written(tmp_path / "a.conf", text))) == (
        "store 'w', driver 'http': what is in 'url_file' is no http or https URL; https://host/path would do"
    )


def test_what_is_not_secret_has_no_file(tmp_path):
    assert "[store_w] has no option 'username_file'" in refused(web(tmp_path, "username_file = x"))


def test_the_nearer_section_decides_between_a_secret_and_its_file(tmp_path, secret):
    user = "username = u"
    made = credentials(web(tmp_path, user, "password = near", defaults=[f"password_file = {secret}"]))
    assert made.password == "near"
    made = credentials(web(tmp_path, user, f"password_file = {secret}", defaults=["password = far"]))
    assert made.password() == canary.PASSWORD
    made = credentials(web(tmp_path, user, defaults=[f"password_file = {secret}"]))
    assert made.password() == canary.PASSWORD
    made = credentials(web(tmp_path, f"token_file = {secret}", defaults=["token = far"]))
    assert made.token() == canary.PASSWORD


@pytest.mark.parametrize("section", ["near", "defaults"])
@pytest.mark.parametrize("name", ["password", "token"])
def test_a_secret_and_its_file(tmp_path, secret, section, name):
    lines = [f"{name} = {canary.TOKEN}", f"{name}_file = {secret}"]
    conf = web(tmp_path, *lines) if section == "near" else web(tmp_path, defaults=lines)
    group = "store_w" if section == "near" else "store_defaults"
    assert refused(conf) == (
        f"store 'w', driver 'http': the options '{name}' and '{name}_file' in [{group}] exclude each other;"
        " give one"
    )


def test_a_secret_is_never_waited_for(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    said = f"the password_file '{fifo}' is no regular file; a file with the secret"
    assert said in refused(web(tmp_path, "username = u", f"password_file = {fifo}"))
    assert "is no regular file" in refused(web(tmp_path, "username = u", "password_file = /dev/zero"))
    assert "Is a directory" in refused(web(tmp_path, "username = u", f"password_file = {tmp_path}"))


def test_secrets_are_told_to_who_would_hide_them_and_their_files_read_once(tmp_path, secret, monkeypatch):
    asked = []
    read = SecretFile.__call__
    monkeypatch.setattr(SecretFile, "__call__", lambda self: asked.append(self.path) or read(self))
    hidden = set()
    lines = ["username = u", f"password_file = {secret}", f"headers = X-Key: {canary.HEADER}"]
    with open_stores(web(tmp_path, *lines), hide=hidden.update):
        assert hidden == {canary.PASSWORD, f"X-Key: {canary.HEADER}", canary.HEADER}
        assert asked == [str(secret)]


@pytest.mark.parametrize("name", ["password_file", "token_file"])
@pytest.mark.parametrize(
    "data,said",
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty or no UTF-8; a file with the secret and nothing else would do"),
        (b" \n", "is empty or no UTF-8"),
        (b"\xff", "is empty or no UTF-8"),
        (b"x" * 65537, "is larger than 64 KiB"),
    ],
)
def test_a_file_without_a_secret_stops_the_start(tmp_path, name, data, said):
    path = tmp_path / "secret"
    if data is not None:
        path.touch(0o600)
        path.write_bytes(data)
    told = refused(web(tmp_path, f"{name} = {path}"))
    assert told.startswith(f"store 'w', driver 'http': the {name} '{path}' {said}")


def test_a_file_that_everybody_may_read_is_a_warning(tmp_path, secret, caplog):
    conf = web(tmp_path, f"token_file = {secret}")
    for mode, warned in [(0o600, False), (0o640, False), (0o604, True), (0o602, True)]:
        secret.chmod(mode)
        caplog.clear()
        open_stores(conf).close()
        assert (f"[store_w]: every user of this machine may read or change {secret}" in caplog.text) == warned


def test_no_error_and_no_name_shows_a_secret(tmp_path, secret):
    """The guard of the suite reads the log as well."""
    lines = ["username = a:b", f"password_file = {secret}", f"headers = X-Key: {canary.HEADER}"]
    conf = web(tmp_path, *lines)
    assert "'username' holds a colon" in refused(conf)
    conf = web(tmp_path, f"token = {canary.TOKEN}", f"headers = X-Key: {canary.HEADER}")
    with open_stores(conf) as stores:
        told = f"{stores!r} {stores['w']!r} {vars(stores)!r} {vars(stores['w'].inner.inner)!r}"
        assert not canary.found(told)
    conf = web(tmp_path, f"headers = no header {canary.HEADER}")
    with pytest.raises(ConfigError) as caught:
        open_stores(conf)
    assert not canary.found(f"{caught.value!r} {caught.value.__cause__!r}")


def test_a_dollar_is_written_twice_where_values_name_each_other(tmp_path, secret):
    told = refused(web(tmp_path, "username = u", f"password = {canary.PASSWORD}$word"))
    assert told.endswith("is not valid: '$' in a value names another option; '$$' stands for itself")
    assert credentials(web(tmp_path, "username = u", "password = pa$$word")).password == "pa$word"
    secret.write_text("pa$$word")
    assert credentials(web(tmp_path, "username = u", f"password_file = {secret}")).password() == "pa$$word"
