"""Archives and disk images read in place over HTTP: what that costs by the log, and how it breaks."""

from __future__ import annotations

import io
import random
import tarfile
import threading
import zipfile

import pycdlib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgstore.errors import (
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    RetriesExhaustedError,
    UnpinnableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.files import BLOCK, open_image
from imgstore.model import Call, CancelToken
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import IMAGE, OTHER, PATH, N, later

KI = 1 << 10
MI = 1 << 20
MEMBERS = {f"part{number}.bin": random.Random(number).randbytes(200 * KI + number) for number in range(20)}

rig = rows.rig


def opened(rig, **options):
    store, key = rig.store(**options.pop("store", {}))
    return open_image(store, key, **options)


def read_at(file, offset, size):
    file.seek(offset)
    data = file.read(size)
    assert data == IMAGE[offset : offset + size]


def cut(rig, data, times=6):
    """Cuts the first connection that comes by each of some places in `data`."""
    for at in range(BLOCK // 2, len(data), len(data) // times):
        rig.server.trap(PATH, wire.Cut(at=at))


def zipped():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return target.getvalue()


def tarred():
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in MEMBERS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def burnt():
    iso, target = pycdlib.PyCdlib(), io.BytesIO()
    iso.new(joliet=3)
    for name, data in MEMBERS.items():
        iso.add_fp(
            io.BytesIO(data), len(data), f"/{name.upper().replace('.BIN', '')};1", joliet_path=f"/{name}"
        )
    iso.write_fp(target)
    iso.close()
    return target.getvalue()


def unzip(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def untar(file):
    with tarfile.open(fileobj=file) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}


def unburn(file):
    iso, found = pycdlib.PyCdlib(), {}
    iso.open_fp(file)
    for child in iso.list_children(joliet_path="/"):
        if child.is_file():
            name = child.file_identifier().decode("utf-16_be")
            target = io.BytesIO()
            iso.get_file_from_iso_fp(target, joliet_path=f"/{name}")
            found[name] = target.getvalue()
    iso.close()
    return found


# The most requests for reading all of it, with nothing in the way: one or two for each member of 200 KiB.
FORMATS = {"zip": (zipped, unzip, 30), "tar": (tarred, untar, 10), "iso": (burnt, unburn, 30)}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("buffered", [False, True], ids=["raw", "buffered"])
@pytest.mark.parametrize("broken", [False, True], ids=["calm", "cuts"])
def test_archives_are_read_in_place(rig, kind, buffered, broken):
    build, take, most = FORMATS[kind]
    data = build()
    rig.put(data)
    if broken:
        cut(rig, data)
    with opened(rig) as file:
        assert take(io.BufferedReader(file) if buffered else file) == MEMBERS
    assert rig.requests <= most + 6 * broken
    assert rig.counted("refetched") == 0
    assert rig.sent <= len(data) * 1.25
    assert (len(rig.clock.pauses) > 0) is broken


def test_listing_a_zip_costs_two_requests(rig):
    data = zipped()
    rig.put(data)
    with opened(rig) as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == list(MEMBERS)
    assert rig.spans == [(0, BLOCK), (len(data) - BLOCK, len(data))]


def test_listing_a_tar_leaves_its_data_where_it_is(rig):
    data = tarred()
    rig.put(data)
    with opened(rig) as file, tarfile.open(fileobj=file) as archive:
        assert archive.getnames() == list(MEMBERS)
    # a header costs a block, since the data between two is more than what is skipped
    assert rig.requests <= len(MEMBERS) + 2
    assert rig.sent <= (len(MEMBERS) + 2) * BLOCK


def test_what_is_no_archive_is_told_so(rig):
    rig.put(b"short")
    with opened(rig) as file:
        assert not zipfile.is_zipfile(file)
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(file)
        file.seek(0)
        with pytest.raises(tarfile.ReadError):
            tarfile.open(fileobj=file).close()


def test_a_thousand_reads_in_sequence_cost_a_few_requests_and_each_byte_once(rig):
    rig.put(IMAGE[: 4 * MI])
    with opened(rig) as file:
        for at in range(0, 4 * MI, 4 * KI):
            assert file.read(4 * KI) == IMAGE[at : at + 4 * KI]
        assert file.read(4 * KI) == b""
    assert rig.requests == 9
    assert rig.sent == 4 * MI
    assert rig.log.connections == 1


def test_a_hundred_small_reads_at_random_cost_a_block_each_and_one_connection(rig):
    with opened(rig) as file:
        for _ in range(2):
            for block in random.Random(3).sample(range(2, N // MI * 8), 25):
                read_at(file, block * 128 * KI + 77, 4 * KI)
    assert rig.requests == 51
    assert rig.sent == 51 * BLOCK
    assert rig.log.connections == 1


def test_large_reads_at_random_cost_exactly_what_they_ask(rig):
    with opened(rig) as file:
        for offset in (2 * MI, 0, 3 * MI, MI):
            read_at(file, offset, MI)
    assert rig.spans == [(0, BLOCK), (2 * MI, 3 * MI), (BLOCK, MI), (3 * MI, 4 * MI), (MI, 2 * MI)]


def test_clusters_as_of_a_disk_image(rig):
    """64 KiB at a time, mostly in sequence with jumps to tables: no byte of the sequence is fetched twice."""
    with opened(rig) as file:
        for offset in range(0, 2 * MI, 64 * KI):
            read_at(file, offset, 64 * KI)
    assert rig.sent <= 4 * MI
    assert rig.requests <= 8


def test_two_files_of_a_store_with_one_stream_do_not_wait_for_each_other(rig):
    store, key = rig.store(max_streams=1)
    with open_image(store, key) as one, open_image(store, key) as other:
        for at in range(0, MI, 10_000):
            assert one.read(10_000) == other.read(10_000) == IMAGE[at : at + 10_000]


@pytest.mark.parametrize("fault", [wire.Cut, wire.Reset])
def test_a_break_costs_one_request_and_no_byte(rig, fault):
    rig.server.trap(PATH, fault(at=2 * MI))
    with opened(rig) as file:
        read_at(file, MI, 2 * MI)
    assert rig.spans == [(0, BLOCK), (MI, 2 * MI), (2 * MI, 3 * MI)]


def test_a_stall_is_left_behind(rig):
    rig.server.trap(PATH, wire.Stall(at=2 * MI))
    with opened(rig, store={"stall_timeout": 0.3}) as file:
        read_at(file, MI, 2 * MI)
    assert rig.sent == BLOCK + 2 * MI
    assert [each.kind for each in rig.events].count("stalled") == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 64), st.integers(1, 3), st.booleans()), min_size=1, max_size=12))
