"""The secrets of this suite: the only ones its tests use, so that any sight of one is a leak."""

from __future__ import annotations

import base64
from urllib.parse import quote

PASSWORD = "CANARY-SECRET/password+4uGm"
TOKEN = "CANARY-SECRET.token.9vXk2"
# The value of a signature in a presigned URL: f"{url}?X-Amz-Signature={PRESIGNED_QUERY}"
PRESIGNED_QUERY = "CANARY-SECRET-presigned-7Rw0"
# The value of an extra header that an operator configured
HEADER = "CANARY-SECRET header e3Jb"

SECRETS = {"PASSWORD": PASSWORD, "TOKEN": TOKEN, "PRESIGNED_QUERY": PRESIGNED_QUERY, "HEADER": HEADER}


def _forms(secret: str) -> set[str]:
    """Gives what `secret` looks like in a message: as it is, quoted for a URL, or inside base64."""
    raw = secret.encode()
    forms = {secret, quote(secret), quote(secret, safe="")}
    for shift in range(3):
        # Basic credentials are base64 of "user:password", and where the password starts decides its
        # letters. What shares a group of three bytes with a neighbour is left out.
        forms.add(base64.b64encode(raw[shift : shift + (len(raw) - shift) // 3 * 3]).decode())
    return forms


_FORMS = {form: name for name, secret in SECRETS.items() for form in _forms(secret)}


def found(text: str) -> set[str]:
    """Gives the names of the secrets that stand in `text`, in any form."""
    return {name for form, name in _FORMS.items() if form in text}


def scrubbed(text: str) -> str:
    """Gives `text` with each secret replaced by its name, fit to be shown."""
    for form in sorted(_FORMS, key=len, reverse=True):
        text = text.replace(form, f"<secret {_FORMS[form]}>")
    return text
