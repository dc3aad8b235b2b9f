"""Fuzzes one target, guided by what its code does with each input: python -m tests.fuzz.run TARGET

It begins from the committed corpus and runs for some seconds. Status 0: nothing was found. Else the input is
told, and kept in the folder given by --keep: it belongs into the corpus, with the repair.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
# The parser of YAML in Python is instrumented in the stead of libyaml, which came without instruments.
READERS = ["imgstore.manifest", "imgstore.journal", "imgstore.records", "yaml", "tests.fuzz.targets"]
with atheris.instrument_imports(include=READERS):
    from tests.fuzz.targets import BAD, TARGETS


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=[*TARGETS, *BAD])
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--memory", type=int, default=512, help="MiB of address space (%(default)s)")
    parser.add_argument("--longest", type=int, default=4096, help="bytes of an input at most (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is random; 0: another each time")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="where finds are kept")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (options.memory << 20, options.memory << 20))
    flags = [
        f"-max_total_time={options.seconds}",
        f"-max_len={options.longest}",
        f"-seed={options.seed}",
        f"-artifact_prefix={options.keep}/",
        "-timeout=5",  # seconds for one input: one of 4 KiB takes some milliseconds
        "-rss_limit_mb=0",  # RLIMIT_AS limits it; libFuzzer's own figure begins with what its parent had
        "-print_final_stats=1",
    ]
    words = HERE / f"{options.target}.dict"
    flags += [f"-dict={words}"] if words.exists() else []
    seeds = HERE / "corpus" / options.target
    with tempfile.TemporaryDirectory() as found:
        folders = [found, str(seeds)] if seeds.exists() else [found]
        atheris.Setup([sys.argv[0], *flags, *folders], (TARGETS | BAD)[options.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
