"""A usage error is one line and status 2, by every click that may be installed."""

from __future__ import annotations

import click
import pytest

from imgstore.cli.app import run


@pytest.fixture(params=["installed", "8.1"])
def _click(request, monkeypatch):
    if request.param == "8.1":
        monkeypatch.delattr(click.exceptions, "NoArgsIsHelpError", raising=False)


@pytest.mark.usefixtures("_click")
@pytest.mark.parametrize(
    "argv, said",
    [
        ([], "missing command (see imgstore --help)"),
        (["frobnicate"], "'frobnicate'"),
        (["cp"], "missing argument 'DST' (see imgstore cp --help)"),
        (["ls", "--frobnicate"], "--frobnicate"),
        (["rm"], "(see imgstore rm --help)"),
    ],
)
def test_a_usage_error(argv, said, capsys):
    assert run(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("imgstore: ")
    assert said in line
