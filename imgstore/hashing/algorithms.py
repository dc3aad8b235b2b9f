"""The digests there are, by name."""

from __future__ import annotations

import hashlib
import importlib
from typing import Any, Final, Protocol

from imgstore.errors import ConfigError

# Those of hashlib that every build of Python has and whose digest has one length.
_STANDARD: Final = (
    "md5", "sha1", "sha224", "sha256", "sha384", "sha512",
    "sha3_224", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s",
)  # fmt: skip
# From packages of the extra `hash`: the module, each with a function of the digest's name.
_EXTRA: Final = {"blake3": "blake3", "xxh3_64": "xxhash", "xxh3_128": "xxhash"}
_CURES: Final = {"blake3": "pip install 'blake3>=1.0'", "xxhash": "pip install 'xxhash>=2.0'"}

ALGORITHMS: Final = (*_STANDARD, *_EXTRA)


class Hash(Protocol):
    """A digest being computed, as `hashlib` gives it."""

    def update(self, data: memoryview, /) -> object: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def new(name: str) -> Hash:
    """Gives a digest that has taken nothing yet, by its name in `ALGORITHMS`.

    None of them keeps a secret here, so a system under FIPS 140 may give md5 too.

    Raises: ConfigError for a name that is none, for one whose package is not installed, and for one that this
    system's policy forbids.
    """
    try:
        if name in _STANDARD:
            return hashlib.new(name, usedforsecurity=False)
        module: Any = importlib.import_module(_EXTRA[name])
    except KeyError:
        raise ConfigError(f"no digest is called {name!r}; there are {', '.join(ALGORITHMS)}") from None
    except ImportError as exc:
        raise ConfigError(f"{name} needs the package {_EXTRA[name]}: {_CURES[_EXTRA[name]]}") from exc
    except ValueError as exc:
        raise ConfigError(f"this system allows no {name}; take another digest") from exc
    made: Hash = getattr(module, name)()
    return made


def digest_size(name: str) -> int:
    """Gives how many bytes a digest has. Raises: as `new`."""
    return len(new(name).digest())
