"""An interrupt may come between any two steps of a read; it always gets through, and the stream closes."""

from __future__ import annotations

import subprocess
import sys

# Each child reads until a signal comes at a moment of its own; one that hangs is ended by the parent.
PROGRAM = """
import io, os, random, select, signal, sys
from imgstore.backends.memory import MemoryStore
from imgstore.stack import LayerSettings, build

def interrupt(*_):
    raise KeyboardInterrupt

def child(seed):
    store = build(memory, LayerSettings(max_streams=1))
    buffer = bytearray(512)
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, random.Random(seed).uniform(0.0005, 0.01))
    try:
        while True:
            with store.get("image") as stream:
                while stream.readinto(buffer):
                    pass
    except KeyboardInterrupt:
        os._exit(0)

memory = MemoryStore()
memory.writer.put("image", io.BytesIO(bytes(1 << 20)))
hung = 0
for seed in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        child(seed)
    handle = os.pidfd_open(pid)
    if not select.select([handle], [], [], 2)[0]:
        hung += 1
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(handle)
print(hung)
"""


def test_a_signal_at_any_moment_of_a_read_hangs_nothing():
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, "150"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.stdout == "0\n", ran.stderr
