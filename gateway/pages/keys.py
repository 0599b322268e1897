"""The keys with which applications check assertions."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web

JWKS = "/.well-known/jwks.json"
# So long may a key be unknown to those who check: a new one is published before it signs.
JWKS_AGE_S = 300


def add(app: web.Application, keys: Mapping[str, object]) -> None:
    """Serve `keys`, the JWK set (RFC 7517), without anything private."""
    body = orjson.dumps(keys)

    async def jwks(_: web.Request) -> web.Response:
        return web.Response(
            body=body,
            content_type="application/jwk-set+json",
            headers={
                "Cache-Control": f"public, max-age={JWKS_AGE_S}",
                "X-Content-Type-Options": "nosniff",
            },
        )

    app.router.add_get(JWKS, jwks)
