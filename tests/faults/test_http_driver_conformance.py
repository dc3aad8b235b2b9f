"""The public read suite on the bare driver."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from imgstore.backends.http import HttpStore
from imgstore.testing import ReadSuite
from imgstore.testing.server import ScriptedServer


class TestHttpStore(ReadSuite):
    @pytest.fixture(autouse=True)
    def served(self):
        self.stores = []
        with ScriptedServer() as self.server:
            yield
            for store in self.stores:
                store.close()

    def store(self):
        self.stores.append(HttpStore(url=self.server.url("/images/"), trust_env=False))
        return self.stores[-1]

    def seed(self, key, data):
        self.server.put(self.path(key), data)

    replace = seed

    def remove(self, key):
        self.server.remove(self.path(key))

    def path(self, key):
        return f"/images/{quote(key)}"
