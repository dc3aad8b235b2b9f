"""The first version of Swift's authentication, as tempauth and radosgw have it: one GET."""

from __future__ import annotations

from imgstore.backends._http.transport import Transport
from imgstore.backends.swift.access import Access
from imgstore.backends.swift.failures import RefusedError
from imgstore.clock import Clock
from imgstore.errors import AuthenticationError, BadReplyError, ConfigError
from imgstore.model import Call
from imgstore.secret import Secret, reveal

# A lifetime above that is not worth a thought, and a server may send any number.
_LONGEST = 10 * 365 * 86400.0


class FirstLogin:
    """Asks `auth_url` with user and key; `endpoint` goes before the storage URL that the reply names."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        *,
        auth_url: str,
        user: str,
        password: Secret,
        endpoint: str | None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._auth_url = auth_url
        self._user = user
        self._password = password
        self._endpoint = endpoint

    def __call__(self, call: Call) -> Access:
        headers = {
            "X-Auth-User": sendable(self._user, "user"),
            "X-Auth-Key": sendable(reveal(self._password), "password"),
        }
        watch = self._transport.watch(call)
        exchange = self._transport.send("GET", self._auth_url, headers, watch=watch)
        reply = exchange.reply
        exchange.dismiss()
        if reply.status in {401, 403}:
            raise AuthenticationError(
                f"the server does not accept user and password (status {reply.status})",
                request_id=reply.request_id,
            )
        if not 200 <= reply.status < 300:
            raise RefusedError(reply)
        url = self._endpoint or reply.value("x-storage-url")
        token = reply.value("x-storage-token") or reply.value("x-auth-token")
        if not url or not token:
            raise BadReplyError(
                "the server answers at auth_url, but gives no storage URL and token; correct auth_url, or"
                " auth_version",
                request_id=reply.request_id,
            )
        return Access(url.rstrip("/"), token, self._expires(reply.single("x-auth-token-expires")))

    def _expires(self, seconds: str | None) -> float | None:
        if seconds is None or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
            return None
        return self._clock.time() + min(float(seconds), _LONGEST)


def sendable(text: str, option: str) -> str:
    """Gives `text` as a header carries it: UTF-8, which Swift reads. Raises: ConfigError."""
    if not text.isprintable():
        raise ConfigError(f"the option '{option}' holds a character that no header can carry")
    return text.encode().decode("latin-1")
