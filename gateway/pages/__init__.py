"""The listener of pages, which browsers and applications reach through the proxy."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from . import keys as published
from . import was_this_you
from .answering import Answering
from .keys import JWKS, JWKS_AGE_S

__all__ = ["JWKS", "JWKS_AGE_S", "Answering", "build"]

_MAX_BODY = 1024


def build(keys: Mapping[str, object] | None, answering: Answering | None) -> web.Application:
    """Return the application, with what there is to serve."""
    app = web.Application(client_max_size=_MAX_BODY)
    if keys is not None:
        published.add(app, keys)
    if answering is not None:
        was_this_you.add(app, answering)
    return app
