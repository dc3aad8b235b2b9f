"""The command line. Nothing is imported until `main` runs, and then only what the command needs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `imgstore` with the arguments after its name; gives the exit status."""
    if any(importlib.util.find_spec(name) is None for name in ("click", "rich")):
        sys.stderr.write(
            "imgstore: the command line needs click and rich: pip install 'click>=8.1' 'rich>=13.0'\n"
        )
        return 2
    from imgstore.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)
