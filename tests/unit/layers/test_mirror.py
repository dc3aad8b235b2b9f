"""The mirror: which leg serves, when another goes on, and what proves that it may."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    ImgstoreError,
    ManifestError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    StalledError,
    TimedOutError,
    VersionChangedError,
)
from imgstore.layers.limit import LimitLayer
from imgstore.layers.mirror import Leg, Mirror
from imgstore.layers.verify import VerifyLayer
from imgstore.model import ANY, Call, CancelToken
from imgstore.testing.conformance._place import WatchedStore
from imgstore.testing.faults import Fault, Kind, SimClock, SimStore
from tests.manifests import Given, manifest_of
from tests.unit.layers.scripted import DATA, Attempt, Clock, ScriptedStore

KEY = "disk"
SHA256 = {"sha256": hashlib.sha256(DATA).hexdigest()}
TOKEN = f"sha256:{SHA256['sha256']}"
GOOD = Attempt(digests=SHA256)
LOST = ConnectionLostError("the peer hung up", request_id="req-7")
AT = 100_001
OTHER = bytes(len(DATA))


def broken(at=AT, error=LOST):
    return Attempt(at=at, error=error, digests=SHA256)


def refused(error=LOST):
    return Attempt(refuse=error)


class Rig:
    """A mirror of scripted stores `a`, `b`, `c`, on one clock, with what it told."""

    def __init__(self, *scripts, priorities=None, **options):
        self.clock = Clock()
        self.stores = [ScriptedStore(*script) for script in scripts]
        self.told = []
        for store, name in zip(self.stores, "abc", strict=False):
            store.store_id, store.clock = name, self.clock
        priorities = priorities or range(1, len(scripts) + 1)
        legs = [Leg(store, priority=number) for store, number in zip(self.stores, priorities, strict=True)]
        self.mirror = Mirror(legs, clock=self.clock, observe=self.told.append, **options)

    def read(self, offset=0, length=None, *, piece=10_000, **options):
        with self.mirror.get(KEY, offset, length, **options) as stream:
            return b"".join(bytes(view) for view in stream.chunks(piece))

    def fails(self, kind, **options):
        """Reads, expecting an error of exactly `kind`."""
        with pytest.raises(kind) as raised:
            self.read(**options)
        assert type(raised.value) is kind
        return raised.value

    @property
    def asked(self):
        """Where each request to each leg began."""
        return [[start for start, *_ in store.asked] for store in self.stores]

    @property
    def open(self):
        return [raw for store in self.stores for raw in store.raws if not raw.closed]

    def sources(self):
        return [(event.store, event.offset) for event in self.told if event.kind == "source"]


def test_the_first_priority_serves_alone():
    rig = Rig([GOOD], [GOOD], [GOOD], priorities=[3, 1, 2])
    assert rig.read() == DATA
    assert rig.asked == [[], [0], []]
    assert rig.sources() == [("b", 0)]


BREAKS = [
    LOST,
    RetriesExhaustedError("enough"),
    StalledError("a trickle"),
    DigestMismatchError("chunk 7", chunks=(7,)),
    NotFoundError("gone"),
    VersionChangedError("replaced"),
    AuthenticationError("who are you"),
]


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_the_next_leg_goes_on_at_the_byte(error):
    rig = Rig([broken(error=error)], [GOOD])
    assert rig.read() == DATA
    assert rig.asked == [[0], [AT]]
    assert rig.sources() == [("a", 0), ("b", AT)]
    assert not rig.open


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_a_leg_that_does_not_open_is_passed_over(error):
    rig = Rig([refused(error)], [GOOD])
    assert rig.read(1000, 5000) == DATA[1000:6000]
    assert rig.asked == [[1000], [1000]]
    assert rig.mirror.stat(KEY).version == TOKEN


def test_a_splice_stays_in_the_range():
    rig = Rig([broken()], [GOOD])
    assert rig.read(AT - 5, 10) == DATA[AT - 5 : AT + 5]
    assert [store.asked[0][:2] for store in rig.stores] == [(AT - 5, AT + 5), (AT, AT + 5)]


def test_events_say_who_did_what():
    rig = Rig([broken()], [refused(NotFoundError("gone"))], [GOOD])
    own = []
    rig.read(call=Call(observe=own.append))
    assert own == rig.told
    told = [(event.kind, event.store, event.offset, type(event.error)) for event in own]
    assert told == [
        ("source", "a", 0, type(None)),
        ("failed", "mirror", AT, ConnectionLostError),
        ("failed", "mirror", AT, NotFoundError),
        ("source", "c", AT, type(None)),
        ("resumed", "mirror", AT, ConnectionLostError),
    ]
    assert [event.error.store for event in own if event.kind == "failed"] == ["a", "b"]
    assert own[-1].attempt == 3
    assert {event.key for event in own} == {KEY}


def test_a_failed_stat_is_told_as_one():
    rig = Rig([refused()], [GOOD])
    assert rig.mirror.stat(KEY).size == len(DATA)
    (event,) = rig.told
    assert (event.kind, event.operation, event.opening) == ("failed", "stat", False)


def test_a_change_of_legs_is_logged_once_a_second(caplog):
    rig = Rig([broken()], [broken(2 * AT)], [GOOD])
    rig.read()
    warned = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    said = f"store mirror: get of 'disk' leaves a at offset {AT} after ConnectionLostError: the peer hung up"
    assert warned == [f"{said} (request id req-7)"]


class TestIdentity:
    def test_of_a_digest(self):
        rig = Rig([GOOD], [GOOD])
        assert rig.mirror.stat(KEY).version == TOKEN
        with rig.mirror.get(KEY) as stream:
            assert (stream.info.version, stream.info.key, dict(stream.info.digests)) == (TOKEN, KEY, SHA256)
        assert rig.read(version=TOKEN) == DATA
        assert rig.stores[0].asked[-1] == (0, None, None)

    @pytest.mark.parametrize("name", ["sha384", "sha512"])
    def test_of_a_stronger_digest(self, name):
        digests = {"md5": "0" * 32, name: hashlib.new(name, DATA).hexdigest()}
        rig = Rig([Attempt(at=AT, error=LOST, digests=digests)], [Attempt(digests=digests)])
        assert rig.read() == DATA
        assert rig.mirror.stat(KEY).version == f"{name}:{digests[name]}"

    def test_of_a_weak_digest_there_is_none(self):
        weak = {"md5": hashlib.md5(DATA).hexdigest(), "sha1": hashlib.sha1(DATA).hexdigest()}
        rig = Rig([Attempt(at=AT, error=LOST, digests=weak)], [Attempt(digests=weak)])
        rig.fails(ConnectionLostError)
        assert rig.asked == [[0], []]

    def test_without_proof_a_read_stays_with_its_leg(self):
        rig = Rig([refused()], [Attempt(at=AT, error=LOST)], [Attempt()])
        error = rig.fails(ConnectionLostError)
        assert rig.asked == [[0], [0], []]
        assert error.offset == AT

    def test_without_proof_the_version_is_the_legs(self):
        rig = Rig([refused(), Attempt()], [Attempt(version="w1")])
        version = rig.mirror.stat(KEY).version
        assert version == "b:w1"
        rig.clock.elapsed += 100  # the first is back, and not asked
        assert rig.read(version=version) == DATA
        assert rig.stores[1].asked[-1] == (0, None, "w1")
        assert rig.asked[0] == [0]
        with rig.mirror.get(KEY, version=version) as stream:
            assert stream.info.version == version

    def test_without_a_version_there_is_none(self):
        rig = Rig([Attempt(version=None)])
        assert rig.mirror.stat(KEY).version is None
        assert rig.read() == DATA

    def test_a_legs_version_may_hold_a_colon(self):
        rig = Rig([Attempt(version="a:b:c")])
        assert rig.read(version="a:a:b:c") == DATA
        assert rig.stores[0].asked == [(0, None, "a:b:c")]

    def test_a_legs_name_may_hold_one_too(self):
        stores = [ScriptedStore(refused()), ScriptedStore(Attempt(version="b:c"))]
        names = ["http://h/a", "http://h/a:b"]
        mirror = Mirror([Leg(store, name=name) for store, name in zip(stores, names, strict=True)])
        version = mirror.stat(KEY).version
        with mirror.get(KEY, version=version) as stream:
            assert stream.read() == DATA
        assert stores[1].asked[-1] == (0, None, "b:c")

    def test_a_legs_version_is_held_to_where_there_is_a_digest_as_well(self):
        rig = Rig([broken()], [GOOD])
        with rig.mirror.get(KEY, version="a:v1") as stream:
            assert stream.info.version == "a:v1"
            with pytest.raises(ConnectionLostError):
                stream.read()
        assert rig.stores[0].asked == [(0, None, "v1")]
        assert rig.asked[1] == []

    @pytest.mark.parametrize("version", ["c:v1", "v1", "", "a", "sha1:00"])
    def test_a_version_that_is_none_of_the_mirrors(self, version):
        rig = Rig([Attempt(version="")], [Attempt()])
        rig.fails(VersionChangedError, version=version)
        assert rig.asked == [[], []]

    def test_another_digest_is_another_version(self):
        other = Attempt(digests={"sha256": "0" * 64})
        rig = Rig([other], [Attempt()], [GOOD])
        assert rig.read(version=TOKEN) == DATA
        assert rig.asked == [[0], [0], [0]]
        rig = Rig([other], [Attempt()])
        error = rig.fails(VersionChangedError, version=TOKEN)
        assert "a holds another image: its digest is another, or not told" in str(error)
        assert not rig.open

    @pytest.mark.parametrize(
        "other, why",
        [
            (Attempt(data=DATA + b"x", digests=SHA256), "it has 262145 bytes, not 262144"),
            (Attempt(digests={"sha256": "0" * 64}), "it has another digest"),
            (Attempt(digests={**SHA256, "md5": "1" * 32}), "it has another digest"),
            (Attempt(digests={"sha512": "0" * 128}), "its digest is another, or not told"),
            (Attempt(), "its digest is another, or not told"),
        ],
    )
    def test_a_leg_with_another_image_is_passed_over(self, other, why):
        first = replace(broken(), digests={**SHA256, "md5": "0" * 32})
        rig = Rig([first], [other], [replace(GOOD, digests={**SHA256, "md5": "0" * 32})])
        assert rig.read() == DATA
        (failed,) = [event.error for event in rig.told if isinstance(event.error, VersionChangedError)]
        assert str(failed) == f"b holds another image: {why}"
        assert rig.asked == [[0], [AT], [AT]]

    def test_any_version_will_do_for_who_proves_the_bytes(self):
        rig = Rig([Attempt(at=AT, error=LOST)], [Attempt(data=DATA + b"x")], [Attempt(version="other")])
        assert rig.read(version=ANY) == DATA
        assert rig.asked == [[0], [AT], [AT]]
        assert rig.stores[2].asked == [(AT, len(DATA), ANY)]

    def test_an_unknown_size_is_never_spliced(self):
        unknown = Attempt(size=None, digests=SHA256, at=AT, error=LOST)
        rig = Rig([unknown], [GOOD])
        assert rig.fails(ConnectionLostError).offset == AT
        assert rig.asked == [[0], []]


class TestManifest:
    MANIFEST = manifest_of(DATA, 5000, key=KEY, digests=SHA256)
    ELSEWHERE = replace(MANIFEST, version="of the store it was made in")

    def test_is_the_version(self):
        rig = Rig([broken()], [Attempt()], manifest=self.ELSEWHERE)
        assert rig.read(version=self.MANIFEST.pin) == DATA
        assert rig.mirror.stat(KEY).version == self.MANIFEST.pin
        assert rig.asked[1][0] == AT
        rig.fails(VersionChangedError, version=TOKEN)

    def test_has_one_key(self):
        rig = Rig([GOOD], manifest=self.MANIFEST)
        for call in (rig.mirror.get, rig.mirror.stat):
            with pytest.raises(NotFoundError, match="has the one image 'disk', not 'other'"):
                call("other")
        assert rig.asked == [[]]

    @pytest.mark.parametrize(
        "attempt, why",
        [
            (Attempt(digests={"sha256": "0" * 64}), "is of another image: its sha256 is another"),
            (Attempt(data=DATA[1:]), "is of another image: that has 262144 bytes, the leg's 262143"),
        ],
    )
    def test_is_of_the_image_that_a_leg_serves(self, attempt, why):
        rig = Rig([attempt], [GOOD], manifest=self.MANIFEST)
        assert rig.read() == DATA
        rig = Rig([attempt], manifest=self.MANIFEST)
        assert why in str(rig.fails(ManifestError))
        assert not rig.open

    def test_tells_what_is_zeros(self):
        data = DATA[:10_000] + bytes(20_000) + DATA[30_000:]
        manifest = manifest_of(data, 5000, key=KEY)
        store = ScriptedStore(Attempt(data=data))
        mirror = Mirror([Leg(store)], manifest=manifest)

        def told(**options):
            found = mirror.extents.extents(KEY, **options)
            return [(each.range.start, each.range.stop, each.kind) for each in found]

        zeros = (10_000, 30_000, "zero")
        assert told() == [(0, 10_000, "data"), zeros, (30_000, len(data), "data")]
        assert told(start=12_345, stop=30_001, version=manifest.pin) == [
            (12_345, 30_000, "zero"),
            (30_000, 30_001, "data"),
        ]
        with pytest.raises(VersionChangedError):
            told(version="a:v1")
        with pytest.raises(RangeNotSatisfiableError):
            told(start=len(data))
        with pytest.raises(NotFoundError):
            mirror.extents.extents("other")
        assert not store.asked
        mirror.close()
        with pytest.raises(ValueError, match="is closed"):
            told()

    def test_alone_tells_what_is_zeros(self):
        assert Rig([GOOD], [GOOD]).mirror.extents is None
        assert Rig([GOOD], [GOOD], manifest=self.MANIFEST).mirror.extents is None

    def test_of_the_bytes_goes_on_behind_a_digest_of_the_whole(self):
        wrong = DigestMismatchError("the store's digest of the whole is wrong")
        rig = Rig([broken(error=wrong)], [GOOD], manifest=self.MANIFEST)
        assert rig.read() == DATA

    @pytest.mark.parametrize(
        "second, spliced",
        [
            (manifest_of(DATA, 5000, version="v1", key="x", digests=SHA256), True),
            (manifest_of(DATA, 5000, version="another", digests=SHA256), False),
            (manifest_of(DATA, 6000), False),
            (manifest_of(OTHER, 5000), False),
            (None, False),
        ],
    )
    def test_of_each_leg_proves_them_equal_where_it_is_equal(self, second, spliced):
        rig = Rig([broken()], [GOOD])
        layers = [
            VerifyLayer(store, Given({KEY: each}), required=each is not None)
            for store, each in zip(rig.stores, [self.MANIFEST, second], strict=True)
        ]
        rig.mirror = Mirror([Leg(layer, manifest=layer.manifest) for layer in layers], clock=rig.clock)
        assert rig.mirror.stat(KEY).version == self.MANIFEST.pin
        if spliced:
            assert rig.read() == DATA
            assert rig.asked[1] == [AT // 5000 * 5000]
        else:
            rig.fails(RetriesExhaustedError)

    def test_is_what_the_stream_is_read_by_and_not_what_came_meanwhile(self):
        rig = Rig([broken()], [GOOD])
        given, opening = Given({}), rig.stores[0]._open

        def _open(*arguments):
            given.manifests[KEY] = self.MANIFEST
            return opening(*arguments)

        rig.stores[0]._open = _open
        layer = VerifyLayer(rig.stores[0], given)
        second = VerifyLayer(rig.stores[1], Given({KEY: self.MANIFEST}), required=True)
        legs = [Leg(each, manifest=each.manifest) for each in (layer, second)]
        rig.mirror = Mirror(legs, clock=rig.clock)
        with rig.mirror.get(KEY) as stream:
            assert stream.info.version == TOKEN
            with pytest.raises(RetriesExhaustedError):
                stream.read()
        assert rig.mirror.stat(KEY).version == self.MANIFEST.pin

    def test_bad_chunks_of_all_legs_are_named(self):
        stores = [WatchedStore() for _ in "abc"]
        for store, name, at in zip(stores, "abc", (9, 7, 8), strict=True):
            store.store_id = name
            image = bytearray(DATA)
            image[at * 5000] ^= 1
            image[6 * 5000] ^= name == "b"
            store.writer.put(KEY, io.BytesIO(image))
        layers = [VerifyLayer(store, Given({KEY: self.MANIFEST}), required=True) for store in stores]
        mirror = Mirror([Leg(layer) for layer in layers], manifest=self.MANIFEST)
        with mirror.get(KEY) as stream:
            assert stream.read() == DATA
        stores[2].writer.delete(KEY)
        for store in stores[:2]:
            store.writer.put(KEY, io.BytesIO(DATA[:-1] + b"x"), overwrite=True)
        mirror = Mirror([Leg(layer) for layer in layers[:2]], manifest=self.MANIFEST)
        with mirror.get(KEY) as stream:
            with pytest.raises(DigestMismatchError) as caught:
                stream.read()
            assert stream.delivered == len(DATA) // 5000 * 5000
        assert caught.value.chunks == (52,)
        assert [store.now_open for store in stores] == [0, 0, 0]


class TestWholeDigest:
    """A leg that begins or ends in mid-image cannot compare the digest of the whole: the mirror does."""

    def test_covers_the_splice(self):
        bent = bytearray(DATA)
        bent[-1] ^= 1
        rig = Rig([broken()], [Attempt(data=bytes(bent), digests=SHA256)], [GOOD])
        error = rig.fails(DigestMismatchError)
        assert str(error).endswith("do not have the sha256 that was promised; they came from a, b")
        assert error.offset == 0
        # nobody knows which of them it was
        assert rig.read() == DATA
        assert rig.asked == [[0], [AT], [0]]

    def test_found_wrong_by_a_leg_condemns_what_that_has_given(self):
        wrong = DigestMismatchError("the bytes do not have the digest")
        rig = Rig([broken(error=wrong)], [GOOD])
        error = rig.fails(DigestMismatchError)
        assert (error.offset, error.__cause__) == (0, wrong)
        assert rig.asked == [[0], []]

    def test_found_wrong_before_anything_was_given_does_not(self):
        wrong = DigestMismatchError("the bytes do not have the digest")
        rig = Rig([broken(at=0, error=wrong)], [GOOD])
        assert rig.read() == DATA

    def test_is_the_callers_business_under_any_version_and_the_legs_where_there_is_but_one(self):
        bent = DATA[:-1] + b"x"
        rig = Rig([broken()], [Attempt(data=bent, digests=SHA256)])
        assert rig.read(version=ANY) == bent
        assert Rig([Attempt(data=bent, digests=SHA256)]).read() == bent

    def test_is_not_asked_of_a_part(self):
        bent = b"x" + DATA[1:]
        rig = Rig([Attempt(data=bent, digests=SHA256)], [GOOD])
        assert rig.read(1) == DATA[1:]
        assert rig.read(0, 10) == bent[:10]
        rig.fails(DigestMismatchError)


class TestVerdict:
    def test_names_each_leg_and_its_error(self):
        rig = Rig([refused()], [refused(PermissionDeniedError("no"))], [refused(NotFoundError("none"))])
        error = rig.fails(RetriesExhaustedError)
        assert str(error) == (
            "no leg of the mirror could serve 'disk': a: ConnectionLostError: the peer hung up; "
            "b: PermissionDeniedError: no; c: NotFoundError: none"
        )
        assert type(error.__cause__) is NotFoundError
        assert (error.key, error.store, error.attempts) == (KEY, "mirror", 3)

    @pytest.mark.parametrize(
        "kinds, expected",
        [
            ([NotFoundError, NotFoundError], NotFoundError),
            ([NotFoundError, PermissionDeniedError], PermissionDeniedError),
            ([AuthenticationError, NotFoundError], AuthenticationError),
            ([RangeNotSatisfiableError] * 2, RangeNotSatisfiableError),
            ([ManifestError, NotFoundError], ManifestError),
            ([StalledError, ConnectionLostError], RetriesExhaustedError),
            ([ConnectionLostError] * 2, ConnectionLostError),
        ],
    )
    def test_has_the_class_that_says_most(self, kinds, expected):
        rig = Rig(*([refused(kind("why"))] for kind in kinds))
        rig.fails(expected)
        with pytest.raises(expected):
            rig.mirror.stat(KEY)

    def test_of_one_leg_is_that_legs(self):
        error = Rig([refused()]).fails(ConnectionLostError)
        assert (str(error), error.store, error.request_id) == ("the peer hung up", "mirror", "req-7")
        assert error.__cause__ is LOST

    def test_causes_are_the_last(self):
        last = TimedOutError("at the end")
        rig = Rig([broken(), refused(last)], [broken(2 * AT)])
        error = rig.fails(RetriesExhaustedError)
        assert error.__cause__ is last
        assert error.offset == 2 * AT


class TestTries:
    def test_are_two_of_a_leg(self):
        step = 10_000
        rig = Rig(*([broken(number * step) for number in range(first, 99, 2)] for first in (1, 2)))
        error = rig.fails(ConnectionLostError)
        assert rig.asked == [[0, 2 * step], [step, 3 * step]]
        assert error.offset == 4 * step

    def test_are_not_two_without_progress(self):
        rig = Rig([broken()], [refused()])
        rig.fails(ConnectionLostError)
        assert rig.asked == [[0], [AT]]

    def test_go_round_before_they_come_again(self):
        rig = Rig([refused(NotFoundError("none"))], [broken(1000)], [GOOD])
        assert rig.read() == DATA
        assert rig.asked == [[0], [0], [1000]]


class TestRest:
    def test_doubles_from_half_a_minute_to_ten(self):
        rig = Rig([refused()], [GOOD])
        for rest in (30, 60, 120, 240, 480, 600, 600):
            rig.read(0, 1)
            before = len(rig.stores[0].asked)
            rig.clock.elapsed += rest - 1
            rig.read(0, 1)
            assert len(rig.stores[0].asked) == before
            rig.clock.elapsed += 1
        rig.read(0, 1)
        assert len(rig.stores[0].asked) == before + 1

    def test_ends_when_the_leg_has_healed(self):
        rig = Rig([refused(), GOOD, refused(), GOOD], [GOOD])
        for _ in range(2):  # the second rest is as short as the first
            assert rig.read() == DATA
            rig.clock.elapsed += 31
            assert rig.read() == DATA
        assert rig.asked == [[0, 0, 0, 0], [0, 0]]

    @pytest.mark.parametrize("sign", ["read", "close", "stat"])
    def test_ends_with_the_least_sign_of_life(self, sign):
        rig = Rig([refused(), GOOD, refused(), GOOD], [GOOD])
        for _ in range(2):
            rig.read(0, 1)
            rig.clock.elapsed += 31
            if sign == "stat":
                rig.mirror.stat(KEY)
            else:
                with rig.mirror.get(KEY, 0, 10 if sign == "read" else None) as stream:
                    stream.read(10)
        assert rig.asked == [[0, 0, 0, 0], [0, 0]]

    def test_is_kept_by_others_while_one_call_tries(self):
        rig = Rig([refused(), GOOD], [GOOD])
        rig.read()
        rig.clock.elapsed += 31
        with rig.mirror.get(KEY) as trying:
            rig.read()
            assert rig.asked == [[0, 0], [0, 0]]
            assert len([event for event in rig.told if event.kind == "failed"]) == 1
            trying.read()
        rig.read()
        assert rig.asked == [[0, 0, 0], [0, 0]]

    def test_grows_where_a_leg_gives_little_before_it_fails(self):
        rig = Rig([broken(100)], [GOOD])
        for _ in range(2):
            rig.read()
            rig.clock.elapsed += 31
        rig.read()
        assert rig.asked[0] == [0, 0]
        rig.clock.elapsed += 30
        rig.read()
        assert rig.asked[0] == [0, 0, 0]

    def test_starts_anew_where_a_leg_gave_much(self):
        rig = Rig([broken()], [GOOD])
        for _ in range(4):
            rig.read()
            rig.clock.elapsed += 31
        assert rig.asked[0] == [0, 0, 0, 0]

    @pytest.mark.parametrize("kind", [NotFoundError, VersionChangedError, RangeNotSatisfiableError])
    def test_is_not_for_what_is_about_one_image(self, kind):
        rig = Rig([refused(kind("this one")), GOOD], [GOOD])
        rig.read()
        rig.read()
        assert rig.asked == [[0, 0], [0]]

    def test_is_broken_when_all_others_have_failed(self):
        rig = Rig([refused(), GOOD], [GOOD, refused()])
        assert rig.read() == rig.read() == DATA
        assert rig.asked == [[0, 0], [0, 0]]

    def test_is_of_who_lies(self):
        rig = Rig([broken(error=DigestMismatchError("chunk 1", chunks=(1,)))], [GOOD])
        rig.read()
        rig.read()
        assert rig.asked == [[0], [AT, 0]]


class TestSpeed:
    def rig(self, *seconds, **options):
        scripts = [[replace(GOOD, each=10_000, seconds=each)] for each in seconds]
        return Rig(*scripts, priorities=[1] * len(seconds), **options)

    def test_chooses_among_equals_once_each_was_measured(self):
        rig = self.rig(0.2, 0.01, 0.1)
        for _ in range(10):
            assert rig.read() == DATA
        assert [len(asked) for asked in rig.asked] == [1, 8, 1]

    def test_never_goes_before_priority(self):
        rig = Rig([replace(GOOD, each=10_000, seconds=1)], [GOOD])
        rig.read()
        rig.read()
        assert rig.asked == [[0, 0], []]

    def test_is_measured_anew_when_it_is_long_ago(self):
        rig = self.rig(0.2, 0.01)
        for _ in range(3):
            rig.read()
        rig.clock.elapsed += 601
        rig.stores[0].attempts = [replace(GOOD, each=10_000, seconds=0.001)]
        rig.read()
        rig.read()
        rig.read(0, 1)
        assert [len(asked) for asked in rig.asked] == [3, 3]

    def test_follows_what_changes(self):
        rig = self.rig(0.02, 0.01)
        for _ in range(3):
            rig.read()
        rig.stores[1].attempts = [replace(GOOD, each=10_000, seconds=0.5)]
        for _ in range(3):
            rig.read()
        assert [len(asked) for asked in rig.asked] == [3, 3]

    def test_counts_failures_against_it(self):
        rig = self.rig(0.0125, 0.01)  # with a failing receive, b is a little faster still
        rig.read()
        rig.stores[1].attempts = [replace(broken(), each=10_000, seconds=0.01), rig.stores[1].attempts[0]]
        rig.read()
        rig.clock.elapsed += 31
        rig.read()
        assert rig.asked[0] == [0, AT, 0]

    def test_does_not_count_what_we_were_held_back(self):
        rig = Rig([GOOD], [replace(GOOD, each=10_000, seconds=0.01)], priorities=[1, 1])
        held = Held(rig.clock)
        mirror = Mirror([Leg(held), Leg(rig.stores[1])], clock=rig.clock)
        for _ in range(5):
            with mirror.get(KEY) as stream:
                stream.read()
        assert len(rig.stores[1].asked) == 1
        with mirror.get(KEY) as stream:
            stream.read(20_000)
            assert stream.held == pytest.approx(2.0)


class Held(ScriptedStore):
    """Gives 10,000 bytes at once, each time after it was held back for a second on our side."""

    def __init__(self, clock):
        super().__init__(replace(GOOD, each=10_000, seconds=0.001))
        self.store_id, self.clock = "held", clock

    def _open(self, *args):
        opened = super()._open(*args)
        raw, inner = opened.raw, opened.raw.readinto
        raw.held = 0.0

        def readinto(buffer):
            self.clock.elapsed += 1
            raw.held += 1
            return inner(buffer)

        raw.readinto = readinto
        return opened


def test_held_time_is_summed_over_the_legs():
    clock = Clock()
    first, second = Held(clock), Held(clock)
    second.store_id = "other"
    first.attempts = [replace(broken(), each=10_000)]
    with Mirror([Leg(first), Leg(second)], clock=clock).get(KEY) as stream:
        while stream.readinto(bytearray(10_000)):
            pass
        # 10 receives, one that breaks, and the rest again in pieces of 10,000
        assert stream.held == pytest.approx(11 + 1 + 17)


def test_held_time_of_an_open_that_failed_is_passed_on():
    late = ConnectionLostError("lost")
    late.held = 7.0
    with Rig([refused(late)], [GOOD]).mirror.get(KEY) as stream:
        assert stream.held == 7.0
    assert Rig([refused(late)], [refused(late)]).fails(ConnectionLostError).held == 14.0


def test_one_stream_is_open_at_a_time():
    rig = Rig([broken()], [broken(2 * AT)], [GOOD])
    limit = LimitLayer(rig.stores[0], max_streams=1)
    for store in rig.stores:
        inner = store._open

        def checked(*args, inner=inner):
            assert not rig.open, "another leg's stream is still open"
            return inner(*args)

        store._open = checked
    legs = [Leg(limit, name="a"), Leg(rig.stores[1]), Leg(rig.stores[2])]
    mirror = Mirror(legs, clock=rig.clock)
    with mirror.get(KEY) as stream:
        assert stream.read() == DATA
        assert not rig.open, "at the end of the range the leg is given back"
    with mirror.get(KEY) as stream:
        stream.read(10)
        assert len(rig.open) == 1
    assert not rig.open


def test_an_observer_that_raises_leaves_nothing_open():
    def observe(event):
        if event.kind == "source":
            raise RuntimeError("no")

    rig = Rig([GOOD], [GOOD])
    with pytest.raises(
        PermanentError
    ) as caught:  # and its frames, so that nothing is closed by being dropped
        rig.mirror.get(KEY, call=Call(observe=observe))
    assert caught.value.__cause__
    assert not rig.open


class TestOver:
    """The end of the call ends everything: no leg is asked any more."""

    def test_by_its_deadline(self):
        slow = replace(broken(error=TimedOutError("late")), each=10_000, seconds=1.0)
        rig = Rig([slow], [GOOD])
        error = rig.fails(DeadlineExceededError, call=Call().within(5, clock=rig.clock))
        assert error.offset == 50_000
        rig = Rig([Attempt(refuse=TimedOutError("late"), opening=6.0)], [GOOD])
        error = rig.fails(DeadlineExceededError, call=Call().within(5, clock=rig.clock))
        assert isinstance(error.__cause__, TimedOutError)
        assert rig.asked == [[0], []]
        assert rig.mirror.get(KEY).read(1) == DATA[:1]
        assert rig.asked[0] == [0, 0], "a call that was over makes no leg rest"

    def test_but_not_by_a_legs_own(self):
        rig = Rig([broken(error=DeadlineExceededError("the leg's deadline"))], [GOOD])
        assert rig.read(call=Call().within(1000, clock=rig.clock)) == DATA

    def test_by_a_deadline_that_legs_are_told_on_a_clock_that_steps(self):
        rig = Rig([broken()], [GOOD])
        deadline = rig.clock.time() + 100
        rig.stores[0].attempts[0].before = lambda: setattr(rig.clock, "time", lambda: 5_000.0)
        assert rig.read(call=Call(deadline)) == DATA
        assert rig.stores[1].calls[0].deadline == pytest.approx(5_100.0)

    def test_by_a_cancel(self):
        token = CancelToken()
        rig = Rig([broken()], [GOOD])
        rig.stores[0].attempts[0].before = token.cancel
        with pytest.raises(OperationCancelledError):
            rig.read(call=Call(cancel=token))
        assert rig.asked == [[0], []]
        with pytest.raises(OperationCancelledError):
            rig.mirror.stat(KEY, call=Call(cancel=token))

    def test_by_a_cancel_of_the_stream(self):
        rig = Rig([broken()], [GOOD])
        stream = rig.mirror.get(KEY)
        rig.stores[0].attempts[0].before = stream.cancel
        with pytest.raises(OperationCancelledError):
            stream.read()
        assert rig.stores[0].raws[0].aborted
        assert rig.asked == [[0], []]


class TestMaking:
    @pytest.mark.parametrize(
        "names, why",
        [
            ([], "a mirror of no stores"),
            ([""], "cannot be called ''"),
            (["sha256"], "cannot be called 'sha256'"),
            (["a", "b", "a"], "are called a, b, a"),
        ],
    )
    def test_refuses_names(self, names, why):
        legs = [Leg(ScriptedStore(), name=name) for name in names]
        for leg in legs:
            object.__setattr__(leg, "name", leg.name if leg.name != "scripted" else "")
        with pytest.raises(ConfigError, match=why):
            Mirror(legs)

    def test_needs_the_key_of_one_image(self):
        legs = [Leg(ScriptedStore(), key="images/disk.img")]
        with pytest.raises(ConfigError, match="the argument 'key' would do"):
            Mirror(legs)
        with pytest.raises(ConfigError, match="the argument 'key' would do"):
            Mirror([Leg(ScriptedStore())], manifest=manifest_of(DATA, 5000))

    def test_maps_keys(self):
        stores = [WatchedStore(), WatchedStore()]
        for store, name, key in zip(stores, "ab", ("x/1", "y"), strict=True):
            store.store_id = name
            store.writer.put(key, io.BytesIO(DATA))
        mirror = Mirror([Leg(stores[0], "x/1"), Leg(stores[1], "y")], key=KEY)
        assert mirror.stat(KEY).key == KEY
        stores[0].writer.delete("x/1")
        with mirror.get(KEY) as stream:
            assert (stream.read(), stream.info.key) == (DATA, KEY)
        stores[1].writer.delete("y")
        with pytest.raises(NotFoundError) as caught:
            mirror.get(KEY)
        assert caught.value.key == KEY

    def test_does_nothing(self):
        rig = Rig([GOOD], [GOOD])
        assert rig.asked == [[], []]

    def test_closing_it_closes_the_legs(self):
        stores = [WatchedStore(), WatchedStore()]
        Mirror([Leg(store, name=name) for store, name in zip(stores, "ab", strict=True)]).close()
        assert [store.closes for store in stores] == [1, 1]

    def test_closing_it_leaves_what_is_borrowed_open(self):
        store = WatchedStore()
        mirror = Mirror([Leg(store, name="a")], borrowed=True)
        mirror.close()
        assert store.closes == 0
        with pytest.raises(ValueError, match="is closed"):
            mirror.stat(KEY)


def test_many_threads_read_one_mirror():
    class Weak(WatchedStore):
        opened = 0

        def _open(self, key, *args):
            self.opened += 1
            if self.opened % 3:
                raise ConnectionLostError("now and then")
            return super()._open(key, *args)

    stores = [Weak(), Weak(), WatchedStore()]
    for store, name in zip(stores, "abc", strict=True):
        store.store_id = name
        store.writer.put(KEY, io.BytesIO(DATA))
    mirror = Mirror([Leg(store) for store in stores])
    got, errors = [], []

    def work():
        try:
            for _ in range(20):
                with mirror.get(KEY, 17, 5000) as stream:
                    got.append(stream.read())
        except ImgstoreError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert got == [DATA[17:5017]] * 160


FAULTS = st.builds(
    Fault,
    st.sampled_from([kind for kind in Kind if kind is not Kind.OVERSTATED]),
    at=st.none() | st.integers(0, 40_000),
    amount=st.integers(1, 3000),
    flavour=st.integers(0, 3),
)
SIM = bytes(number * 11 % 253 for number in range(30_000))


SWAPPED = bytes(each ^ 255 for each in SIM)


@given(
    scripts=st.lists(st.lists(FAULTS, max_size=4), min_size=3, max_size=3),
    priorities=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    proven=st.booleans(),
    offset=st.integers(0, len(SIM) - 1),
    length=st.none() | st.integers(1, 40_000),
    receive=st.sampled_from([700, 65_536]),
)
def test_any_mixture_of_faults_is_exact_or_an_error(scripts, priorities, proven, offset, length, receive):
    clock = SimClock()
    stores = [
        SimStore([SIM, SWAPPED], script, clock=clock, digests="known" if proven else "none", receive=receive)
        for script in scripts
    ]
    legs = [
        Leg(store, "image", number, name)
        for store, number, name in zip(stores, priorities, "abc", strict=True)
    ]
    told = []
    mirror = Mirror(legs, key=KEY, clock=clock)
    damaged = any(fault.kind is Kind.DAMAGED for script in scripts for fault in script)
    got = bytearray()
    error = None
    try:
        with mirror.get(KEY, offset, length, call=Call(observe=told.append)) as stream:
            for piece in stream.chunks(5000):
                got += piece
                assert sum(store.opened for store in stores) <= 1
    except ImgstoreError as exc:
        error = exc
    whole = error is None
    assert whole or (error.store, error.key) == ("mirror", KEY)
    images = [SIM, SWAPPED] if any(store.log for store in stores) else []
    stop = len(SIM) if length is None else min(len(SIM), offset + length)
    # one image from end to end; what one altered on the way is known only to a digest of the whole
    exact = any(image[offset : offset + len(got)] == got for image in images)
    if proven and offset == 0 and stop == len(SIM) and whole:
        assert exact
    elif not damaged:
        assert exact or not got
    if whole:
        assert len(got) == stop - offset
    assert all(len(store.log) <= 2 for store in stores)
    assert not any(store.opened for store in stores)
