"""Options of a driver that are made when somebody looks: a copy imports no oslo.config."""

import subprocess
import sys

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.http import HttpStore
from imgstore.layers.metrics import MetricsLayer
from imgstore.store import LazyOptions

_IMPORTS = (
    "import sys, {module}; "
    "from imgstore.stack import build; "
    "build({module}.{make}); "
    "print([each for each in ('oslo_config', 'stevedore') if each in sys.modules])"
)


@pytest.mark.parametrize(
    "module, make",
    [
        ("imgstore.backends.http", "HttpStore(url='http://images.example.org/')"),
        ("imgstore.backends.filesystem", "FilesystemStore(data_dir='/srv')"),
    ],
)
def test_a_store_in_its_layers_imports_no_oslo_config(module, make):
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS.format(module=module, make=make)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("driver", [HttpStore, FilesystemStore])
def test_whoever_looks_finds_the_options(driver):
    assert len(driver.OPTIONS) == len(list(driver.OPTIONS)) > 0
    assert driver.OPTIONS[0].name == next(iter(driver.OPTIONS)).name
    assert [each.name for each in driver.OPTIONS[:2]] == [driver.OPTIONS[0].name, driver.OPTIONS[1].name]


def test_they_are_made_once_and_not_before_somebody_looks():
    made = []

    def make():
        made.append(1)
        return ("an option",)

    options = LazyOptions(make)
    assert made == []
    assert list(options) == ["an option"]
    assert options[0] == "an option"
    assert len(options) == len(made) == 1


def test_a_layer_has_the_same_options_without_looking():
    store = HttpStore(url="http://images.example.org/")
    assert MetricsLayer(store).OPTIONS is HttpStore.OPTIONS
