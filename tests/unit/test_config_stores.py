"""The open stores as a mapping: closed together, never pickled; and the lazy names of the package."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Mapping

import pytest

import imgstore
from imgstore.backends.memory import MemoryStore
from imgstore.config import Stores
from imgstore.errors import ConfigError, TransientError


class Recording(MemoryStore):
    """A store that notes that it is closed."""

    def __init__(self, name, closed, error=None):
        super().__init__()
        self.store_id = name
        self._noted, self._error = closed, error

    def close(self):
        super().close()
        self._noted.append(self.store_id)
        if self._error is not None:
            raise self._error


def made(*names, default=None, errors=None):
    closed = []
    stores = {name: Recording(name, closed, (errors or {}).get(name)) for name in names}
    return Stores(stores, dict.fromkeys(names, "memory"), default), closed


def test_a_mapping_in_the_order_of_the_configuration():
    stores, _ = made("b", "a", default="a")
    assert isinstance(stores, Mapping)
    assert list(stores) == ["b", "a"]
    assert len(stores) == 2
    assert "b" in stores
    assert stores["b"].store_id == "b"
    assert stores.get("c") is None
    with pytest.raises(KeyError, match="'c'"):
        stores["c"]
    assert stores.default is stores["a"]
    with pytest.raises(TypeError):
        stores["a"] = stores["b"]
    with pytest.raises(TypeError):
        stores.drivers["a"] = "other"


def test_what_it_was_made_of_may_change():
    given, drivers = {"a": MemoryStore()}, {"a": "memory"}
    stores = Stores(given, drivers, None)
    given.clear()
    drivers.clear()
    assert list(stores) == list(stores.drivers) == ["a"]


def test_its_end_closes_every_store():
    stores, closed = made("a", "b")
    with stores as entered:
        assert entered is stores
        stores["a"].writer.put("k", io.BytesIO(b"disk"))
        stream = stores["a"].get("k")
    assert closed == ["a", "b"]
    with pytest.raises(ValueError, match="store 'a' is closed"):
        stores["a"].get("k")
    with stream:
        assert stream.read() == b"disk"


def test_closing_again_is_nothing_new():
    stores, closed = made("a", "b", errors={"a": TransientError("once")})
    with pytest.raises(TransientError):
        stores.close()
    stores.close()
    assert closed == ["a", "b"]


def test_all_are_closed_before_the_first_error_is_raised():
    first, second = TransientError("first"), TransientError("second")
    stores, closed = made("a", "b", "c", errors={"a": first, "b": second})
    with pytest.raises(TransientError, match="first"):
        stores.close()
    assert closed == ["a", "b", "c"]


def test_the_error_of_the_body_goes_before_that_of_closing():
    stores, closed = made("a", errors={"a": TransientError("closing")})
    with pytest.raises(TransientError, match="closing") as caught, stores:
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert closed == ["a"]


def test_what_it_looks_like():
    stores, _ = made("a", "b", default="b")
    assert repr(stores) == "<Stores a:memory, b:memory; default b>"


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_stays_in_its_process(take):
    stores, _ = made("a")
    with pytest.raises(TypeError, match=r"StoreRef\(store_id, key, version\) names an image"):
        take(stores)


def test_no_default():
    stores, _ = made("a", "b")
    with pytest.raises(ConfigError, match="none is the default"):
        _ = stores.default


# The lazy names


LATE = {"RangeFile", "Stores", "list_opts", "open_image", "open_stores", "register_opts"}


def test_the_package_has_its_lazy_names():
    assert set(imgstore.__all__) >= LATE
    assert set(dir(imgstore)) >= set(imgstore.__all__)
    for name in imgstore.__all__:
        assert getattr(imgstore, name) is vars(imgstore)[name]
    assert imgstore.Stores is Stores
    with pytest.raises(AttributeError, match="module 'imgstore' has no attribute 'open_store'"):
        _ = imgstore.open_store


@pytest.mark.parametrize("touched", ["", "dir(imgstore)", "imgstore.open_image", "imgstore.Store"])
def test_importing_the_package_imports_no_library(touched):
    code = (
        f"import sys, imgstore; {touched}\n"
        "print([each for each in ('oslo_config', 'stevedore', 'urllib3') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_configuration_imports_the_drivers_that_it_enables_alone(tmp_path):
    path = tmp_path / "imgstore.conf"
    path.write_text("[imgstore]\nenabled_stores = m:memory\n")
    code = (
        f"import sys, imgstore, imgstore.config; imgstore.open_stores(imgstore.config.load({str(path)!r}))\n"
        "print([each for each in sys.modules if each.startswith('imgstore.backends.')"
        " and each.count('.') == 2 or each == 'urllib3'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(imgstore.__path__[0]).rpartition("/")[0]},
    )
    assert done.stdout == "['imgstore.backends.memory']\n"
