"""ingress-nginx.

Reads X-Original-Method, X-Original-URL (absolute), X-Real-IP. Scheme and host come from that
URL. X-Original-URI arrives as the client sent it, so it is not looked at.
"""

from __future__ import annotations

import re

from ..decision import Reason
from ..model import CheckRequest
from .answers import auth_request as write
from .wire import Adapter, Subrequest, sole_address

_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\\s]+)(?P<target>/\S*)", re.ASCII)


def read(subrequest: Subrequest) -> CheckRequest | Reason:
    """Return the request that the ingress asks about."""
    method = subrequest.sole("X-Original-Method")
    url = _URL.fullmatch(subrequest.sole("X-Original-URL") or "")
    address = sole_address(subrequest.sole("X-Real-IP"))
    if not (method and url and address):
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=url["target"],
        host=url["host"],
        scheme=url["scheme"],
        address=address,
        cookies=subrequest.cookies(),
        navigation=False,
    )


ADAPTER = Adapter("ingress", read, write)
