"""As much of Keystone as a login is: it answers each with a token and a catalog that it was given."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def serving(token: str, url: str) -> Iterator[str]:
    """Gives the URL of an identity service whose every login is `token` for the object store at `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"token": _TOKEN | {"catalog": [_service(url)]}}).encode()
            self.send_response(201)
            self.send_header("X-Subject-Token", token)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v3"
        finally:
            server.shutdown()
            thread.join()


def _service(url: str) -> dict:
    endpoint = {"id": "e", "interface": "public", "region": "one", "region_id": "one", "url": url}
    return {"id": "s", "type": "object-store", "name": "swift", "endpoints": [endpoint]}


_DOMAIN = {"id": "default", "name": "Default"}
_TOKEN = {
    "methods": ["password"],
    "user": {"id": "u", "name": "tester", "domain": _DOMAIN},
    "project": {"id": "p", "name": "test", "domain": _DOMAIN},
    "roles": [{"id": "r", "name": "admin"}],
    "issued_at": "2026-01-01T00:00:00.000000Z",
    "expires_at": "2099-01-01T00:00:00.000000Z",
}
