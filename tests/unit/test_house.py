"""The guards over the suite can fail: each is shown a test that does what it forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import canary

ROOT = Path(__file__).parents[2]

# The inner suites are read with the guards of this one.
GUARDS = "from tests.conftest import *"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Gives an empty suite under the guards."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nlog_level = DEBUG\naddopts = -p no:cacheprovider\nfilterwarnings = error")
    pytester.makeconftest(GUARDS)
    return pytester


def test_what_is_left_behind_fails_the_test(suite: pytest.Pytester) -> None:
    suite.makeconftest(f"{GUARDS}\nfrom tests import conftest\nconftest.GRACE = 0.2")
    suite.makepyfile(
        """
        import os, socket, threading, time
        kept = []

        def test_thread():
            threading.Thread(target=time.sleep, args=(0.7,), name="lingering", daemon=True).start()

        def test_late_thread():
            threading.Thread(target=time.sleep, args=(0.1,), daemon=True).start()

        def test_file():
            kept.append(os.open(__file__, os.O_RDONLY))

        def test_socket():
            kept.append(socket.socket())

        def test_number_used_again():
            os.close(kept[0])
            assert os.dup(kept[1].fileno()) == kept[0]

        def test_tidy():
            with socket.socket(), open(__file__):
                pass
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=6, errors=4)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_thread*",
            "left behind: thread lingering",
            "*ERROR at teardown of test_file*",
            "left behind: descriptor * -> */test_what_is_left_behind_fails_the_test.py",
            "*ERROR at teardown of test_socket*",
            "left behind: descriptor * -> socket:*",
            "*ERROR at teardown of test_number_used_again*",
        ]
    )


LEAKY = """
    import base64, logging, subprocess, sys
    import pytest
    from tests import canary

    log = logging.getLogger("leaky")

    def test_log():
        log.debug("sent %s", canary.TOKEN)

    def test_log_cleared(caplog):
        log.debug("sent %s", canary.TOKEN)
        caplog.clear()

    def test_log_cause():
        try:
            raise ValueError(canary.TOKEN)
        except ValueError:
            log.debug("gone wrong", exc_info=True)

    def test_stdout():
        print("header:", canary.HEADER)

    def test_stderr_taken(capsys):
        print(f"http://host/key?signature={canary.PRESIGNED_QUERY}", file=sys.stderr)
        assert capsys.readouterr().err

    def test_descriptor_taken(capfdbinary):
        subprocess.run([sys.executable, "-c", "from tests import canary; print(canary.TOKEN)"], check=True)
        assert capfdbinary.readouterr().out

    def test_child():
        subprocess.run(
            [sys.executable, "-c", "from tests import canary; print(canary.TOKEN)"],
            check=True, capture_output=True,
        )

    @pytest.mark.parametrize("user", ["u", "us", "use"])
    def test_basic_credentials(user):
        print(base64.b64encode(f"{user}:{canary.PASSWORD}".encode()).decode())

    @pytest.fixture
    def telling():
        yield
        print(canary.HEADER)

    def test_fixture(telling):
        pass

    def test_failure():
        raise ValueError(f"refused: {canary.PASSWORD}")

    def test_property(record_property):
        record_property("sent", canary.HEADER)

    def test_discreet():
        print("nothing to see", canary.scrubbed(canary.TOKEN))
"""


@pytest.mark.parametrize(
    "workers",
    [pytest.param([], id="alone"), pytest.param(["-n", "2"], id="xdist", marks=pytest.mark.wide)],
)
def test_a_secret_in_sight_fails_the_test(suite: pytest.Pytester, workers: list[str]) -> None:
    suite.makepyfile(test_leaky=LEAKY)
    result = suite.runpytest_subprocess(*workers)
    # The fixture tells after its test has passed; the property is seen in the finished report only.
    result.assert_outcomes(passed=3, failed=11, errors=1)
    for said in (
        "test_log shows a secret: TOKEN in captured log call",
        "test_log_cleared shows a secret: TOKEN in captured log call",
        "test_log_cause shows a secret: TOKEN in captured log call",
        "test_stdout shows a secret: HEADER in captured stdout call",
        "test_stderr_taken shows a secret: PRESIGNED_QUERY in captured stderr",
        "test_descriptor_taken shows a secret: TOKEN in captured stdout",
        "test_child shows a secret: TOKEN in a child's stdout",
        "test_basic_credentials[[]u[]] shows a secret: PASSWORD in captured stdout call",
        "test_basic_credentials[[]us[]] shows a secret: PASSWORD in captured stdout call",
        "test_basic_credentials[[]use[]] shows a secret: PASSWORD in captured stdout call",
        "test_fixture shows a secret: HEADER in captured stdout teardown",
        "test_failure shows a secret: PASSWORD in the failure",
    ):
        result.stdout.fnmatch_lines([f"*::{said}*"])
    result.stdout.fnmatch_lines(["*secrets in the reports*", "HEADER in test_leaky.py::test_property"])


