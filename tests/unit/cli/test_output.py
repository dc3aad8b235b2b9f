"""What reaches a terminal: one line, no secret, nothing that steers it."""

from __future__ import annotations

import json
import logging

import pytest

from imgstore import errors
from imgstore.cli.output import Terminal, printable, sentence, table
from tests import canary


@pytest.fixture
def lines():
    return []


@pytest.fixture
def terminal(lines):
    terminal = Terminal()
    terminal.write_line = lines.append
    return terminal


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain ü ☃", "plain ü ☃"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202eevil", r"\u202eevil"),
        ("\x9b", r"\x9b"),
    ],
)
def test_a_line_stays_a_line(terminal, lines, text, shown):
    assert printable(text) == shown
    terminal.say(text)
    assert lines == [f"imgstore: {shown}"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("at http://u:{TOKEN}@h/x?sig={PRESIGNED_QUERY}: no", "at http://h/x?...: no"),
        ("(https://h/x?sig={PRESIGNED_QUERY})", "(https://h/x?...)"),
        ("'https://h/x?sig={PRESIGNED_QUERY}'.", "'https://h/x?...'."),
        ("see http://host/x.", "see http://host/x."),
        ("see http://host/x?...: no", "see http://host/x?...: no"),
        ("see http://u:{TOKEN}@host/x?...", "see http://host/x?..."),
        ("sent {HEADER}!", "sent ...!"),
    ],
)
def test_secrets_are_scrubbed(terminal, lines, text, shown):
    terminal.hide([canary.HEADER, "", "abc"])
    terminal.say(text.format_map(canary.SECRETS))
    assert lines == [f"imgstore: {shown}"]


def test_a_secret_inside_another_goes_with_it(terminal):
    terminal.hide(["swordfish", "swordfish and chips"])
    assert terminal.scrubbed("swordfish and chips, swordfish, abc") == "..., ..., abc"


@pytest.mark.parametrize(
    "error, said",
    [
        (errors.ConfigError("no"), "no"),
        (errors.ConfigError(), "ConfigError"),
        (errors.NotFoundError("gone"), "gone"),
        (errors.NotFoundError("gone", key="x"), "SRC: gone"),
        (errors.NotFoundError("SRC is gone", key="x"), "SRC is gone"),
        (errors.AlreadyExistsError("there"), "there; --force replaces it"),
        (errors.StalledError("slow", offset=7), "slow (at byte 7)"),
        (errors.StalledError("slow at 7", offset=7), "slow at 7"),
        (errors.UnavailableError("503", request_id="r-1", offset=0), "503 (request r-1)"),
    ],
)
def test_the_sentence(error, said):
    assert sentence(error, "SRC") == said


def test_the_sentence_tells_the_last_cause():
    error = errors.DeadlineExceededError("too late", offset=5)
    error.__cause__ = errors.UnavailableError("the server answers 503")
    assert sentence(error) == "too late (at byte 5, last: the server answers 503)"
    error = errors.RetriesExhaustedError("8 tries; the server answers 503")
    error.__cause__ = errors.UnavailableError("the server answers 503")
    assert sentence(error) == "8 tries; the server answers 503"


def test_an_image_in_a_store_is_named_as_it_is_typed(terminal):
    terminal.stores, terminal.where = frozenset({"disks"}), "a.img"
    assert terminal.sentence(errors.NotFoundError("gone", store="disks", key="x")) == "disks:x: gone"
    assert terminal.sentence(errors.NoSpaceError("full", store="disks")) == "disks: full"
    assert terminal.sentence(errors.NotFoundError("gone", store="a.img", key="a.img")) == "a.img: gone"


def test_the_options_of_a_store_are_those_of_its_section(terminal):
    terminal.stores, terminal.where = frozenset({"web"}), "http://h/x"
    told = "the option 'ca_file' cannot be used"
    # of no store, as what is wrong with the file of the configuration
    assert terminal.sentence(errors.ConfigError(told)) == told
    assert terminal.sentence(errors.ConfigError(told, store="http://h/x")) == "--ca-file cannot be used"
    # also of one that could not be opened, so that no store is known yet
    assert terminal.sentence(errors.ConfigError(told, store="other")) == told
    assert terminal.sentence(errors.ConfigError(told, store="web")) == f"web: {told}"


def test_a_bug_tells_its_type_and_nothing_that_it_may_hold(terminal, lines):
    assert terminal.failed(RuntimeError(canary.TOKEN)) == 1
    assert lines == [
        "imgstore: unexpected RuntimeError; this is a bug: please report it with what --debug shows"
    ]


