"""The part of a long list of cases that `make test` runs; `make test-real` runs the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(values: Iterable[Any], keep: int) -> list[Any]:
    """Gives `values` to parametrize with, all but each `keep`-th of them marked as wide.

    A value that is a tuple is one for each argument.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=[pytest.mark.wide] * (number % keep > 0)
        )
        for number, value in enumerate(values)
    ]
