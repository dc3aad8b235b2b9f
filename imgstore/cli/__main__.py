"""`python -m imgstore.cli` is `imgstore`."""

from __future__ import annotations

import sys

from imgstore.cli import main

sys.exit(main())
