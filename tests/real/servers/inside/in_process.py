"""What Swift's servers want of a machine, inside their own process: a cache, and a log without syslog.

The cache is the proxy's alone, so that no memcached is needed: its tokens end with it, and a restarted proxy
answers 401 to the old ones.
"""

import json
import logging
import os
import time


class Cache:
    """What Swift calls of its memcache client, on a dictionary.

    Values pass through JSON, as on their way to memcached: what was a tuple comes back as a list.
    """

    def __init__(self, forget):
        self._forget = forget
        self._forgotten = 0
        self._values = {}

    def set(self, key, value, serialize=True, time=0, **options):
        self._values[key] = json.dumps(value), until(time)

    def get(self, key, raise_on_error=False, **options):
        self._look_whether_to_forget()
        value, end = self._values.get(key, ("null", 0))
        return json.loads(value) if not end or time.time() < end else None

    def incr(self, key, delta=1, time=0, **options):
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key, delta=1, time=0, **options):
        return self.incr(key, -int(delta), time)

    def delete(self, key, **options):
        self._values.pop(key, None)

    def set_multi(self, mapping, server_key=None, serialize=True, time=0, **options):
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys, server_key=None, **options):
        return [self.get(key) for key in keys]

    def _look_whether_to_forget(self):
        """Drops all where the file that asks for it was touched since: open connections go on."""
        try:
            touched = os.stat(self._forget).st_mtime_ns
        except FileNotFoundError:
            return
        if touched != self._forgotten:
            self._forgotten = touched
            self._values.clear()


def until(seconds):
    """Gives when `seconds` from now is; 0 is for ever."""
    return time.time() + seconds if seconds else 0


def filter_factory(global_conf, forget, **conf):
    """Gives the filter that hands the cache to those behind it, by the rules of Paste."""
    cache = Cache(forget)

    def wrap(app):
        def call(environ, start_response):
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return call

    return wrap


def log_to_file(conf, name, log_to_console, log_route, fmt, logger, adapted_logger):
    """Adds the file that the configuration names to a logger; Swift calls it for each it makes."""
    path = conf.get("log_file")
    if path and not any(isinstance(each, logging.FileHandler) for each in logger.handlers):
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
