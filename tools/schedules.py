"""Plays any number of fault schedules over several processes, and prints the histogram.

python tools/schedules.py 1000000 --first 0 --jobs 2

Exit status 1 as soon as one goes wrong: it prints the seed and the least script that does, and
IMGSTORE_SEED=... pytest tests/faults/test_schedules.py replays it.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imgstore.testing.faults import predict, schedule
from tests.faults import schedules


def block(seeds):
    """Plays the schedules of `seeds`; gives their tally, and the verdicts that went wrong."""
    logging.disable(logging.CRITICAL)  # a warning for each resume
    tally, wrong = schedules.Tally(), []
    for seed in seeds:
        drawn = schedule(seed)
        verdict = schedules.judge(drawn)
        tally.add(drawn, predict(drawn))
        if verdict is not None:
            wrong.append(verdict)
    return tally, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "count", nargs="?", type=int, default=1_000_000, help="schedules to play (%(default)s)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="play on after one went wrong")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.count)
    blocks = [seeds[at : at + schedules.ROUND] for at in range(0, len(seeds), schedules.ROUND)]
    total, wrong, begun = schedules.Tally(), 0, time.monotonic()
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for number, (tally, verdicts) in enumerate(pool.imap_unordered(block, blocks), 1):
            total.merge(tally)
            wrong += len(verdicts)
            for verdict in verdicts:
                print(verdict, end="\n\n", flush=True)
            if number % 50 == 0:
                print(f"{number * schedules.ROUND} played, {time.monotonic() - begun:.0f} s", file=sys.stderr)
            if wrong and not args.go_on:
                break
    print(f"{total}\n{wrong} went wrong, {time.monotonic() - begun:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
