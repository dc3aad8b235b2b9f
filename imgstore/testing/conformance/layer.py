"""The suite of layers: stores around a store."""

from __future__ import annotations

import io
from typing import ClassVar

from imgstore.backends.memory import MemoryStore
from imgstore.clock import SYSTEM, SystemClock
from imgstore.errors import NotFoundError, UnavailableError
from imgstore.model import ANY, Call, CancelToken, Event
from imgstore.store import FACETS, Store
from imgstore.testing.conformance._base import (
    SIZE,
    expect,
    fresh_key,
    pattern,
    raises,
)
from imgstore.testing.conformance._place import WatchedStore, Weather
from imgstore.testing.conformance.read import ReadSuite

# Each has cases of its own, here or in ReadSuite.
_PROVEN = {*FACETS, "get", "stat", "translate", "close"}


class LayerSuite(ReadSuite):
    """A layer adds what it adds and changes nothing else; needs the hook `layer`.

    The suite brings the store inside, a memory store that it watches, and runs the whole ReadSuite through
    the layer. `wraps` names the facets in whose place the layer sets its own; all others are passed as they
    are.
    """

    wraps: ClassVar[frozenset[str]] = frozenset()

    def layer(self, inner: Store) -> Store:
        """Gives the layer around `inner`."""
        raise NotImplementedError

    def setup_method(self) -> None:
        super().setup_method()
        self.place = WatchedStore()
        self.place.store_id = "kit"

    def store(self) -> Store:
        return self.layer(self.place)

    def seed(self, key: str, data: bytes) -> None:
        self.place.writer.put(key, io.BytesIO(data))

    def replace(self, key: str, data: bytes) -> None:
        self.place.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key: str) -> None:
        self.place.writer.delete(key)

    def stall(self, key: str) -> None:
        self.place.stalled.add(key)

    def test_options_are_the_arguments(self) -> None:
        setattr(self.place, "OPTIONS", MemoryStore.OPTIONS)  # noqa: B010  # a class variable, for this one store
        assert self.subject.OPTIONS == MemoryStore.OPTIONS, "a layer's OPTIONS are those of the store inside"

    def test_every_member_is_forwarded(self) -> None:
        self.place.store_id = "inner"
        self.place.clock = SystemClock()
        for name in {name for name in dir(Store) if not name.startswith("_")} - _PROVEN:
            if callable(getattr(Store, name)):
                own = getattr(type(self.subject), name) is not getattr(Store, name)
                assert own, f"the layer does not forward {name}()"
            else:
                inner, outer = getattr(self.place, name), getattr(self.subject, name)
                assert outer == inner, f"the layer's {name} is {outer!r}, that of the store inside {inner!r}"

    def test_facets_are_passed_or_wrapped(self) -> None:
        for name in FACETS:
            inner, outer = getattr(self.place, name), getattr(self.subject, name)
            if inner is None:
                assert outer is None, f"the layer has a {name} that the store inside has not"
            elif name in self.wraps:
                assert outer is not None, f"the layer drops the {name} that it says it wraps"
                assert outer is not inner, f"the layer passes the {name} that it says it wraps"
            else:
                assert outer is inner, f"the layer has {outer!r} in the place of the {name}; is it in wraps?"

    def test_facets_that_are_not_there(self) -> None:
        for name in FACETS:
            setattr(self.place, name, None)
        for name in FACETS:
            assert getattr(self.subject, name) is None, (
                f"the layer has a {name} that the store inside has not"
            )

    def test_translate_is_the_inner_ones(self) -> None:
        error = self.subject.translate(Weather("rain"))
        assert isinstance(error, UnavailableError), (
            f"the layer does not ask the store inside to translate: {error!r}"
        )

    def test_closing_the_layer_closes_the_store_inside(self) -> None:
        self.subject.close()
        assert self.place.closes, "the layer was closed, the store inside was not"

    def test_stat_opens_no_body(self) -> None:
        self.subject.stat(self.image(pattern(10)))
        assert not self.place.opens, "stat through the layer opens a body of the store inside; it has a stat"

    def test_streams_are_given_back(self) -> None:
        key = self.image(pattern(SIZE))
        for what, size in (
            ("a whole read", SIZE),
            ("a close in mid-body", 100),
            ("a close before a read", 0),
        ):
            with self.subject.get(key) as stream:
                stream.read(size)
            left = self.place.now_open
            assert left == 0, f"after {what} the layer leaves {left} streams of the store inside open"

    def test_end_of_the_range_gives_the_stream_back(self) -> None:
        key = self.image(pattern(SIZE))
        with self.subject.get(key, 5, 1000) as stream:
            stream.read()
            left = self.place.now_open
        assert left == 0, "at the end of its range the layer keeps the stream of the store inside open"

    def test_works_with_one_permit(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        for offset, length in ((0, None), (1000, 50_000), (SIZE - 9, None)):
            stop = SIZE if length is None else offset + length
            expect(self.read(key, offset, length), data, offset, stop, f"get({offset}, {length})")
        most = self.place.most_open
        assert most == 1, f"the layer has {most} streams open for one call; it must work with one permit"

    def test_read_is_one_request(self) -> None:
        self.read(self.image(pattern(SIZE)), 1000)
        starts = [start for start, *_ in self.place.opens]
        assert starts == [1000], f"one read from 1000 on opens the store inside at {starts}"

    def test_version_is_passed_on(self) -> None:
        key = self.image(pattern(SIZE))
        version = self.place.stat(key).version
        for wanted in (version, ANY):
            self.read(key, version=wanted)
            passed = self.place.opens[-1][2]
            assert passed == wanted, f"asked for version {wanted!r}, the layer asks for {passed!r}"

    def test_call_is_passed_on(self) -> None:
        told: list[Event] = []
        token = CancelToken()
        deadline = SYSTEM.time() + 3600
        self.read(self.image(pattern(10)), call=Call(deadline, token, told.append))
        call = self.place.opens[-1][3]
        assert call.deadline is not None, "the deadline does not reach the store inside"
        assert call.deadline <= deadline + 0.001, "the store inside is given a later deadline than the call's"
        call.emit(Event("opened", "kit", "kit"))
        assert Event("opened", "kit", "kit") in told, (
            "what the store inside emits does not reach the observer"
        )
        token.cancel()
        assert call.cancel is not None, "the cancellation does not reach the store inside"
        assert call.cancel.cancelled, "the cancellation does not reach the store inside"

    def test_errors_of_the_store_inside_come_through(self) -> None:
        key = fresh_key()
        with raises(NotFoundError, "get of a missing key through the layer") as outer:
            self.read(key)
        with raises(NotFoundError, "get of a missing key") as inner:
            self.place.get(key)
        assert str(outer.error) == str(inner.error), f"the layer turns {inner.error!r} into {outer.error!r}"
