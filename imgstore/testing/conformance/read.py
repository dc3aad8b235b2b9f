"""The suite that every store passes."""

from __future__ import annotations

from imgstore.testing.conformance._errors import ErrorCases
from imgstore.testing.conformance._identity import IdentityCases
from imgstore.testing.conformance._lifetime import LifetimeCases
from imgstore.testing.conformance._ranges import RangeCases
from imgstore.testing.conformance._streams import StreamCases


class ReadSuite(RangeCases, IdentityCases, StreamCases, LifetimeCases, ErrorCases):
    """Exactly the bytes of one version, or a typed error; needs the hooks `store` and `seed`."""
