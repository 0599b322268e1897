"""Traefik ForwardAuth, Caddy `forward_auth`, HAProxy.

Reads X-Forwarded-Method, -Uri, -Host and -For. A query on our own endpoint is the client's
(Caddy appends it), so it is not looked at.
"""

from __future__ import annotations

from http import HTTPStatus

from multidict import istr

from ..decision import Decision, Reason
from ..model import CheckRequest
from .answers import passed_on
from .wire import (
    COOKIE,
    Adapter,
    Answer,
    Subrequest,
    Trusted,
    Wording,
    forwarded_address,
    is_navigation,
    is_preflight,
    scheme_of,
    sole,
    split_unset,
)

X_FORWARDED_METHOD = istr("X-Forwarded-Method")
X_FORWARDED_URI = istr("X-Forwarded-Uri")
X_FORWARDED_HOST = istr("X-Forwarded-Host")
X_FORWARDED_FOR = istr("X-Forwarded-For")


def read(subrequest: Subrequest, trusted: Trusted) -> CheckRequest | Reason:
    """Return the request that the proxy asks about."""
    method = sole(subrequest, X_FORWARDED_METHOD)
    target = sole(subrequest, X_FORWARDED_URI)
    host = sole(subrequest, X_FORWARDED_HOST)
    address = forwarded_address(sole(subrequest, X_FORWARDED_FOR), trusted)
    scheme = scheme_of(subrequest)
    if not (method and target and host and address and scheme):
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=target,
        host=host,
        scheme=scheme,
        address=address,
        cookies=subrequest.headers.getall(COOKIE, ()),
        navigation=is_navigation(subrequest),
        preflight=method == "OPTIONS" and is_preflight(subrequest),
    )


def write(decision: Decision, request: CheckRequest | None, wording: Wording) -> Answer:
    """Answer the proxy; it passes denials on, so "we do not know" can be a plain 503."""
    return passed_on(decision, request, wording, HTTPStatus.SERVICE_UNAVAILABLE)


def without_unset(known: bytes) -> bytes:
    """Leave out what has no value: Traefik then removes the client's."""
    return split_unset(known)[0]


ADAPTER = Adapter("forward_auth", read, write, "forward_auth", without_unset)
