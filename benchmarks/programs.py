"""How our own program is started: as its users have it, by the script that pip made."""

from __future__ import annotations

import sys
from pathlib import Path

IMGSTORE = [str(Path(sys.executable).with_name("imgstore"))]
