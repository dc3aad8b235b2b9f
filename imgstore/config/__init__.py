"""Stores by configuration: oslo.config says which, entry points bring their drivers."""

from __future__ import annotations

from imgstore.config.files import load
from imgstore.config.opening import open_stores
from imgstore.config.options import register_opts
from imgstore.config.sample import list_opts
from imgstore.config.stores import Stores

__all__ = ["Stores", "list_opts", "load", "open_stores", "register_opts"]
