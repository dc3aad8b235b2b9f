"""Memory to receive into."""

import ctypes
import mmap
import os

import pytest

from imgstore.buffer import paged


@pytest.mark.parametrize("size", [1, 4096, 5000, 1 << 20, 5 << 20])
def test_it_begins_with_a_page_and_is_zero(size):
    buffer = paged(size)
    assert (len(buffer), buffer.format, buffer.readonly) == (size, "B", False)
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % mmap.PAGESIZE == 0
    assert not any(buffer[:5000])


def test_a_view_outlives_the_buffer_that_it_was_cut_from():
    with paged(100) as buffer:
        piece = buffer[10:20]
    piece[:] = b"0123456789"
    assert bytes(piece) == b"0123456789"


def test_after_a_fork_each_process_has_its_own():
    buffer = paged(100)
    buffer[:] = b"a" * 100
    told, tell = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.read(wait, 1)
        os.write(tell, buffer)
        os._exit(0)
    buffer[:] = b"b" * 100
    os.write(go, b"x")
    os.waitpid(child, 0)
    assert os.read(told, 200) == b"a" * 100
    for descriptor in (told, tell, wait, go):
        os.close(descriptor)


def test_large_memory_is_of_huge_pages_where_the_kernel_has_any():
    buffer = paged(4 << 20)
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    with open("/proc/self/smaps") as maps:
        told = maps.read().splitlines()
    first = next(at for at, line in enumerate(told) if _holds(line, start))
    flags = next(line for line in told[first:] if line.startswith("VmFlags:")).split()
    assert ("hg" in flags) == os.path.exists("/sys/kernel/mm/transparent_hugepage")


def _holds(line, address):
    begin, _, end = line.partition(" ")[0].partition("-")
    return bool(end) and int(begin, 16) <= address < int(end, 16)


@pytest.mark.parametrize("missing", ["advice", "kernel"])
def test_without_huge_pages_it_is_memory_all_the_same(monkeypatch, missing):
    if missing == "advice":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    else:
        monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999)  # EINVAL, as from a kernel that was built without
    assert bytes(paged(2 << 20)[:3]) == bytes(3)
