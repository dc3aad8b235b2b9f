"""Every kind of request of every operation meets each kind of weather once, and the operation succeeds."""

from __future__ import annotations

import io
import re

import pytest

from tests.faults.swift_rig import IMAGE, SEGMENT, SMALL, read, rig
from tests.faults.swift_server import Fault
from tests.thinning import thinned

WEATHER = {
    "503": Fault(status=503),
    "429": Fault(status=429, fields=(("Retry-After", "1"),)),
    "reset": Fault(reset=True),
    "lost reply": Fault(lose=True),
    "503 though done": Fault(status=503, done=True),
    "stall": Fault(stall=True),
    "401": Fault(status=401),
}


def stat(store):
    assert store.stat("small").size == len(SMALL)


def read_plain(store):
    assert read(store, "small", 1000) == SMALL[1000:]


def read_static(store):
    assert read(store, "large", 1000) == IMAGE[1000:]


def read_dynamic(store):
    assert read(store, "dynamic", 500) == IMAGE[500:2500]


def put_small(store):
    store.writer.put("new", io.BytesIO(SMALL), len(SMALL))


def put_large(store):
    store.writer.put("new", io.BytesIO(IMAGE), len(IMAGE))


def overwrite(store):
    store.writer.put("large", io.BytesIO(SMALL), len(SMALL), overwrite=True)


def delete_small(store):
    store.writer.delete("small")


def delete_large(store):
    store.writer.delete("large")


def listing(store):
    keys = [info.key for info in store.lister.list()]
    assert keys == sorted(keys)
    assert {"dynamic", "large", "small"} <= set(keys)


def upload(store):
    uploader = store.uploader
    token = uploader.begin("new", len(IMAGE))
    views = [memoryview(IMAGE)[at : at + SEGMENT] for at in range(0, len(IMAGE), SEGMENT)]
    for number, view in enumerate(views):
        uploader.put_part(token, number, number * SEGMENT, view)
    assert "new" in [each.key for each in uploader.uploads()]
    uploader.complete(token, uploader.parts(token))


def abort(store):
    token = store.uploader.begin("new", len(IMAGE))
    store.uploader.put_part(token, 0, 0, memoryview(IMAGE)[:SEGMENT])
    store.uploader.abort(token)


ACTS = [
    stat, read_plain, read_static, read_dynamic, put_small, put_large, overwrite, delete_small, delete_large,
    listing, upload, abort,
]  # fmt: skip


def world(made):
    made.server.put("images", "small", SMALL)
    made.put_large()
    made.put_dynamic()
    store = made.store(open_timeout=0.2, receive_timeout=0.2, work_timeout=0.2, max_concurrency=1)
    return store, len(made.server.log)


def requests_of(act):
    """The number and kind of the requests that the act makes in fair weather, the first of each kind."""
    with rig() as made:
        store, before = world(made)
        act(store)
        kinds = [
            (method, re.sub(r"[0-9a-f]{8,}.*", "", path)) for method, path, _ in made.server.log[before:]
        ]
        return [
            (number, kinds[number]) for number in range(len(kinds)) if kinds.index(kinds[number]) == number
        ]


def reap(store):
    for pending in list(store.uploader.uploads()):
        store.uploader.abort(pending.token)


def check_world(made, act):
    """Every image whole, nobody's segments gone, and after a reap nothing that belongs to no image."""
    images = made.server.containers["images"]
    for key in {"large", "small", "new"} & set(images):
        assert made.server.body_of("images", key) in (IMAGE, SMALL), key
    assert act not in (put_small, put_large, upload) or "new" in images
    assert act is not abort or "new" not in images
    assert act is not delete_small or "small" not in images
    assert act is not delete_large or "large" not in images
    named = {each["path"] for found in images.values() for each in found.slo or ()}
    return [name for name in made.segments() if f"/images_segments/{name}" not in named]


# A new token is fetched in one place, whatever is asked; a reply that lies about what was done matters to
# what changes something.
FEWER = {
    "401": {read_plain, put_large},
    "503 though done": {put_small, put_large, overwrite, delete_large, upload},
}
CASES = [(act, name) for act in ACTS for name in WEATHER if act in FEWER.get(name, ACTS)]


@pytest.mark.parametrize(
    "act,weather", thinned(CASES, 13), ids=[f"{act.__name__}-{name}" for act, name in CASES]
)
def test_weather_is_ridden_out(act, weather):
    for number, (_, path) in requests_of(act):
        if weather == "401" and path == "/auth/v1.0":
            continue  # of a login, that is the answer
        with rig() as made:
            store, before = world(made)
            made.server.numbered[before + number] = WEATHER[weather]
            act(store)
            reap(store)
            left = [name for name in check_world(made, act) if not name.startswith(".imgstore-turns/")]
            assert not left, f"request {number}: {made.server.log[before + number]} leaves {left}"
