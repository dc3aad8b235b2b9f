"""Who logs in, as the options say: checked once, and made into a login."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from imgstore.backends._http.address import parse
from imgstore.backends._http.transport import Transport
from imgstore.backends.swift.access import Access, Login
from imgstore.backends.swift.login import FirstLogin
from imgstore.clock import Clock
from imgstore.errors import ConfigError
from imgstore.model import Call
from imgstore.secret import Secret, reveal


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The options about authentication, under their own names. Raises: ConfigError naming the wrong one."""

    auth_url: str
    auth_version: str
    user: str | None
    password: Secret | None = field(repr=False)
    user_domain_name: str | None
    user_domain_id: str | None
    project_name: str | None
    project_id: str | None
    project_domain_name: str | None
    project_domain_id: str | None
    application_credential_id: str | None
    application_credential_secret: Secret | None = field(repr=False)
    region: str | None
    interface: str
    service_type: str
    endpoint: str | None

    def __post_init__(self) -> None:
        parse(self.auth_url, "the option 'auth_url'")
        if self.endpoint is not None:
            parse(self.endpoint, "the option 'endpoint'")
        if self.interface.removesuffix("URL") not in {"public", "internal", "admin"}:
            raise ConfigError(
                f"the option 'interface' is {self.interface!r}; it is public, internal or admin"
            )
        version = self.auth_version.removeprefix("v").removesuffix(".0")
        if version not in {"1", "3"}:
            raise ConfigError(f"the option 'auth_version' is {self.auth_version!r}; it is 3, or 1")
        if self.application_credential_id is not None or self.application_credential_secret is not None:
            self._check_credential(version)
        elif self.user is None or self.password is None:
            raise ConfigError(
                "the options 'user' and 'password' are needed, or an application credential"
                if version == "3"
                else "the options 'user' and 'password' are needed"
            )
        elif version == "3" and self.project_name is None and self.project_id is None:
            raise ConfigError(
                "the option 'project_name' or 'project_id' is needed: the images are in its account"
            )
        for name in ("user_domain", "project", "project_domain"):
            if getattr(self, f"{name}_name") is not None and getattr(self, f"{name}_id") is not None:
                raise ConfigError(f"the options '{name}_name' and '{name}_id' exclude each other; give one")

    def _check_credential(self, version: str) -> None:
        if version != "3":
            raise ConfigError("application credentials are Keystone's: they need auth_version 3")
        if self.application_credential_id is None or self.application_credential_secret is None:
            raise ConfigError(
                "the options 'application_credential_id' and 'application_credential_secret' need each other"
            )
        if self.user is not None or self.password is not None:
            raise ConfigError("an application credential goes in place of 'user' and 'password'; give one")

    @property
    def location(self) -> str:
        """Where the account is, without secrets."""
        return str(parse(self.endpoint or self.auth_url, "the URL")[0])

    def login(self, transport: Transport, clock: Clock) -> Login:
        """Gives what logs in with it; secrets are asked for at each login."""
        if self.auth_version.startswith(("1", "v1")):
            return FirstLogin(
                transport,
                clock,
                auth_url=self.auth_url,
                user=self.user or "",
                password=self.password or "",
                endpoint=self.endpoint,
            )
        return functools.partial(self._login, transport)

    def _login(self, transport: Transport, call: Call) -> Access:
        try:
            from imgstore.backends.swift import keystone
        except ImportError as exc:
            raise ConfigError(
                "Keystone needs keystoneauth1 and requests: pip install 'keystoneauth1>=5.0' requests"
            ) from exc
        wanted = {
            "service_type": self.service_type,
            "interface": self.interface,
            "region_name": self.region,
        }
        return keystone.login(transport, call, wanted=wanted, endpoint=self.endpoint, **self._plugin())

    def _plugin(self) -> dict[str, Any]:
        if self.application_credential_secret is not None:
            return {
                "auth_url": self.auth_url,
                "application_credential_id": self.application_credential_id,
                "application_credential_secret": reveal(self.application_credential_secret),
            }
        options = {
            "auth_url": self.auth_url,
            "username": self.user,
            "password": reveal(self.password or ""),
            "project_name": self.project_name,
            "project_id": self.project_id,
        }
        for name in ("user_domain", "project_domain"):
            of_id, of_name = getattr(self, f"{name}_id"), getattr(self, f"{name}_name")
            options |= {f"{name}_id": of_id, f"{name}_name": of_name or (None if of_id else "Default")}
        return options
