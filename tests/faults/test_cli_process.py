"""The command as a shell runs it: signals, pipes, closed descriptors, limits, a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from imgstore.testing.server import Cut, ScriptedServer, Stall, Throttle
from tests import canary
from tests.faults.cli import IMAGE, PATH, ended, names, run, run_here, start, without_configuration

N = len(IMAGE)


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


def wait_for(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
@pytest.mark.parametrize("old", [None, b"the old image"])
def test_a_signal_leaves_nothing_broken(server, tmp_path, number, old):
    server.script(PATH, then=Stall(at=2 << 20))
    target = tmp_path / "new.img"
    if old is not None:
        target.write_bytes(old)
    process = start("cp", "--force", "--json", server.url(PATH), target)
    with process:
        wait_for(lambda: [name for name in names(tmp_path) if name.endswith(".part")])
        wait_for(lambda: server.log.body_bytes(PATH) == 2 << 20)
        began = time.monotonic()
        process.send_signal(number)
        ran = ended(process)
    assert time.monotonic() - began < 3
    assert ran.status == 130
    assert ran.line == "interrupted"
    error = ran.told["error"]
    assert (error["type"], error["message"], error["status"]) == (
        "OperationCancelledError",
        "interrupted",
        130,
    )
    assert names(tmp_path) == ["new.img"] * (old is not None)
    assert old is None or target.read_bytes() == old


def test_e11_stopped_and_continued(server, tmp_path):
    """Stopped for longer than any window, as a laptop that slept: one connection is given up at most."""
    server.script(PATH, [Throttle(8 << 20)], then=Throttle(64 << 20))
    with start("cp", "--stall-timeout", "1", "--json", server.url(PATH), tmp_path / "new.img") as process:
        wait_for(lambda: server.log.body_bytes(PATH) > N // 4)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.6)
        process.send_signal(signal.SIGCONT)
        ran = ended(process)
    assert ran.status == 0
    assert (tmp_path / "new.img").read_bytes() == IMAGE
    assert ran.told["resumes"] <= 1
    assert ran.told["received"] == N


def test_a_second_signal_does_not_spoil_the_cleaning_up(server, tmp_path):
    server.script(PATH, then=Stall(at=2 << 20))
    with start("cp", "--force", server.url(PATH), tmp_path / "new.img") as process:
        wait_for(lambda: server.log.body_bytes(PATH) == 2 << 20)
        for _ in range(20):
            process.send_signal(signal.SIGINT)
        ran = ended(process)
    assert ran.status == 130
    assert ran.line == "interrupted"
    assert names(tmp_path) == []


def test_nohup_means_it(server, tmp_path):
    server.script(PATH, then=Throttle(8 << 20))
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731 - as nohup does
    with start("cp", server.url(PATH), tmp_path / "new.img", preexec_fn=ignore) as process:
        wait_for(lambda: server.log.requests(PATH))
        process.send_signal(signal.SIGHUP)
        assert ended(process).status == 0
    assert (tmp_path / "new.img").read_bytes() == IMAGE


def test_a_kill_leaves_no_file_without_a_name_and_a_named_one_to_be_found(server, tmp_path):
    server.script(PATH, then=Stall(at=2 << 20))
    for options, left in (([], []), (["--force"], [True])):
        server.log.wait_idle()
        before = server.log.body_bytes(PATH)
        with start("cp", *options, server.url(PATH), tmp_path / "new.img") as process:
            wait_for(lambda before=before: server.log.body_bytes(PATH) - before == 2 << 20)
            process.kill()
            ended(process)
        assert [name.startswith(".new.img.") and name.endswith(".part") for name in names(tmp_path)] == left


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_from_standard_input(tmp_path, options):
    ran = run("cp", "-", tmp_path / "new.img", "--json", *options, data=IMAGE)
    assert ran.status == 0, ran.err
    assert (tmp_path / "new.img").read_bytes() == IMAGE
    assert ran.told["bytes"] == ran.told["received"] == N
    assert ran.told["digests"] == {"sha256": hashlib.sha256(IMAGE).hexdigest()}


def test_an_empty_standard_input_is_an_empty_image(tmp_path):
    assert run("cp", "-", tmp_path / "new.img").status == 0
    assert (tmp_path / "new.img").read_bytes() == b""


def test_from_standard_input_to_standard_output():
    for command in (["cp", "-", "-"], ["cat", "-"]):
        ran = run(*command, data=IMAGE)
        assert (ran.status, ran.err) == (0, "")
        assert ran.out == IMAGE


def test_a_file_may_be_replaced_by_what_is_made_of_it(tmp_path):
    path = tmp_path / "a.img"
    path.write_bytes(IMAGE)
    with open(path, "rb") as source:
        assert run("cp", "-", path, "--force", stdin=source).status == 0
    assert path.read_bytes() == IMAGE


def test_a_silent_standard_input_ends_at_the_deadline(tmp_path):
    silent, held = os.pipe()
    try:
        ran = run("cp", "-", tmp_path / "new.img", "--timeout", "0.3", stdin=silent)
    finally:
        os.close(silent)
        os.close(held)
    assert ran.status == 6
    assert "deadline" in ran.line
    assert names(tmp_path) == []


@pytest.mark.parametrize("command", [["cat"], ["cp"]])
def test_a_reader_that_takes_nothing_ends_at_the_deadline(tmp_path, command):
    (tmp_path / "a.img").write_bytes(IMAGE)
    with start(*command, tmp_path / "a.img", *["-"] * (command == ["cp"]), "--timeout", "0.3") as process:
        process.wait(20)
        ran = ended(process)
    assert ran.status == 6
    assert "deadline" in ran.line
    assert IMAGE.startswith(ran.out)


@pytest.mark.parametrize(
    "command, status, said",
    [(["cat"], 0, []), (["cp"], 1, ["imgstore: the reader of standard output went away after "])],
)
def test_a_reader_that_goes_away(server, command, status, said):
    arguments = [*command, server.url(PATH), *["-"] * (command == ["cp"])]
    with start(*arguments) as process:
        assert process.stdout.read(10) == IMAGE[:10]
        process.stdout.close()
        process.stdout = None
        ran = ended(process)
    assert ran.status == status
    lines = ran.err.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(lines, said, strict=True))


def test_a_table_that_nobody_reads_ends_quietly(tmp_path):
    (tmp_path / "a.img").write_bytes(b"x")
    end, gone = os.pipe()
    os.close(end)
    try:
        ran = run("stat", tmp_path / "a.img", stdout=gone)
    finally:
        os.close(gone)
    assert (ran.status, ran.err) == (0, "")


def full():
    return open("/dev/full", "wb")


@pytest.mark.parametrize("command", [["cat"], ["stat"], ["stat", "--json"]])
def test_a_full_standard_output(tmp_path, command):
    (tmp_path / "a.img").write_bytes(b"x")
    with full() as out:
        ran = run(*command, tmp_path / "a.img", stdout=out)
    assert ran.status == 8
    assert ran.line == "cannot write to standard output: No space left on device"


def test_a_full_standard_error_changes_nothing(tmp_path):
    with full() as err:
        assert run("cat", tmp_path / "missing", stderr=err, stdout=subprocess.DEVNULL).status == 3


@pytest.mark.parametrize(
    "closed, line, status, said",
    [
        ("<&-", "cp - {new}", 2, "standard input is closed"),
        (">&-", "cat {old}", 2, "standard output is closed"),
        (">&-", "stat {old}", 2, "standard output is closed"),
        (">&-", "cp {old} {new}", 0, ""),
        ("2>&-", "cp {old} {new}", 0, ""),
        ("2>&-", "cp {old} {old}", 2, ""),
        ("<&- >&- 2>&-", "cp {old} {new}", 0, ""),
        ("<&- >&- 2>&-", "cp {old} {new} --debug", 0, ""),
    ],
)
def test_closed_descriptors_take_no_file_for_themselves(tmp_path, closed, line, status, said):
    (tmp_path / "old").write_bytes(IMAGE)
    command = f"{sys.executable} -m imgstore.cli {line} {closed}".format(
        old=tmp_path / "old", new=tmp_path / "new"
    )
    ran = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert ran.returncode == status
    assert said in ran.stderr.decode()
    assert (tmp_path / "old").read_bytes() == IMAGE
    assert not (tmp_path / "new").exists() or (tmp_path / "new").read_bytes() == IMAGE


def test_a_limit_on_file_sizes(tmp_path):
    """EFBIG, really."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # noqa: E731
    (tmp_path / "a.img").write_bytes(IMAGE)
    ran = run("cp", tmp_path / "a.img", tmp_path / "new.img", "--json", preexec_fn=limit)
    assert ran.status == 8
    assert "File too large" in ran.line
    assert ran.told["error"]["type"] == "NoSpaceError"
    assert names(tmp_path) == ["a.img"]