def test_a_secret_in_a_finished_report_fails_the_run(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "from tests import canary\ndef test(record_property): record_property('a', canary.TOKEN)"
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*secrets in the reports*", "TOKEN in *::test"])


def test_a_secret_in_a_name_fails_the_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "import pytest; from tests import canary\n"
        "@pytest.mark.parametrize('token', [canary.TOKEN])\ndef test(token): pass"
    )
    # Without a terminal, because a name is shown as it is.
    assert suite.runpytest_inprocess("-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED


def test_a_secret_told_while_collecting_fails(suite: pytest.Pytester) -> None:
    suite.makepyfile("from tests import canary\nraise ValueError(canary.TOKEN)")
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*shows a secret: TOKEN"])
    assert not canary.found(result.stdout.str())


def test_the_guard_hides_what_it_found(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "from tests import canary\ndef test(): print(canary.TOKEN); raise ValueError(canary.HEADER)"
    )
    result = suite.runpytest_inprocess()
    assert not canary.found(result.stdout.str() + result.stderr.str())
    result.stdout.fnmatch_lines(["*ValueError: <secret HEADER>", "<secret TOKEN>"])


def test_a_skip_fails_in_ci_only(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile(
        test_one="import pytest\ndef test_skips(): pytest.skip('no server')\n"
        "@pytest.mark.xfail(reason='upstream')\ndef test_expected(): assert False",
        test_whole="import pytest\npytest.skip('no library', allow_module_level=True)",
    )
    suite.runpytest_inprocess().assert_outcomes(skipped=2, xfailed=1)
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest_inprocess("--continue-on-collection-errors")
    result.assert_outcomes(failed=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines_random(
        ["CI skips nothing, yet here: *no server", "CI skips nothing, yet here: *no library"]
    )


@pytest.mark.parametrize(
    "chosen, passed, deselected",
    [("not soak and not wide", 1, 1), ("wide", 2, 1), ("not wide", 1, 2), ("", 3, 0)],
)
def test_classes_of_the_wide_half_are_run_by_who_wants_them(
    suite: pytest.Pytester, chosen: str, passed: int, deselected: int
) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.wide
        class TestWide:
            def test(self): pass

        class TestBrief:
            def test(self): pass
            @pytest.mark.wide
            def test_wide(self): pass
        """
    )
    marks = "--override-ini=markers=wide:\nsoak:"
    suite.runpytest_inprocess("-m", chosen, marks).assert_outcomes(passed=passed, deselected=deselected)


def test_a_unit_test_neither_connects_nor_sleeps(suite: pytest.Pytester) -> None:
    suite.makeconftest(f"{GUARDS}\nfrom tests.unit.conftest import *")
    suite.makepyfile(
        """
        import socket, subprocess, sys, time

        def test_connect():
            with socket.socket() as s:
                try:
                    s.connect(("127.0.0.1", 9))
                except Exception:
                    pass

        def test_bind():
            with socket.socket(socket.AF_INET6) as s:
                s.bind(("::1", 0))

        def test_sleep():
            time.sleep(0.001)

        def test_pair():
            a, b = socket.socketpair()
            with a, b:
                a.sendall(b"x")
                assert b.recv(1) == b"x"

        def test_child():
            code = "import time; time.sleep(0.05)"
            assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "*a unit test calls socket.connect(('127.0.0.1', 9),):*",
            "*a unit test calls socket.bind(('::1', 0),):*",
            "*a unit test calls time.sleep(0.001):*",
        ]
    )


def test_the_guards_watch_this_very_suite(request: pytest.FixtureRequest) -> None:
    assert {"nothing_left_behind", "children_are_read", "no_network_no_pause"} <= set(request.fixturenames)


@pytest.mark.parametrize("folder", ["backends", "layers"])
def test_every_driver_and_layer_is_held_apart_from_its_siblings(folder: str) -> None:
    contracts = (ROOT / "pyproject.toml").read_text()
    room = re.search(rf'containers = \["imgstore\.{folder}"\]\nlayers = \[(.*?)\n\]', contracts, re.DOTALL)
    assert room is not None
    inside = {path.stem for path in (ROOT / "imgstore" / folder).iterdir() if path.suffix in ("", ".py")}
    public = {name for name in inside if not name.startswith("_")}
    assert public
    assert public <= set(re.findall(r"\w+", room[1]))
