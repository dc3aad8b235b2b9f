"""Processes that are killed in the middle of a change, and the process that makes them.

Started as a program it waits for orders on standard input: to lay and run a way in a child of its own, so
that the interpreter starts once and not for each kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgstore.errors import ImgstoreError
from tests.faults.system_calls import Calls
from tests.faults.ways import WAYS

ROOT = Path(__file__).resolve().parents[2]
_BEGIN = signal.SIGUSR1
_REFUSED = 2
_PR_SET_PTRACER = 0x59616D61  # <linux/prctl.h>: lets a process that is no parent trace this one, under Yama
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


@dataclass(frozen=True)
class End:
    """How a child ended: the change had returned, was refused with an error of the library, or killed."""

    returned: bool
    killed: bool
    refused: bool


class Killer:
    """The program, from the outside; a context manager."""

    def __enter__(self) -> Killer:
        command = [sys.executable, "-m", __spec__.name]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def at(self, way: str, root: Path, number: int) -> End:
        """Runs `way` and has it kill itself before the call of that number, from 1."""
        self._order(way, root, number)
        return self._end()

    def under(self, way: str, root: Path, attach: Callable[[int], object]) -> End:
        """Runs `way` after `attach` has taken hold of its process."""
        self._order(way, root, None)
        pid = int(self._line())
        try:
            _await_asleep(pid)
            attach(pid)
            os.kill(pid, _BEGIN)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._line()  # its end, which is not that of the next one
            raise
        return self._end()

    def _order(self, way: str, root: Path, number: int | None) -> None:
        self._process.stdin.write(json.dumps([way, str(root), number]) + "\n")

    def _line(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the program that makes the children has ended"
        return line.strip()

    def _end(self) -> End:
        returned = (line := self._line()) == "returned"
        code = int(self._line() if returned else line)
        assert code in {0, -signal.SIGKILL, _REFUSED}, f"the child ended with {code}"
        assert returned or code, "it ended well and never returned"
        return End(returned, killed=code == -signal.SIGKILL, refused=code == _REFUSED)


def _await_asleep(pid: int) -> None:
    """Waits until a child waits for `_BEGIN`: what it does on the way there is not to be watched."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.001)


def serve() -> None:
    """Carries out orders until there are no more."""
    _rehearse()
    signal.pthread_sigmask(signal.SIG_BLOCK, {_BEGIN})
    for line in sys.stdin:
        name, root, number = json.loads(line)
        pid = os.fork()
        if not pid:
            # The waits, too, are watched where strace does that; a shim sees none.
            way = WAYS[name] if number is None else WAYS[name].hasty
            _child(lambda way=way, root=root: way.run(Path(root)), number)
        if number is None:
            print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _rehearse() -> None:
    """Imports all that a change needs: what is watched later is the change alone."""
    with tempfile.TemporaryDirectory() as folder:
        for number, way in enumerate(WAYS.values()):
            way.lay(root := Path(folder, str(number)))
            way.hasty.run(root)


def _child(change: Callable[[], None], number: int | None) -> None:
    try:
        if number is None:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
            signal.sigwait({_BEGIN})
            change()
        else:
            _kill_before(number, change)
        os.write(1, b"returned\n")
        os._exit(0)
    except ImgstoreError:
        os._exit(_REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _kill_before(number: int, change: Callable[[], None]) -> None:
    """Kills this process before a call of `change`: after one is the same as before the next."""
    left = number

    def watch(name, call, args, options):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call()

    with Calls(watch):
        change()


if __name__ == "__main__":
    serve()