def test_debug_shows_where_scrubbed(terminal, lines):
    terminal.debug = True
    terminal.hide([canary.TOKEN])
    try:
        raise RuntimeError(f"no {canary.TOKEN} at http://h/?sig={canary.PRESIGNED_QUERY}")
    except RuntimeError as exc:
        terminal.failed(exc)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == "RuntimeError: no ... at http://h/?..."
    assert lines[-1].startswith("imgstore: unexpected RuntimeError")


def test_a_failure_with_json_ends_in_an_object(terminal, lines, capsys):
    terminal.json = lambda: {"bytes": 7}
    error = errors.StalledError(
        f"slow http://h/?s={canary.PRESIGNED_QUERY}", offset=7, attempts=3, request_id="r-1", key="k"
    )
    assert terminal.failed(error) == 6
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "bytes": 7,
        "error": {
            "type": "StalledError",
            "message": "slow http://h/?...",
            "offset": 7,
            "attempts": 3,
            "request_id": "r-1",
            "retryable": True,
            "resumable": True,
            "status": 6,
        },
    }


def test_json_of_an_interrupt(terminal, capsys):
    terminal.json = dict
    assert terminal.failed(KeyboardInterrupt()) == 130
    told = json.loads(capsys.readouterr().out)
    assert (
        told["error"].items()
        >= {
            "type": "OperationCancelledError",
            "message": "interrupted",
            "status": 130,
            "resumable": True,
        }.items()
    )


def test_a_closed_standard_output_is_an_error():
    terminal = Terminal(frozenset({1}))
    with pytest.raises(errors.ConfigError, match="standard output is closed"):
        terminal.print("x")


def test_json_escapes_what_steers_a_terminal(terminal, capsys):
    terminal.print_json({"key": "\x1b[31m\u202e"})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out) == {"key": "\x1b[31m\u202e"}


def test_a_secret_that_looks_like_a_number_or_a_name_leaves_json_whole(terminal, capsys):
    terminal.hide(["1000", "null", "bytes"])
    terminal.print_json({"bytes": 41000, "known": None, "parts": [{"said": "is 1000"}, 1000]})
    told = json.loads(capsys.readouterr().out)
    assert told == {"bytes": 41000, "known": None, "parts": [{"said": "is ..."}, 1000]}


def test_what_a_store_has_is_told_as_it_is_also_where_it_looks_like_a_secret(terminal, capsys):
    terminal.hide(["debian"])
    info = {"key": "debian/12", "version": "debian", "digests": {"sha256": "debian"}}
    told = {**info, "location": "d:debian/12", "removed": ["d:debian"], "sources": {"d:debian": 1}}
    terminal.print_json({**told, "error": {"message": "debian is no password"}})
    assert json.loads(capsys.readouterr().out) == {**told, "error": {"message": "... is no password"}}


@pytest.mark.parametrize("character", ['"', "\\", "\x01", "ü", "☃", "😀"])
def test_json_shows_no_secret_that_it_would_escape(terminal, capsys, character):
    secret = f"{canary.TOKEN}{character}{canary.HEADER}"
    terminal.hide([secret])
    terminal.print_json({"steps": ({"said": secret, "advice": secret},), "message": f"sent {secret}!"})
    told = json.loads(capsys.readouterr().out)
    assert told == {"steps": [{"said": "...", "advice": "..."}], "message": "sent ...!"}


def test_warnings_are_told_and_the_resumes_told_elsewhere_are_not(terminal, lines):
    with terminal.logging():
        logging.getLogger("imgstore.publish").warning("left %s", "behind")
        logging.getLogger("imgstore.layers.resume").warning("goes on")
        logging.getLogger("imgstore.publish").debug("detail")
        logging.getLogger("other").warning("not ours")
    logging.getLogger("imgstore.publish").warning("too late")
    assert lines == ["imgstore: warning: left behind"]


def test_debug_tells_all(terminal, lines):
    terminal.debug = True
    with terminal.logging():
        logging.getLogger("imgstore.layers.resume").debug("goes on")
    assert lines == ["imgstore: debug: goes on"]


def test_tables_are_aligned():
    assert table([("a", "1"), ("long name", "x\ny")]) == "a          1\nlong name  x\\ny"
    assert table([("", "b", "c"), ("long", "x", "")]) == "      b  c\nlong  x"


def test_lines_come_out_as_they_come_and_what_came_before_a_failure_too(terminal, capsys):
    def lines():
        yield "one"
        yield "two"
        raise errors.StalledError("slow")

    with pytest.raises(errors.StalledError):
        terminal.print_lines(lines())
    assert capsys.readouterr().out == "one\ntwo\n"
    assert terminal.print_lines([])
