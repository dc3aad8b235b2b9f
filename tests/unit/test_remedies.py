"""What messages say to install: libraries by their own names, in the versions that setup.cfg asks for."""

import ast
import configparser
import re
import shlex
from pathlib import Path

import pytest

from imgstore.config import drivers

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "imgstore"
COMMAND = "pip install "
# Nobody is told of it who does not ask for its digests: copies do without, at the price of CRC-32.
_MERELY_FASTER = {"xxhash>=2.0"}


def needed():
    """Gives what the extras need, by extra, in the form that messages have it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"].items()
    lines = {extra: re.sub(r"#.*", "", told).splitlines() for extra, told in extras}
    return {extra: {line.replace(" ", "") for line in told if line} for extra, told in lines.items()}


def told(room):
    """Gives the libraries that the messages of a room say how to install."""
    found = set()
    for path in [room] if room.suffix else room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and COMMAND in node.value:
                found |= set(shlex.split(node.value.partition(COMMAND)[2]))
    return found


@pytest.mark.parametrize(
    "extra, room",
    [
        ("s3", "backends/s3"),
        ("swift", "backends/swift"),
        ("rbd", "backends/rbd"),
        ("prometheus", "integrations/prometheus.py"),
        ("opentelemetry", "integrations/opentelemetry.py"),
        ("cli", "cli"),
    ],
)
def test_whoever_lacks_a_library_is_told_its_name_and_version(extra, room):
    assert told(PACKAGE / room) == needed()[extra] - _MERELY_FASTER


def test_each_digest_that_is_missing_is_told_its_library():
    assert told(PACKAGE / "hashing") == needed()["hash"]


def test_no_message_sends_anybody_to_the_other_project_of_our_name():
    """On PyPI `imgstore` is somebody else's."""
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"pip install '?imgstore", path.read_text()), path
    assert [drivers._remedy(name) for name in ("s3", "swift", "rbd")] == ["", "", ""]
