"""The process in which a library runs: python -m benchmarks.child MODULE FUNCTION ARGUMENTS.

The function imports what it needs and gives the work to be timed. Printed is its cost, as JSON.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time


def main() -> None:
    module, function, arguments = sys.argv[1:]
    work = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    work()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak()}))


def peak() -> int:
    """Gives the most memory that this process had resident, in bytes.

    Not ru_maxrss: that of a child begins with what its parent had at the fork.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main()
