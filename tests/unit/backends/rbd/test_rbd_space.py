"""The room that is left, from what the monitors tell."""

import json
from types import SimpleNamespace

import pytest

from imgstore.backends.rbd.space import _free
from imgstore.errors import PermissionDeniedError


class Session:
    """A cluster as far as its monitors' answers go."""

    def __init__(self, df, quota=0, data_pool=None, code=0):
        self.settings = SimpleNamespace(pool="images", data_pool=data_pool)
        self.cluster = self
        self._told = {"df": df, "osd pool get-quota": {"quota_max_bytes": quota}}
        self._code = code

    def mon_command(self, command, data):
        asked = json.loads(command)
        assert asked["format"] == "json"
        return self._code, json.dumps(self._told[asked["prefix"]]).encode(), ""


def df(total=1000, **pools):
    told = [
        {"name": name, "stats": {"max_avail": room, "stored": used}} for name, (room, used) in pools.items()
    ]
    return {"stats": {"total_bytes": total}, "pools": told}


def test_it_is_what_the_pool_can_take():
    assert _free(Session(df(images=(700, 100), other=(5, 0)))) == 700


def test_it_is_that_of_the_data():
    assert _free(Session(df(images=(700, 100), wide=(900, 0)), data_pool="wide")) == 900


@pytest.mark.parametrize("quota, free", [(0, 700), (300, 200), (50, 0), (5000, 700)])
def test_a_quota_leaves_less(quota, free):
    assert _free(Session(df(images=(700, 100)), quota)) == free


def test_without_a_manager_nobody_knows():
    assert _free(Session(df(0, images=(0, 0)))) is None


def test_without_the_pool_neither():
    assert _free(Session(df(other=(5, 0)))) is None


def test_who_may_not_ask_is_told():
    with pytest.raises(PermissionDeniedError):
        _free(Session(df(), code=-13))
