"""swift://CONTAINER/OBJECT, with the account that the environment names to every OpenStack client."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from imgstore.errors import ConfigError
from imgstore.secret import SECRET_LIMIT

# The driver's options by the variables that `openstack` and `swift` read; of two for one the first counts.
_VARIABLES: Final = {
    "OS_AUTH_URL": "auth_url",
    "OS_USERNAME": "user",
    "OS_PASSWORD": "password",
    "OS_USER_DOMAIN_NAME": "user_domain_name",
    "OS_USER_DOMAIN_ID": "user_domain_id",
    "OS_PROJECT_NAME": "project_name",
    "OS_TENANT_NAME": "project_name",
    "OS_PROJECT_ID": "project_id",
    "OS_TENANT_ID": "project_id",
    "OS_PROJECT_DOMAIN_NAME": "project_domain_name",
    "OS_PROJECT_DOMAIN_ID": "project_domain_id",
    "OS_APPLICATION_CREDENTIAL_ID": "application_credential_id",
    "OS_APPLICATION_CREDENTIAL_SECRET": "application_credential_secret",
    "OS_REGION_NAME": "region",
    "OS_INTERFACE": "interface",
    "OS_ENDPOINT_TYPE": "interface",
    "OS_STORAGE_URL": "endpoint",
    "OS_CACERT": "ca_file",
    "OS_CERT": "client_cert",
    "OS_KEY": "client_key",
}
_FIRST: Final = {"ST_AUTH": "auth_url", "ST_USER": "user", "ST_KEY": "password"}
# Of a cloud in clouds.yaml, the part `auth`, and what stands beside it.
_AUTH: Final = {
    "auth_url": "auth_url",
    "username": "user",
    "password": "password",
    **{
        name: name
        for name in (
            *("user_domain_name", "user_domain_id", "project_name", "project_id"),
            *("project_domain_name", "project_domain_id"),
            *("application_credential_id", "application_credential_secret"),
        )
    },
}
_BESIDE: Final = {
    "region_name": "region",
    "interface": "interface",
    "object_store_endpoint_override": "endpoint",
    "cacert": "ca_file",
    "cert": "client_cert",
    "key": "client_key",
}
_FOLDERS: Final = (".", "~/.config/openstack", "/etc/openstack")


def options_at(url: str, environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Gives the options of a store over the container of `url`, and the key there; each part may be encoded.

    The account is that of OS_CLOUD in clouds.yaml; else that of ST_AUTH, ST_USER and ST_KEY; else that of
    OS_AUTH_URL and its kin, as the swift command has it.

    Raises: ConfigError.
    """
    parts = urlsplit(url)
    container, key = unquote(parts.netloc), unquote(parts.path.removeprefix("/"))
    if parts.scheme.lower() != "swift" or not container or "@" in container or parts.query or parts.fragment:
        raise ConfigError(
            "the URL is not of the form swift://CONTAINER/OBJECT; ? and # in a name are %3F, %23"
        )
    return {"container": container, **_account(environment)}, key


def _account(environment: Mapping[str, str]) -> dict[str, Any]:
    if cloud := environment.get("OS_CLOUD"):
        return _of_cloud(cloud, environment)
    if environment.get("ST_AUTH"):
        found = _picked(environment, _FIRST)
        missing = sorted(set(_FIRST) - {name for name in _FIRST if environment.get(name)})
        if missing:
            raise ConfigError(f"the environment has ST_AUTH, but not {missing[0]}")
        return {"auth_version": environment.get("ST_AUTH_VERSION", "1"), **found}
    found = _picked(environment, _VARIABLES)
    if "auth_url" not in found:
        raise ConfigError(
            "the environment names no account: set OS_CLOUD, or OS_AUTH_URL and its kin, or ST_AUTH, ST_USER"
            " and ST_KEY"
        )
    return _plain({"auth_version": environment.get("OS_IDENTITY_API_VERSION", "3"), **found})


def _picked(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, option in names.items():
        if given.get(name):
            found.setdefault(option, str(given[name]))
    return found


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Gives the options by the driver's rules: publicURL is public; a credential needs no project."""
    if "interface" in options:
        options["interface"] = options["interface"].removesuffix("URL")
    if "application_credential_id" in options:
        for name in ("user", "password", "project_name", "project_id"):
            options.pop(name, None)
    for name in ("user_domain", "project", "project_domain"):
        if f"{name}_id" in options:
            options.pop(f"{name}_name", None)
    return options


def _of_cloud(name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    paths = [environment["OS_CLIENT_CONFIG_FILE"]] if environment.get("OS_CLIENT_CONFIG_FILE") else None
    cloud = _found(name, paths or [f"{folder}/clouds.yaml" for folder in _FOLDERS])
    if cloud is None:
        raise ConfigError(f"OS_CLOUD is {name!r}, and no clouds.yaml has a cloud of that name")
    secure = _found(name, [f"{folder}/secure.yaml" for folder in _FOLDERS]) or {}
    auth = {**_mapping(cloud.get("auth")), **_mapping(secure.get("auth"))}
    options = {**_picked({**cloud, **secure}, _BESIDE), **_picked(auth, _AUTH)}
    if cloud.get("verify") is False:
        options["verify_tls"] = False
    return _plain({"auth_version": str(cloud.get("identity_api_version", "3")), **options})


def _found(name: str, paths: list[str]) -> Mapping[str, Any] | None:
    """Gives a cloud out of the first file that is there. Raises: ConfigError for one that cannot be read."""
    yaml: Any = importlib.import_module("yaml")  # oslo.config's own dependency; it has no types

    for path in map(os.path.expanduser, paths):
        try:
            with open(path, encoding="utf-8") as file:
                told = yaml.safe_load(file.read(SECRET_LIMIT))
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise ConfigError(f"{path} cannot be read: {exc.strerror}") from None
        except (yaml.YAMLError, ValueError):
            # what is wrong with it may stand beside a password
            raise ConfigError(f"{path} is no YAML") from None
        found = _mapping(_mapping(told).get("clouds")).get(name)
        return None if found is None else _mapping(found)
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
