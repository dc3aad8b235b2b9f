"""What operators read: the options of every driver, and the sample made of them."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import stevedore._cache
from oslo_config import cfg, generator

from imgstore.backends.http import HttpStore
from imgstore.config import drivers, list_opts, load, open_stores
from imgstore.config.options import LAYER_OPTIONS, MAIN_OPTIONS
from imgstore.config.sample import EXAMPLES
from imgstore.stack import LayerSettings

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "etc/imgstore/imgstore.conf.sample"
OURS = sorted(
    point.name for point in entry_points(group="imgstore.drivers") if point.value.startswith("imgstore.")
)


def told():
    return {group.name: options for group, options in list_opts()}


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(stevedore._cache._c, "_disable_caching", True)


@pytest.mark.parametrize("name", OURS)
def test_no_driver_takes_the_name_of_a_layers_setting(name):
    assert not {option.dest for option in drivers.load(name).OPTIONS} & {each.dest for each in LAYER_OPTIONS}


@pytest.mark.parametrize("name", OURS)
def test_options_are_the_keyword_only_arguments(name):
    driver = drivers.load(name)
    parameters = dict(inspect.signature(driver.__init__).parameters)
    parameters.pop("self")
    assert {each.kind for each in parameters.values()} <= {inspect.Parameter.KEYWORD_ONLY}
    assert [option.dest for option in driver.OPTIONS] == list(parameters)
    for option in driver.OPTIONS:
        default = parameters[option.dest].default
        if option.required:
            assert default is inspect.Parameter.empty, option.dest
            continue
        assert option.default == (list(default) if isinstance(default, tuple) else default), option.dest


def test_settings_of_layers_are_those_of_the_stack():
    fields = {field.name: field for field in dataclasses.fields(LayerSettings)}
    assert [option.dest for option in LAYER_OPTIONS] == list(fields)
    for option in LAYER_OPTIONS:
        assert option.default == fields[option.dest].default, option.dest
        told = fields[option.dest].type
        kinds = {"int": cfg.IntOpt, "float": cfg.FloatOpt, "str": cfg.StrOpt, "Literal": cfg.StrOpt}
        kinds["bool"] = cfg.BoolOpt
        assert isinstance(option, kinds[re.match(r"\w+", told)[0]]), option.dest


@pytest.mark.parametrize("section", sorted(told()))
def test_every_option_is_explained(section):
    for option in told()[section]:
        assert len(option.help) > 30, option.dest
        assert option.help.endswith("."), option.dest
        if isinstance(option.type, (cfg.types.Integer, cfg.types.Float)):
            units = r"second|byte|tries|redirect|part|read|multiple|how often|number|priorit"
            assert re.search(units, option.help, re.IGNORECASE), f"{option.dest} names no unit"


def test_every_driver_of_ours_has_its_section_with_the_files_of_its_secrets():
    assert sorted(EXAMPLES) == OURS
    sections = told()
    assert list(sections)[:2] == ["imgstore", "store_defaults"]
    assert sections["imgstore"] == list(MAIN_OPTIONS)
    names = [option.dest for option in sections["store_web"]]
    assert names[: len(HttpStore.OPTIONS)] == [option.dest for option in HttpStore.OPTIONS]
    assert names[len(HttpStore.OPTIONS) :] == ["password_file", "headers_file", "proxy_file"]


def test_the_sample_is_up_to_date():
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", str(ROOT / "etc/imgstore/config-generator.conf")], default_config_dirs=[])
    made = io.StringIO()
    generator.generate(conf, output_file=made)
    assert made.getvalue() == SAMPLE.read_text(), "run make sample"


def test_the_sample_as_it_stands_configures_nothing(tmp_path):
    path = tmp_path / "imgstore.conf"
    path.write_text(SAMPLE.read_text())
    with open_stores(load(str(path))) as stores:
        assert dict(stores.drivers) == {"local": "filesystem"}


def test_the_sample_becomes_a_configuration_by_taking_out_hashes(tmp_path):
    path = tmp_path / "imgstore.conf"
    taken = ("enabled_stores", "default_store", "resume_attempts", "data_dir", "url")
    path.write_text(re.sub(rf"^#({'|'.join(taken)}) = ", r"\1 = ", SAMPLE.read_text(), flags=re.MULTILINE))
    with open_stores(load(str(path))) as stores:
        assert dict(stores.drivers) == {"disks": "filesystem", "web": "http"}
        assert stores.default_id == "disks"
