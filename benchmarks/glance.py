"""glance_store, set up as Glance does, with its chunks as large as everybody's."""

from __future__ import annotations

import warnings
from typing import Any


def opened(block: int, folder: str = "") -> tuple[Any, Any]:
    """Gives glance_store's interface and its settings: http, and by default files in `folder`, if given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import glance_store
        from glance_store._drivers import http
        from oslo_config import cfg

    http.Store.READ_CHUNKSIZE = block
    conf = cfg.ConfigOpts()
    glance_store.register_opts(conf)
    conf(args=[])
    conf.set_override("stores", ["http", "file"] if folder else ["http"], group="glance_store")
    conf.set_override("default_store", "file" if folder else "http", group="glance_store")
    if folder:
        conf.set_override("filesystem_store_datadir", folder, group="glance_store")
        conf.set_override("filesystem_store_chunk_size", block, group="glance_store")
    glance_store.create_stores(conf)
    return glance_store, conf