def test_disk_like_reads_over_a_line_that_breaks(rig, reads):
    """Clusters of 64 KiB at random, some with a cut in the middle."""
    with opened(rig) as file:
        for cluster, count, breaks in reads:
            offset = cluster * 64 * KI
            if breaks:
                rig.server.trap(PATH, wire.Cut(at=offset + 1000))
            read_at(file, offset, count * 64 * KI)


def test_an_image_replaced_between_two_reads(rig):
    with opened(rig) as file:
        read_at(file, 0, 100)
        rig.put(OTHER, etag='"v2"')
        file.seek(MI)
        for _ in range(2):
            with pytest.raises(VersionChangedError):
                file.read(100)
        requests = rig.requests
        file.seek(0)
        with pytest.raises(VersionChangedError):
            file.read(1)
        assert rig.requests == requests == 2


def test_an_image_replaced_in_mid_read(rig):
    # The reply goes on with the bytes it began with; what comes after the cut is another image.
    rig.script(None, (wire.Cut(at=2 * MI),), then=rows.refused(wire.Swap(OTHER, etag='"v2"')))
    buffer = bytearray(2 * MI)
    with opened(rig) as file:
        file.seek(MI)
        with pytest.raises(VersionChangedError):
            file.readinto(buffer)
        assert file.tell() == MI
    assert bytes(buffer) == IMAGE[MI : 2 * MI] + bytes(MI)


def test_a_server_that_ignores_the_precondition(rig):
    rig.script(None, then=rows.refused(wire.Swap(OTHER, etag='"v2"'), wire.IgnoreIfMatch()))
    with opened(rig) as file:
        file.seek(MI)
        with pytest.raises(VersionChangedError):
            file.read(100)


def test_a_server_that_keeps_the_etag_of_an_image_of_another_size(rig):
    with opened(rig) as file:
        rig.put(OTHER + b"more")
        file.seek(MI)
        with pytest.raises(VersionChangedError, match="under one version"):
            file.read(100)


def test_an_image_that_is_gone(rig):
    with opened(rig) as file:
        rig.server.remove(PATH)
        file.seek(MI)
        with pytest.raises(NotFoundError):
            file.read(100)
    with pytest.raises(NotFoundError):
        opened(rig)


def test_without_a_validator_there_is_no_file(rig):
    rig.put(etag=None)
    with pytest.raises(UnpinnableError):
        opened(rig)


def test_without_a_length_there_is_no_file(rig):
    rig.script(then=(wire.NoRanges(), wire.NoLength()))
    with pytest.raises(UnsupportedError, match="length"):
        opened(rig)


def test_a_server_without_ranges_is_skipped_through(rig):
    rig.script(then=wire.NoRanges())
    with opened(rig) as file:
        read_at(file, MI, 100)
        read_at(file, 3 * MI, 5000)
    assert all(each.status == 200 for each in rig.exchanges)


def test_a_server_that_gives_up(rig):
    with opened(rig) as file:
        rig.script(then=wire.Status(503))
        file.seek(MI)
        for _ in range(2):
            with pytest.raises(RetriesExhaustedError):
                file.read(100)
        assert rig.requests == 1 + rows.TRIES


def test_the_deadline_ends_a_read_that_waits(rig):
    rig.server.trap(PATH, wire.Stall(at=MI))
    with opened(rig, call=Call().within(1)) as file:
        file.seek(MI)
        for _ in range(2):
            with pytest.raises(DeadlineExceededError):
                file.read(100)


@pytest.mark.parametrize("way", ["cancel", "close"])
def test_a_read_that_waits_is_called_off_from_another_thread(rig, way):
    token = CancelToken()
    rig.server.trap(PATH, wire.Stall(at=MI))
    with opened(rig, call=Call(cancel=token)) as file:
        file.seek(MI)
        timer = later(0.2, token.cancel if way == "cancel" else file.close)
        with pytest.raises(OperationCancelledError):
            file.read(100)
        timer.join()


def test_many_files_in_many_threads(rig):
    store, key = rig.store(max_streams=2)
    for at in range(100_000, N, 500_000):
        rig.server.trap(PATH, wire.Cut(at=at))
    wrong = []

    def work(seed):
        places = random.Random(seed)
        with open_image(store, key) as file:
            for _ in range(20):
                offset = places.randrange(N)
                file.seek(offset)
                if file.read(30_000) != IMAGE[offset : offset + 30_000]:
                    wrong.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
