"""Notes of uploads: what they say again, whose they are, and what becomes of damaged ones."""

from __future__ import annotations

import os
import stat

import pytest

from imgstore import records
from imgstore.errors import LockedError
from imgstore.journal import Identity
from imgstore.model import Part
from imgstore.transfer.notes import Begun, Notes, Sent

BEGUN = Begun("token", Identity("place", 2500, "v1", None), 1000, overwrite=False, started=1.5)
SENT = [
    Sent(Part(number, number * 1000, size, f"tag{number}"), number)
    for number, size in enumerate((1000, 1000, 500))
]


@pytest.fixture
def notes(tmp_path):
    return Notes(str(tmp_path / "state" / "uploads"))


def written(notes, sent=SENT):
    with notes.opened("to", "from") as note:
        note.begin(BEGUN)
        for each in sent:
            note.add(each)
    return next(iter(notes.paths().values()))


def test_what_was_noted_is_said_again(notes):
    written(notes)
    with notes.opened("to", "from") as note:
        assert note.begun == BEGUN
        assert note.sent == dict(enumerate(SENT))
        assert note.is_whole
    assert notes.is_whole("to", "from")
    assert not notes.is_whole("to", "elsewhere")


def test_without_all_parts_it_is_not_whole(notes):
    written(notes, SENT[:2])
    assert not notes.is_whole("to", "from")


def test_each_source_and_target_have_a_note_of_their_own(notes):
    with notes.opened("a", "bc") as one, notes.opened("ab", "c") as other:
        one.begin(BEGUN)
        assert other.begun is None


def test_only_its_user_may_read_it(notes, tmp_path):
    path = written(notes)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "state" / "uploads").st_mode) == 0o700


def test_a_note_that_is_forgotten_is_gone_and_so_is_one_of_nothing(notes, tmp_path):
    written(notes)
    with notes.opened("to", "from") as note:
        note.forget()
        assert notes.paths() == {}
        assert not note.is_whole
    with notes.opened("to", "from") as note:
        assert note.begun is None
    assert os.listdir(tmp_path / "state" / "uploads") == []


def test_one_that_was_forgotten_is_not_taken_for_the_next_one(notes):
    with notes.opened("to", "from") as one:
        one.begin(BEGUN)
        one.forget()
        path = written(notes)
    assert notes.paths() == {"token": path}


def test_only_one_process_is_at_an_upload(notes):
    path = written(notes)
    with notes.opened("to", "from"):
        for opening in (lambda: notes.opened("to", "from"), lambda: notes.at(path)):
            with pytest.raises(LockedError, match="another process is at this upload"):
                opening()
        assert not notes.is_whole("to", "from")  # it is not ended yet
        assert notes.paths() == {"token": path}
    with notes.at(path) as note:
        assert note.begun == BEGUN


def test_who_is_about_to_note_an_upload_is_known(notes):
    assert not notes.is_beginning()
    written(notes)
    assert not notes.is_beginning()
    with notes.opened("to", "another") as note:
        assert notes.is_beginning()
        note.begin(BEGUN)
        assert not notes.is_beginning()


def test_what_was_killed_before_it_noted_anything_is_not(notes):
    path = written(notes)
    with open(path, "wb"):
        pass
    assert not notes.is_beginning()
    assert notes.paths() == {}


def test_a_name_that_was_lost_before_the_lock_is_made_anew(notes, monkeypatch):
    path = written(notes)
    locked, lost = os.lstat, []

    def lstat(name, *args, **options):
        if not lost:
            lost.append(os.unlink(name))
        return locked(name, *args, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    with notes.opened("to", "from") as note:
        assert note.begun is None
        assert os.path.exists(path)


def test_cut_anywhere_it_says_less_and_nothing_else(notes):
    """A power loss may keep any front of it; a part that is not noted is one that is asked for."""
    path = written(notes)
    with open(path, "rb") as file:
        whole = file.read()
    seen = set()
    for size in range(len(whole)):
        with open(path, "wb") as file:
            file.write(whole[:size])
        with notes.at(path) as note:
            seen.add((note.begun is not None, len(note.sent)))
            assert note.begun in {None, BEGUN}
            assert all(SENT[number] == sent for number, sent in note.sent.items())
            note.begun = BEGUN  # or it is removed
    assert seen == {(False, 0), (True, 0), (True, 1), (True, 2)}


def test_a_flipped_byte_takes_its_record_away(notes):
    path = written(notes)
    with open(path, "rb") as file:
        whole = file.read()
    for at in range(len(whole)):
        with open(path, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with notes.at(path) as note:
            assert note.begun in {None, BEGUN}
            assert all(SENT[number] == sent for number, sent in note.sent.items())
            assert (note.begun is None) == (not note.sent)
            note.begun = BEGUN


@pytest.mark.parametrize(
    "record",
    [
        {"upload": 2, "token": "x"},
        {"upload": 1, "token": "x"},
        {"upload": 1, "source": 3},
        [1, 2],
        7,
        None,
        "x",
    ],
)
def test_what_is_no_note_of_this_format_is_none(notes, record):
    path = written(notes, [])
    with open(path, "wb") as file:
        file.write(records.line(record) + records.line([0, 0, 1000, "tag", 5]))
    with notes.at(path) as note:
        assert note.begun is None
        assert note.sent == {}


def test_what_is_no_file_is_no_note(notes, tmp_path):
    path = written(notes)
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        notes.at(path)
    os.unlink(path)
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(OSError, match="symbolic links"):
        notes.opened("to", "from")


def test_what_cannot_be_noted_is_told_once_and_hinders_nothing(notes, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with notes.opened("to", "from") as note:
        monkeypatch.setattr(records, "append", full)
        note.begin(BEGUN)
        note.add(SENT[0])
        assert note.sent == {0: SENT[0]}
    assert [each.getMessage() for each in caplog.records if "cannot be written" in each.getMessage()] != []
    assert len(caplog.records) == 1


def test_the_folder_is_that_of_the_users_state(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert written(Notes()).startswith(str(tmp_path / "home/.local/state/imgstore/uploads/"))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the specification has it ignored
    assert written(Notes()).startswith(str(tmp_path / "home/.local/state/imgstore/uploads/"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert written(Notes()).startswith(str(tmp_path / "state/imgstore/uploads/"))


def test_no_folder_no_notes(notes, tmp_path):
    assert notes.paths() == {}
    assert notes.at(str(tmp_path / "none")) is None
