"""A Swift that keeps the rules: tokens, preconditions, manifests and each segment's ETag. And breaks.

It shares no code with the driver. Listings can lag, tokens end, and any single request can go wrong.
"""

# ruff: noqa: N802, N815  # http.server's names

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.faults.service import Service, ServiceHandler

ACCOUNT = "/v1/AUTH_test"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one request.

    `status`: it is answered with that, and nothing is done; with `done` it is done first. `lose`: it is done,
    and the connection cut before a byte of the reply. `reset`: cut at once, nothing done. `stall`: nothing is
    done and nothing answered, or half of a body that is there. `flip`: a byte of what it brings is another
    when it is stored, and nobody compares. `cut`: that many bytes of the reply's body come.
    """

    status: int | None = None
    done: bool = False
    lose: bool = False
    reset: bool = False
    stall: bool = False
    flip: bool = False
    cut: int | None = None
    fields: tuple = ()


@dataclass
class Object:
    data: bytes
    etag: str
    stamp: float
    meta: dict = field(default_factory=dict)
    slo: list | None = None
    dlo: str | None = None


class Refused(Exception):  # noqa: N818  # a reply, not a failure
    def __init__(self, status, body=b"", fields=()):
        super().__init__(status)
        self.status, self.body, self.fields = status, body, dict(fields)


class SwiftServer(Service):
    """One account on a port of 127.0.0.1, from `start` to `stop`.

    `log` has (method, path, query) of each request, `sent` the bytes of each object that was received.
    `numbered[n]` is the fault of request n, from 0; `paths` has (method, pattern of the path, fault) that
    strike once each.
    """

    def __init__(
        self, *, secret="", segments=1000, page=10_000, conditional=True, manifests=True, refuses=False
    ):
        super().__init__()
        self.secret = secret
        self.info = {"slo": {"max_manifest_segments": segments, "min_segment_size": 1}}
        self.page = page
        self.conditional, self.manifests, self.refuses = conditional, manifests, refuses
        self.containers: dict[str, dict[str, Object]] = {"images": {}}
        self.tokens: set[str] = set()
        self.lifetime: int | None = 86400
        self.logins = 0
        self.ranges = True
        self.room: int | None = None
        self.denied: set[tuple[str, str]] = set()
        self.frozen: dict[str, dict[str, Object]] | None = None
        self.before = lambda method, path: None
        self.numbered: dict[int, Fault] = {}
        self.paths: list[tuple[str, str, Fault]] = []

    def script(self, method, pattern, fault):
        self.paths.append((method, pattern, fault))

    def put(self, container, key, data, **fields):
        """Stores an object behind everybody's back."""
        with self.lock:
            found = Object(data, hashlib.md5(data).hexdigest(), self.stamp(), **fields)
            self.containers.setdefault(container, {})[key] = found
            return found

    def stamp(self):
        return int(time.time()) + next(self.numbers) / 100_000

    def forget_tokens(self):
        self.tokens.clear()

    def lag(self):
        """Has listings tell what is there now, whatever comes."""
        self.frozen = {name: dict(objects) for name, objects in self.containers.items()}

    def catch_up(self):
        self.frozen = None

    def names(self, container):
        return sorted(self.containers.get(container, {}))

    def body_of(self, container, key):
        """What a reader of an object would get, all segments good."""
        found = self.containers[container][key]
        if found.slo is None:
            return found.data
        return b"".join(self.body_of(*each["path"].strip("/").split("/", 1)) for each in found.slo)

    def count(self, method, pattern):
        return sum(each == method and re.search(pattern, path) is not None for each, path, _ in self.log)

    def fault(self, number, method, path):
        with self.lock:
            if number in self.numbered:
                return self.numbered[number]
            for each in self.paths:
                if each[0] == method and re.search(each[1], path):
                    self.paths.remove(each)
                    return each[2]
        return Fault()


