"""Bearer tokens of the admin API (RFC 6750). Only their SHA-256 is known here."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from .problems import Refused

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gateway"'}


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token may do; `name` appears in events as who did it."""

    name: str
    sha256: str
    scopes: frozenset[str]


class Grants:
    """All configured tokens."""

    def __init__(self, grants: tuple[Grant, ...]) -> None:
        self._grants = grants

    def require(self, request: web.Request, scope: str | None) -> Grant:
        """Return the caller's grant; raises Refused with 401 or 403. None: any valid token."""
        values = request.headers.getall("Authorization", ())
        kind, _, token = (values[0] if len(values) == 1 else "").partition(" ")
        grant = self._find(token.strip()) if kind.lower() == "bearer" else None
        if grant is None:
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "a valid bearer token is required", headers=CHALLENGE
            )
        if scope is not None and scope not in grant.scopes:
            raise Refused(HTTPStatus.FORBIDDEN, f"the token lacks the scope {scope}")
        return grant

    def _find(self, token: str) -> Grant | None:
        """Compare with every grant, so that the time taken tells nothing."""
        digest = digest_of(token)
        found = None
        for grant in self._grants:
            if hmac.compare_digest(digest, grant.sha256):
                found = grant
        return found


def digest_of(token: str) -> str:
    """Return what the configuration holds of a token."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def new_admin_token() -> str:
    """Return a fresh token; the prefix lets secret scanners recognise it."""
    return "gwa_" + secrets.token_urlsafe(32)
