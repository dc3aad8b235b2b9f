"""Keeps pytest out of a package that is to be installed, and half of which cannot be imported."""

from __future__ import annotations

collect_ignore = ["imgstore_pieces"]
