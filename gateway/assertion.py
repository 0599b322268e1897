"""The signed identity assertion: a JWT (RFC 7519, ES256) that tells an application who it is.

For applications that can be reached by more than the proxy: a header can be written by anybody, a
signature only by us. It is signed once for a session and an audience, and anew when half of its
life is over and somebody asks; so no check waits for one that nobody needs, and a session that has
ended gets none.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from .errors import Overloaded
from .identity import lines
from .model import SessionKey, Standing
from .target import normal_host

ALGORITHM = "ES256"
_PEM = re.compile(r"-----BEGIN ([A-Z ]*KEY)-----.+?-----END \1-----", re.DOTALL)
_MOST = 32_768  # remembered; about 1 kB each
_MOST_AUDIENCES = 32  # of one session, in half of an assertion's life: a client can make up hosts
_LEAST_MS = 2_000  # of life, so that one that is remembered for half of it is always good
_EVICTED_AT_ONCE = 16  # a sixteenth: to find the oldest of a dict takes longer the more went before


_NONE: Mapping[str, Any] = {}


class BadKeys(ValueError):
    """What was given as keys cannot sign; the text says why, and nothing of the keys."""


class Keys:
    """The key that signs, and all that applications shall know.

    `pem` holds one key or several (P-256). The first signs. The others are published too, so that a
    new one is known before it signs, and an old one until its last assertion is over.
    """

    def __init__(self, pem: str) -> None:
        found = [_key(match[0]) for match in _PEM.finditer(pem)]
        if not found:
            raise BadKeys("holds no key; openssl ecparam -name prime256v1 -genkey -noout makes one")
        if not found[0].is_private:
            raise BadKeys("begins with a public key; the first must be private, because it signs")
        self.signing = found[0]
        self.key_id = found[0].thumbprint()
        self.public = {"keys": [_public(key) for key in found]}


def _key(pem: str) -> ECKey:
    try:
        key = ECKey.import_key(pem)
    except (ValueError, TypeError, JoseError):
        raise BadKeys("holds what is no unencrypted EC key in PEM") from None
    if key.curve_name != "P-256":
        raise BadKeys(f"holds a key on {key.curve_name}; {ALGORITHM} needs P-256 (prime256v1)")
    return key


def _public(key: ECKey) -> dict[str, Any]:
    """Return what RFC 7517 has applications read; the id is the thumbprint of RFC 7638."""
    own = {"kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
    return {**key.as_dict(private=False), **own}


@dataclass(frozen=True, slots=True)
class Terms:
    """What assertions say beside who it is. Without an audience it is the host that was asked."""

    header: str  # its name
    issuer: str
    audience: str
    lifetime_ms: int


class _Signed(NamedTuple):
    claims: bytes  # of whom; another role, another assertion
    line: bytes
    since_ms: int
    renewed_ms: int  # from then on it is old

    def is_fresh(self, now_ms: int) -> bool:
        """Tell whether it is good. A clock that was set back must not keep an old one alive."""
        return self.since_ms <= now_ms < self.renewed_ms


class Assertions:
    """Signs, and remembers what it signed until half of its life is over."""

    def __init__(self, keys: Keys, terms: Terms, clock: Callable[[], float] = time.time) -> None:
        self._terms = terms
        self._keys = keys
        self._clock = clock
        self._known: dict[SessionKey, dict[str, _Signed]] = {}  # by audience; the oldest first
        self._count = 0  # of all audiences
        self.signed = 0

    @property
    def public(self) -> dict[str, Any]:
        """The JWK set of those who check."""
        return self._keys.public

    def line(self, session: Standing, host: str) -> bytes:
        """Return the header line for a session that is allowed to ask `host` now.

        Raises ValueError for what cannot be said, which no check allows; Overloaded when a session
        asks for more audiences than anybody does: each of them costs a signature.
        """
        audience = self._terms.audience or _audience(host)
        now_ms = int(self._clock() * 1000)
        known = self._known.get(session.key, _NONE).get(audience)
        if known is not None and known.is_fresh(now_ms) and known.claims == session.besides.claims:
            return known.line
        self._make_room(session.key, audience, now_ms)
        return self._sign(session, audience, now_ms).line

    def _make_room(self, key: SessionKey, audience: str, now_ms: int) -> None:
        """Forget the oldest of a session's audiences, if it has too many; no other's."""
        own = self._known.get(key, _NONE)
        if audience in own or len(own) < _MOST_AUDIENCES:
            return
        oldest = next(iter(own))
        if own[oldest].is_fresh(now_ms):
            raise Overloaded("too many audiences of one session")
        del self._known[key][oldest]
        self._count -= 1

    def _sign(self, session: Standing, audience: str, now_ms: int) -> _Signed:
        if not session.besides.claims:
            raise ValueError("of this session nothing is known that could be signed")
        ends_ms = min(now_ms + self._terms.lifetime_ms, session.expires_ms, session.idle_expires_ms)
        # By our clock, which may be ahead of Redis', the session may be over; a check has said no.
        ends_ms = max(ends_ms, now_ms + _LEAST_MS)
        claims = {
            "iss": self._terms.issuer, "aud": audience, **json.loads(session.besides.claims),
            "iat": now_ms // 1000, "exp": ends_ms // 1000,
        }  # fmt: skip
        head = {"alg": ALGORITHM, "typ": "JWT", "kid": self._keys.key_id}
        token = jwt.encode(head, claims, self._keys.signing, algorithms=[ALGORITHM])
        self.signed += 1
        renewed_ms = now_ms + (ends_ms - now_ms) // 2
        line = lines([(self._terms.header, token)])
        signed = _Signed(session.besides.claims, line, now_ms, renewed_ms)
        self._remember(session.key, audience, signed)
        return signed

    def _remember(self, key: SessionKey, audience: str, signed: _Signed) -> None:
        own = self._known.pop(key, {})  # the new one goes to the end: the first are the oldest
        self._count -= len(own)
        own.pop(audience, None)
        own[audience] = signed
        if self._count + len(own) > _MOST:
            many = 1 + len(self._known) // _EVICTED_AT_ONCE
            for old in list(itertools.islice(self._known, many)):
                self._count -= len(self._known.pop(old))
        self._known[key] = own
        self._count += len(own)


@lru_cache(maxsize=1024)
def _audience(host: str) -> str:
    name = normal_host(host)
    if name is None:
        raise ValueError("is no host")
    return name
