"""ingress-nginx.

Reads X-Original-Method, X-Original-URL (absolute), X-Real-IP. Scheme and host come from that
URL. X-Original-URI arrives as the client sent it, so it is not looked at.
"""

from __future__ import annotations

import re

from multidict import istr

from ..decision import Reason
from ..model import CheckRequest
from .answers import auth_request as write
from .wire import COOKIE, Adapter, Subrequest, Trusted, is_preflight, sole, sole_address

_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\\s]+)(?P<target>/\S*)", re.ASCII)

X_ORIGINAL_METHOD = istr("X-Original-Method")
X_ORIGINAL_URL = istr("X-Original-URL")
X_REAL_IP = istr("X-Real-IP")


def read(subrequest: Subrequest, _: Trusted) -> CheckRequest | Reason:
    """Return the request that the ingress asks about."""
    return read_url(subrequest, sole(subrequest, X_REAL_IP))


def read_url(subrequest: Subrequest, client: str | None) -> CheckRequest | Reason:
    """Return the request of an absolute URL; `client` is what the proxy says of the address."""
    method = sole(subrequest, X_ORIGINAL_METHOD)
    url = _URL.fullmatch(sole(subrequest, X_ORIGINAL_URL) or "")
    address = sole_address(client)
    if not (method and url and address):
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=url["target"],
        host=url["host"],
        scheme=url["scheme"],
        address=address,
        cookies=subrequest.headers.getall(COOKIE, ()),
        preflight=method == "OPTIONS" and is_preflight(subrequest),
    )


ADAPTER = Adapter("ingress", read, write)
