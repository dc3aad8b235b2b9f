"""What a raw binary file does, after CPython's own tests of raw I/O: for any read-only one."""

from __future__ import annotations

import array
import copy
import gc
import io
import os
import pickle
import shutil
import weakref
from operator import methodcaller

import pytest

HELLO = b"hello world\n"
LINES = [b"boot\n", b"\n", b"kernel \xff\x00 initrd\n", b"no newline at the end"]


class Indexed:
    def __index__(self):
        return 6


class RawFileSuite:
    """The behaviours of `io.FileIO` in mode `rb`, without those of a descriptor."""

    def opened(self, data):
        """Hook: gives `data` as a file."""
        raise NotImplementedError

    def test_reads_seeks_and_tells(self):
        with self.opened(HELLO) as file:
            assert file.read(5) == b"hello"
            buffer = bytearray(5)
            assert file.readinto(buffer) == 5
            assert buffer == b" worl"
            assert file.tell() == 10
            assert file.readinto(buffer) == 2
            assert buffer == b"d\norl"
            assert file.readinto(buffer) == 0
            assert file.seek(0) == 0
            assert file.read(20) == HELLO
            assert file.read(1) == b""
            assert file.readinto(bytearray(b"x")) == 0
            assert file.seek(-6, io.SEEK_END) == 6
            assert file.read(5) == b"world"
            assert file.seek(-6, io.SEEK_CUR) == 5
            assert file.read(5) == b" worl"
            assert file.tell() == 10
            assert file.seek(0, os.SEEK_END) == 12
            assert file.seek(Indexed()) == 6
            assert file.read(0) == b""
            assert file.tell() == 6

    @pytest.mark.parametrize("everything", [(), (-1,), (None,), (-7,)])
    def test_a_read_without_a_size_gives_all_that_is_left(self, everything):
        with self.opened(HELLO) as file:
            assert file.read(*everything) == HELLO
            assert file.read(*everything) == b""
            file.seek(7)
            assert file.read(*everything) == b"orld\n"
            file.seek(8)
            assert file.readall() == b"rld\n"
            assert file.readall() == b""

    def test_no_size_is_too_large(self):
        with self.opened(HELLO) as file:
            assert file.read(1 << 62) == HELLO

    def test_behind_the_end_there_is_nothing(self):
        with self.opened(HELLO) as file:
            for position in (12, 13, 1 << 40, 1 << 70):
                assert file.seek(position) == file.tell() == position
                assert file.read(5) == file.read() == file.readall() == b""
                assert file.readinto(bytearray(5)) == 0
                assert file.tell() == position

    @pytest.mark.parametrize("offset, whence", [(-1, 0), (-13, 2), (-6, 1), (-(1 << 70), 0)])
    def test_before_the_start_there_is_no_place(self, offset, whence):
        with self.opened(HELLO) as file:
            file.seek(5)
            with pytest.raises(OSError, match="before the start"):
                file.seek(offset, whence)
            with pytest.raises(ValueError, match="before the start"):
                file.seek(offset, whence)
            assert file.tell() == 5

    @pytest.mark.parametrize("arguments", [(0, 5), (0, -1), (0, 1 << 40)])
    def test_a_whence_that_is_none(self, arguments):
        with self.opened(HELLO) as file, pytest.raises(ValueError, match="whence"):
            file.seek(*arguments)

    @pytest.mark.parametrize("offset", [0.0, None, "0", b"0"])
    def test_a_place_is_a_whole_number(self, offset):
        with self.opened(HELLO) as file, pytest.raises(TypeError):
            file.seek(offset)

    @pytest.mark.parametrize("size", [0.0, "1", b"1"])
    def test_a_size_is_a_whole_number(self, size):
        with self.opened(HELLO) as file, pytest.raises(TypeError):
            file.read(size)

    def test_reads_into_whatever_has_a_buffer(self):
        numbers = array.array("i", range(10))
        with self.opened(numbers.tobytes()) as file:
            target = array.array("i", bytes(40))
            assert file.readinto(target) == 40
            assert target == numbers
            target = bytearray(20)
            file.seek(3)
            with memoryview(target) as view:
                assert file.readinto(view[4:7]) == 3
            assert target == bytes(4) + numbers.tobytes()[3:6] + bytes(13)
            assert file.readinto(bytearray()) == 0
            assert file.tell() == 6

    @pytest.mark.parametrize("buffer", [b"bytes", memoryview(b"bytes"), "text", None, 5, [1]])
    def test_reads_into_nothing_else(self, buffer):
        with self.opened(HELLO) as file:
            with pytest.raises(TypeError):
                file.readinto(buffer)
            assert file.tell() == 0

    def test_lets_go_of_the_buffer(self):
        buffer = bytearray(20)
        with self.opened(HELLO) as file:
            file.readinto(buffer)
            buffer.clear()

    def test_lines(self):
        with self.opened(b"".join(LINES)) as file:
            assert list(file) == LINES
            file.seek(0)
            assert file.readlines() == LINES
            file.seek(0)
            assert file.readline(2) == b"bo"
            assert file.readline() == b"ot\n"
            assert next(file) == b"\n"
            assert file.readlines(1) == [LINES[2]]

    def test_an_empty_image(self):
        with self.opened(b"") as file:
            assert file.read() == file.read(5) == b""
            assert file.seek(0, io.SEEK_END) == 0
            assert list(file) == []

    def test_says_what_it_is(self):
        with self.opened(HELLO) as file:
            assert isinstance(file, io.RawIOBase)
            assert file.readable() is True
            assert file.seekable() is True
            assert file.writable() is False
            assert file.isatty() is False
            assert file.closed is False
            assert file.mode == "rb"
            assert isinstance(file.name, str)
            assert repr(file.name) in repr(file)
        assert file.closed is True
        assert file.mode == "rb"
        assert "closed" in repr(file)

    @pytest.mark.parametrize("attribute", ["closed", "name"])
    def test_what_it_is_cannot_be_changed(self, attribute):
        with self.opened(HELLO) as file, pytest.raises(AttributeError):
            setattr(file, attribute, "oops")

    @pytest.mark.parametrize(
        "change",
        [
            methodcaller("write", b"x"),
            methodcaller("writelines", [b"x"]),
            methodcaller("truncate"),
            methodcaller("truncate", 5),
            methodcaller("fileno"),
        ],
    )
    def test_cannot_be_written_and_has_no_descriptor(self, change):
        with self.opened(HELLO) as file:
            with pytest.raises(io.UnsupportedOperation):
                change(file)
            assert file.read() == HELLO

    @pytest.mark.parametrize(
        "use",
        [
            methodcaller("read"),
            methodcaller("read", 1),
            methodcaller("read", 0),
            methodcaller("readall"),
            methodcaller("readinto", bytearray(5)),
            methodcaller("readinto", bytearray()),
            methodcaller("readline"),
            methodcaller("readlines"),
            methodcaller("seek", 0),
            methodcaller("tell"),
            methodcaller("readable"),
            methodcaller("writable"),
            methodcaller("seekable"),
            methodcaller("isatty"),
            methodcaller("flush"),
            methodcaller("write", b""),
            methodcaller("__enter__"),
            iter,
            next,
        ],
    )
    def test_closed_it_is_of_no_use(self, use):
        file = self.opened(HELLO)
        file.close()
        with pytest.raises(ValueError, match="closed"):
            use(file)

    def test_closes_once_for_all(self):
        file = self.opened(HELLO)
        with file as same:
            assert same is file
        file.close()
        file.close()
        assert file.closed

    def test_closes_when_its_block_fails(self):
        file = self.opened(HELLO)
        with pytest.raises(ZeroDivisionError), file:
            _ = 1 / 0
        assert file.closed

    def test_goes_when_nobody_has_it(self):
        file = self.opened(HELLO)
        file.read(5)
        gone = weakref.ref(file)
        del file
        gc.collect()
        assert gone() is None

    @pytest.mark.parametrize(
        "duplicate",
        [copy.copy, copy.deepcopy, *(methodcaller("__reduce_ex__", each) for each in range(6)), pickle.dumps],
    )
    def test_is_one_of_a_kind(self, duplicate):
        with self.opened(HELLO) as file, pytest.raises(TypeError, match="cannot be pickled"):
            duplicate(file)

    def test_buffered(self):
        data = bytes(range(256)) * 200
        with io.BufferedReader(self.opened(data), 1000) as file:
            assert file.peek(1)[:4] == data[:4]
            assert file.read1(10) == data[:10]
            assert file.seek(-100, io.SEEK_END) == len(data) - 100
            assert file.read(50) == data[-100:-50]
            assert file.seek(-60, io.SEEK_CUR) == len(data) - 110
            assert file.read() == data[-110:]
            assert file.raw.closed is False
        assert file.raw.closed is True

    def test_as_text(self):
        text = "Küche\r\nBad\r\n" * 1000
        with io.TextIOWrapper(io.BufferedReader(self.opened(text.encode())), encoding="utf-8") as file:
            assert file.read() == text.replace("\r\n", "\n")

    def test_copies(self):
        data = bytes(range(256)) * 1000
        target = io.BytesIO()
        with self.opened(data) as file:
            shutil.copyfileobj(file, target, 4099)
        assert target.getvalue() == data
