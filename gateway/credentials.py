"""Session tokens, their digests, and the one cookie that carries them.

Why not the framework's cookie parser (measured): it strips Unicode space around names, so
`\\xe2\\x80\\x80__Host-sid=EVIL` replaces the good cookie; lets the last duplicate win; and ignores
a second Cookie header.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .decision import Reason
from .model import Session, SessionKey

try:
    # Python's own: OpenSSL's costs 3 us more, a sixteenth of a check (measured, OpenSSL 3).
    from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:  # another Python, or one that may use nothing but OpenSSL
    from hashlib import sha256 as _sha256

# Two hex digits of partition and 256 random bits in base64url (ASVS 7.2.3 asks for 128).
TOKEN_BYTES = 32
_TOKEN = re.compile(r"[0-9a-f]{2}[A-Za-z0-9_-]{43}", re.ASCII)
_PAIR_ENDS = ("; ", ";")
_new = tuple.__new__  # a NamedTuple's own constructor is a Python function
_SESSION_ID = re.compile(r"([0-9a-f]{2})([0-9a-f]{32})", re.ASCII)


def new_token(partition: str) -> str:
    """Return a fresh secret for one session; it is shown once and stored nowhere."""
    return partition + secrets.token_urlsafe(TOKEN_BYTES)


def key_of_token(token: str, partitions: int) -> SessionKey | None:
    """Return where the token's session would live, or None if no token looks like this."""
    partition = _first(partitions).get(token[:2])
    if partition is None or _TOKEN.fullmatch(token) is None:
        return None
    return _new(SessionKey, (partition, _sha256(token.encode()).hexdigest()[:32]))


@cache
def _first(partitions: int) -> dict[str, str]:
    """Return the partitions by their names: memory holds very many keys that share these few."""
    return {name: name for name in (f"{number:02x}" for number in range(partitions))}


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

    160 bits, in base64url: nobody who may choose ids can find two that share sessions.
    """
    return urlsafe_b64encode(hashlib.sha256(user.encode()).digest()[:20]).rstrip(b"=").decode()


def key_of_cookies(headers: Sequence[str], name: str, partitions: int) -> SessionKey | Reason:
    """Return the key of the session that the one cookie `name` in all Cookie headers names.

    Splits on `;`, trims only SP and HTAB, compares exact bytes (RFC 6265 section 4.2.1 is the
    grammar; section 5.4 says that a client sends one line, so two differing values are an
    attack or a fault: neither is believed).
    """
    cookies = ";".join(headers)
    before, named, after = cookies.partition(name)
    if not named:
        return Reason.NO_SESSION
    if after[:1] == "=" and name not in after and (not before or before.endswith(_PAIR_ENDS)):
        value = after[1:].partition(";")[0].strip(" \t")  # only this pair can be meant
    else:
        values = _values(cookies, name)
        if len(values) != 1:
            return Reason.DUPLICATE_COOKIE if values else Reason.NO_SESSION
        value = values[0]
    return key_of_token(value, partitions) or Reason.MALFORMED_TOKEN


def _values(cookies: str, name: str) -> list[str]:
    """Return the values of all pairs of this name, each once."""
    pairs = (pair.partition("=") for pair in cookies.split(";"))
    named = (value for found, equals, value in pairs if equals and found.strip(" \t") == name)
    return list(dict.fromkeys(value.strip(" \t") for value in named))


@dataclass(frozen=True, slots=True)
class CookieOptions:
    """The attributes of the session cookie."""

    name: str
    same_site: str
    domain: str
    secure: bool

    def header(self, token: str, session: Session) -> str:
        """Return the value of Set-Cookie. No Max-Age unless the user asked to be remembered."""
        parts = self._parts(token)
        if session.remember:
            # Both come with a fresh token only, so the last activity is now.
            parts.append(f"Max-Age={(session.expires_ms - session.last_seen_ms) // 1000}")
        return "; ".join(parts)

    def cleared(self) -> str:
        """Return the value of Set-Cookie that has a browser forget the cookie."""
        return "; ".join([*self._parts(""), "Max-Age=0"])

    def _parts(self, token: str) -> list[str]:
        parts = [f"{self.name}={token}", "Path=/", "HttpOnly"]
        parts += ["Secure"] if self.secure else []
        parts += [f"SameSite={self.same_site.capitalize()}"]
        return parts + ([f"Domain={self.domain}"] if self.domain else [])