class _Handler(ServiceHandler):
    service: SwiftServer

    def do_GET(self):
        swift, url = self.service, urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        path = unquote(url.path)
        with swift.lock:
            number = len(swift.log)
            swift.log.append((self.command, path, url.query))
        fault = swift.fault(number, self.command, path)
        if fault.reset:
            return self.reset()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        swift.sent[path] += len(body)
        swift.before(self.command, path)
        if fault.stall and self.command != "GET":
            swift.ended.wait()
            return None
        if fault.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        try:
            with swift.lock:
                if fault.status and not fault.done:
                    raise Refused(fault.status, fields=fault.fields)
                status, fields, reply = self._done(path, body, checked=not fault.flip)
        except Refused as refusal:
            status, fields, reply = refusal.status, refusal.fields, refusal.body
        if fault.lose:
            return self.reset()
        if fault.done:
            status, reply = fault.status, b""
        return self._answer(status, fields, reply, fault)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_COPY = do_GET

    def _answer(self, status, fields, reply, fault):
        broken = fields.pop("broken", False)
        self.send_response(status)
        for name, value in {"X-Trans-Id": f"tx{len(self.service.log)}", **fields}.items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in fields:
            self.send_header("Content-Length", str(len(reply)))
        if fault.stall and len(reply) < 2:
            self.service.ended.wait()
            return
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.stall:
            self.wfile.write(reply[: len(reply) // 2])
            self.service.ended.wait()
        elif fault.cut is not None:
            self.wfile.write(reply[: fault.cut])
            self.reset()
        else:
            self.wfile.write(reply)
            if broken:
                self.reset()
        return

    def _done(self, path, body, *, checked):
        if path == "/auth/v1.0":
            return self._log_in()
        if path == "/info":
            return 200, {}, json.dumps(self.service.info).encode()
        if self.headers.get("X-Auth-Token") not in self.service.tokens:
            raise Refused(401)
        assert path.startswith(ACCOUNT), path
        container, _, key = path[len(ACCOUNT) :].lstrip("/").partition("/")
        if (self.command, container) in self.service.denied:
            raise Refused(403)
        if not container:
            return self._account()
        if not key:
            return self._container(container)
        if container not in self.service.containers:
            raise Refused(404)
        return getattr(self, f"_{self.command.lower()}")(container, key, body, checked)

    def _log_in(self):
        swift = self.service
        if (self.headers["X-Auth-User"], self.headers["X-Auth-Key"]) != ("test:tester", swift.secret):
            raise Refused(401)
        swift.logins += 1
        token = f"AUTH_tk{swift.logins}"
        swift.tokens.add(token)
        fields = {"X-Storage-Url": swift.url + ACCOUNT, "X-Auth-Token": token}
        if swift.lifetime is not None:
            fields["X-Auth-Token-Expires"] = str(swift.lifetime)
        return 200, fields, b""

    def _account(self):
        if self.command == "HEAD":
            return 204, {}, b""
        listed = [{"name": name} for name in sorted(self.service.containers)]
        return self._page(listed)

    def _container(self, container):
        held = self.service.containers
        if self.command == "PUT":
            held.setdefault(container, {})
            return 201, {}, b""
        if container not in held:
            raise Refused(404)
        if self.command == "GET":
            shown = held[container] if self.service.frozen is None else self.service.frozen.get(container, {})
            return self._page([_entry(name, shown[name]) for name in sorted(shown, key=str.encode)])
        if self.command == "DELETE":
            if held[container]:
                raise Refused(409)
            del held[container]
        return 204, {"X-Container-Object-Count": str(len(held.get(container, ())))}, b""

    def _page(self, listed):
        prefix, marker = self.query.get("prefix", ""), self.query.get("marker", "")
        found = [
            each
            for each in listed
            if each["name"].startswith(prefix) and each["name"].encode() > marker.encode()
        ]
        most = min(int(self.query.get("limit", self.service.page)), self.service.page)
        return 200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(found[:most]).encode()

    def _put(self, container, key, body, checked):
        swift, objects = self.service, self.service.containers[container]
        if swift.conditional and self.headers.get("If-None-Match") == "*" and key in objects:
            raise Refused(412)
        used = sum(len(each.data) for held in swift.containers.values() for each in held.values())
        if swift.room is not None and used + len(body) > swift.room:
            raise Refused(413)
        etag = hashlib.md5(body).hexdigest()
        meta = {
            name: value for name, value in self.headers.items() if name.lower().startswith("x-object-meta-")
        }
        if self.query.get("multipart-manifest") == "put":
            slo = json.loads(body)
            etag = self._checked_manifest(slo)
            objects[key] = Object(body, etag, swift.stamp(), meta, slo=slo)
            return 201, {"Etag": f'"{etag}"'}, b""
        if checked and self.headers.get("ETag") not in {None, etag}:
            raise Refused(422)
        dlo = self.headers.get("X-Object-Manifest")
        objects[key] = Object(body, etag, swift.stamp(), meta, dlo=unquote(dlo) if dlo else None)
        return 201, {"Etag": etag}, b""

    def _checked_manifest(self, slo):
        wrong = []
        if len(slo) > self.service.info["slo"]["max_manifest_segments"]:
            raise Refused(413)
        for each in slo:
            found = self._segment(each["path"])
            if found is None or found.etag != each["etag"] or len(found.data) != each["size_bytes"]:
                wrong.append(each["path"])
        if wrong:
            raise Refused(400, f"Errors:\n{wrong}".encode())
        return hashlib.md5("".join(each["etag"] for each in slo).encode()).hexdigest()

    def _segment(self, path):
        container, _, name = path.lstrip("/").partition("/")
        return self.service.containers.get(container, {}).get(name)

    def _found(self, container, key):
        found = self.service.containers[container].get(key)
        if found is None:
            raise Refused(404)
        return found

    def _fields(self, found):
        tag = f'"{found.etag}"' if found.slo is not None or found.dlo else found.etag
        fields = {
            "Etag": tag,
            "X-Timestamp": f"{found.stamp:.5f}",
            "Last-Modified": formatdate(found.stamp, usegmt=True),
            **found.meta,
        }
        if found.slo is not None:
            fields["X-Static-Large-Object"] = "True"
        if found.dlo:
            fields["X-Object-Manifest"] = found.dlo
        return fields

    def _whole(self, found):
        """The bytes of an object, and whether they break off there."""
        if found.dlo:
            container, _, prefix = found.dlo.partition("/")
            held = self.service.containers.get(container, {})
            return b"".join(held[name].data for name in sorted(held) if name.startswith(prefix)), False
        if found.slo is None:
            return found.data, False
        data = b""
        for each in found.slo:
            segment = self._segment(each["path"])
            if segment is None or segment.etag != each["etag"]:
                return data, True
            data += segment.data
        return data, False

    def _head(self, container, key, body, checked):
        found = self._found(container, key)
        size = len(self._whole(found)[0])
        if found.slo is not None:
            size = sum(each["size_bytes"] for each in found.slo)
        return 200, {**self._fields(found), "Content-Length": str(size)}, b""

    def _get(self, container, key, body, checked):
        found = self._found(container, key)
        if self.query.get("multipart-manifest") == "get" and found.slo is not None:
            told = [
                {"name": each["path"], "bytes": each["size_bytes"], "hash": each["etag"]}
                for each in found.slo
            ]
            return 200, {}, json.dumps(told).encode() if self.service.manifests else b""
        wanted = self.headers.get("If-Match")
        refused = wanted and found.slo is not None and self.service.refuses
        if refused or (wanted and wanted.strip('"') != found.etag):
            raise Refused(412)
        data, broken = self._whole(found)
        size = len(data) if found.slo is None else sum(each["size_bytes"] for each in found.slo)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or not self.service.ranges:
            return 200, {**self._fields(found), "Content-Length": str(size), "broken": broken}, data
        start = int(asked[1])
        if start >= size:
            raise Refused(416, fields={"Content-Range": f"bytes */{size}"})
        stop = min(size, int(asked[2]) + 1) if asked[2] else size
        if broken and start >= len(data):
            raise Refused(409)
        told = {"Content-Range": f"bytes {start}-{stop - 1}/{size}", "Content-Length": str(stop - start)}
        cut = broken and stop > len(data)
        return 206, {**self._fields(found), **told, "broken": cut}, data[start:stop]

    def _post(self, container, key, body, checked):
        found = self._found(container, key)
        found.meta = {
            name: value for name, value in self.headers.items() if name.lower().startswith("x-object-meta-")
        }
        return 202, {}, b""

    def _delete(self, container, key, body, checked):
        self._found(container, key)
        del self.service.containers[container][key]
        return 204, {}, b""

    def _copy(self, container, key, body, checked):
        found = self._found(container, key)
        place, _, name = unquote(self.headers["Destination"]).lstrip("/").partition("/")
        self.service.put(place, name, found.data)
        return 201, {}, b""


def _entry(name, found):
    size = len(found.data) if found.slo is None else sum(each["size_bytes"] for each in found.slo)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(found.stamp))
    return {
        "name": name,
        "bytes": size,
        "hash": found.etag,
        "last_modified": f"{when}.{int(found.stamp % 1 * 1_000_000):06}",
    }


SwiftServer.handler = _Handler
