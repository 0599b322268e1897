"""Session tokens, their digests, and the one cookie that carries them.

Why not the framework's cookie parser (measured): it strips Unicode space around names, so
`\\xe2\\x80\\x80__Host-sid=EVIL` replaces the good cookie; lets the last duplicate win; and ignores
a second Cookie header.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from functools import cache

from .decision import Reason
from .model import SessionKey

# Two hex digits of partition and 256 random bits in base64url (ASVS 7.2.3 asks for 128).
TOKEN_BYTES = 32
_PARTITIONS = tuple(f"{number:02x}" for number in range(256))  # memory holds very many of these
_TOKEN = re.compile(rb"[0-9a-f]{2}[A-Za-z0-9_-]{43}", re.ASCII)
_SESSION_ID = re.compile(r"([0-9a-f]{2})([0-9a-f]{32})", re.ASCII)


def new_token(partition: str) -> str:
    """Return a fresh secret for one session; it is shown once and stored nowhere."""
    return partition + secrets.token_urlsafe(TOKEN_BYTES)


def key_of_token(token: bytes, partitions: int) -> SessionKey | None:
    """Return where the token's session would live, or None if no token looks like this."""
    if _TOKEN.fullmatch(token) is None:
        return None
    number = int(token[:2], 16)
    if number >= partitions:
        return None
    return SessionKey(_PARTITIONS[number], hashlib.sha256(token).hexdigest()[:32])


def key_of_id(session_id: str, partitions: int) -> SessionKey | None:
    """Return the key behind a public session id, or None if it is not one."""
    match = _SESSION_ID.fullmatch(session_id)
    if match is None or int(match[1], 16) >= partitions:
        return None
    return SessionKey(match[1], match[2])


def partition_of_user(user: str, partitions: int) -> str:
    """Return the partition that holds all keys of a user: one Redis Cluster slot."""
    return f"{hashlib.sha256(user.encode()).digest()[0] % partitions:02x}"


def digest_of_user(user: str) -> str:
    """Return a fixed-length stand-in for a user id; ids never reach a Redis key as they came.

    160 bits: nobody who may choose ids can find two that share sessions.
    """
    return hashlib.sha256(user.encode()).hexdigest()[:40]


def session_cookie(headers: tuple[bytes, ...], name: bytes) -> bytes | Reason:
    """Return the one value of the cookie `name` in all Cookie headers, or why there is none.

    Splits on `;`, trims only SP and HTAB, compares exact bytes (RFC 6265 section 4.2.1 is the
    grammar; section 5.4 says that a client sends one line, so two differing values are an
    attack or a fault: neither is believed).
    """
    found: bytes | None = None
    for header in headers:
        for value in _pairs_named(name).findall(header):
            if found is not None and found != value.rstrip(b" \t"):
                return Reason.DUPLICATE_COOKIE
            found = value.rstrip(b" \t")
    return Reason.NO_SESSION if found is None else found


@cache
def _pairs_named(name: bytes) -> re.Pattern[bytes]:
    """Match the pairs of one name, and capture their values with the space behind them."""
    return re.compile(rb"(?:\A|;)[ \t]*" + re.escape(name) + rb"[ \t]*=[ \t]*([^;]*)")


def key_of_cookies(headers: tuple[bytes, ...], name: bytes, partitions: int) -> SessionKey | Reason:
    """Return the key of the session that the cookies name, or the reason to refuse."""
    value = session_cookie(headers, name)
    if isinstance(value, Reason):
        return value
    return key_of_token(value, partitions) or Reason.MALFORMED_TOKEN
