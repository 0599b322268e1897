"""Standard Webhooks, symmetric: HMAC-SHA256 over `id.timestamp.body`, one for each secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; ValueError, which does not show it, if it is none."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"a secret begins with {PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"behind {PREFIX} a secret is base64") from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"a secret has {_SHORTEST} to {_LONGEST} bytes, this one {len(key)}")
    return key


def signatures(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of webhook-signature; a receiver is content with any one of them."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