def test_a_terminal_gets_a_bar_that_goes_away(server, tmp_path):
    server.script(PATH, [(Throttle(4 << 20), Cut(at=1 << 20))], then=Throttle(4 << 20))
    ours, theirs = pty.openpty()
    seen = b""
    try:
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        with start("cp", server.url(PATH), tmp_path / "new.img", stderr=theirs, env=env) as process:
            while process.poll() is None:
                if select.select([ours], [], [], 0.05)[0]:
                    seen += os.read(ours, 65536)
            assert ended(process).status == 0
        if select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    told = seen.decode()
    for part in ("disk.img", "MiB of 4.0 MiB", "iB/s", " s left", "1 resume", "\u2501"):
        assert part in told
    assert told.rstrip().splitlines()[-1].endswith("1 resume")


def test_a_dumb_terminal_gets_none(server, tmp_path):
    ours, theirs = pty.openpty()
    try:
        env = {**os.environ, "TERM": "dumb"}
        with start("cp", server.url(PATH), tmp_path / "new.img", stderr=theirs, env=env) as process:
            assert ended(process).status == 0
        assert not select.select([ours], [], [], 0.1)[0]
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("command", [["cat"], ["cp"]])
def test_a_terminal_gets_no_image_unasked(tmp_path, command):
    (tmp_path / "a.img").write_bytes(b"\x1b[31mred")
    ours, theirs = pty.openpty()
    try:
        arguments = [*command, tmp_path / "a.img", *["-"] * (command == ["cp"])]
        ran = run(*arguments, stdout=theirs)
        assert ran.status == 2
        assert "standard output is a terminal" in ran.line
        assert "cat --force" in ran.line
        assert not select.select([ours], [], [], 0.1)[0]
        assert run("cat", "--force", tmp_path / "a.img", stdout=theirs).status == 0
        assert os.read(ours, 100) == b"\x1b[31mred"
    finally:
        os.close(ours)
        os.close(theirs)


