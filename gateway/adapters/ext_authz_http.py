"""Envoy's HTTP ext_authz with `path_prefix: /check/ext_authz`.

The subrequest is the client's own request behind our prefix: its method, its path and query, its
Host. The client's address is in X-Forwarded-For if `allowed_headers` lets it through.
"""

from __future__ import annotations

from http import HTTPStatus

from multidict import istr

from ..decision import Decision, Reason
from ..identity import lines
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

PREFIX = "/check/ext_authz"

HOST = istr("Host")
X_FORWARDED_FOR = istr("X-Forwarded-For")


def read(subrequest: Subrequest, trusted: Trusted) -> CheckRequest | Reason:
    """Return the request that Envoy asks about."""
    return read_below(PREFIX, subrequest, trusted)


def read_below(prefix: str, subrequest: Subrequest, trusted: Trusted) -> CheckRequest | Reason:
    """Return the request whose path stands behind `prefix`, which is Envoy's `path_prefix`."""
    target = subrequest.path.removeprefix(prefix)
    host = sole(subrequest, HOST)
    scheme = scheme_of(subrequest)
    address = _address(subrequest, trusted)
    if not (target.startswith("/") and host and scheme) or address is None:
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=subrequest.method,
        target=target,
        host=host,
        scheme=scheme,
        address=address,
        cookies=subrequest.headers.getall(COOKIE, ()),
        navigation=is_navigation(subrequest),
        preflight=subrequest.method == "OPTIONS" and is_preflight(subrequest),
    )


def write(decision: Decision, request: CheckRequest | None, wording: Wording) -> Answer:
    """Answer Envoy; 403 when we do not know: a 5xx opens the door under failure_mode_allow."""
    return passed_on(decision, request, wording, HTTPStatus.FORBIDDEN)


def _address(subrequest: Subrequest, trusted: Trusted) -> str | None:
    """Return the client's address, "" if Envoy was not told to say, None if it is malformed."""
    if "X-Forwarded-For" not in subrequest.headers:
        return ""
    return forwarded_address(sole(subrequest, X_FORWARDED_FOR), trusted)


FAMILY = "ext_authz"
REMOVE = "x-envoy-auth-headers-to-remove"


def without_unset(known: bytes) -> bytes:
    """Name what has no value, so that Envoy removes it."""
    kept, unset = split_unset(known)
    return kept + lines([(REMOVE, ",".join(unset).lower())]) if unset else kept


ADAPTER = Adapter("ext_authz_http", read, write, FAMILY, without_unset)