def test_debug_tells_all_but_secrets(server, tmp_path):
    server.script(PATH, [Cut(at=100)])
    url = server.url(f"{PATH}?X-Amz-Signature={canary.PRESIGNED_QUERY}").replace(
        "//", f"//me:{canary.TOKEN}@"
    )
    ran = run("--debug", "cat", url, "--header", f"X-Secret: {canary.HEADER}")
    assert ran.status == 0
    assert "goes on at offset 100" in ran.err
    assert not canary.found(ran.err)
    ran = run("cat", server.url(f"/missing?s={canary.PRESIGNED_QUERY}"), "--debug")
    assert ran.status == 3
    assert "Traceback" in ran.err
    assert not canary.found(ran.err)


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("name", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(name):
    code = f"""
import sys
from importlib.machinery import PathFinder
class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name == {name!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [each for each in sys.meta_path if each is not PathFinder] + [Missing]
from imgstore.cli import main
sys.exit(main(["--version"]))
"""
    ran = python(code)
    assert ran.returncode == 2
    assert (
        ran.stderr
        == "imgstore: the command line needs click and rich: pip install 'click>=8.1' 'rich>=13.0'\n"
    )


def test_a_command_imports_what_it_needs_and_no_more():
    code = """
import sys
from imgstore.cli import main
assert "click" not in sys.modules
try:
    main({line!r})
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
    heavy = {"rich", "oslo_config", "urllib3", "ssl", "imgstore.stack", "ctypes", "asyncio"}
    loaded = set(python(code.format(line=["cp", "--help"])).stderr.split())
    assert "click" in loaded
    assert not loaded & heavy
    loaded = set(python(code.format(line=["stat", __file__])).stderr.split())
    assert not loaded & {"rich", "urllib3", "ssl", "imgstore.manifest"}


def test_version_and_help(capfdbinary):
    from importlib.metadata import version

    assert run("--version").out.decode() == f"imgstore {version('imgstore')}\n"
    told = run("--help").out.decode()
    commands = ("cat", "check", "completion", "cp", "ls", "reap", "rm", "stat", "stores")
    for part in (*(f"  {command}  " for command in commands), "Exit status:", "imgstore completion bash"):
        assert part in told
    for command in commands:
        ran = run_here(capfdbinary, command, "-h")
        assert ran.status == 0
        assert b"Usage: imgstore " + command.encode() in ran.out
        assert (b"Examples:\n  " in ran.out) == (command != "stores")
        before, _, behind = ran.out.partition(b"Options for a URL as SRC:")
        assert (b"--proxy URL" in behind) == (command in {"cp", "cat", "stat"})
        assert b"--proxy URL" not in before


def test_completion(tmp_path, monkeypatch):
    without_configuration(monkeypatch, tmp_path)
    env = {**os.environ, "_IMGSTORE_COMPLETE": "bash_complete", "COMP_WORDS": "imgstore c", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'imgstore'; from imgstore.cli import main; sys.exit(main())"
    ran = python(code, env=env)
    assert ran.stdout.split() == ["plain,cat", "plain,check", "plain,completion", "plain,cp"]
    assert (ran.returncode, ran.stderr) == (0, "")
    env |= {"COMP_WORDS": "imgstore cp a", "COMP_CWORD": "2"}
    assert python(code, env=env).stdout.split() == ["file,a"]


def test_two_copies_onto_one_name_have_one_winner(tmp_path):
    """FAULTS.md I3, by whole commands."""
    (tmp_path / "a.img").write_bytes(b"a" * N)
    (tmp_path / "b.img").write_bytes(b"b" * N)
    ran = {}

    def copy(name):
        ran[name] = run("cp", tmp_path / f"{name}.img", tmp_path / "new.img", "--json")

    for _ in range(5):
        threads = [threading.Thread(target=copy, args=(name,)) for name in "ab"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(each.status for each in ran.values()) == [0, 10]
        (winner,) = [name for name, each in ran.items() if each.status == 0]
        assert (tmp_path / "new.img").read_bytes() == winner.encode() * N
        assert names(tmp_path) == ["a.img", "b.img", "new.img"]
        (tmp_path / "new.img").unlink()


def test_json_is_one_line(tmp_path):
    (tmp_path / "a.img").write_bytes(b"x")
    ran = run("cp", tmp_path / "a.img", tmp_path / "new.img", "--json")
    assert ran.out.count(b"\n") == 1
    assert json.loads(ran.out)["bytes"] == 1
