"""nginx `auth_request` and HAProxy's Lua client of it.

Reads X-Original-Method, X-Original-URI (raw), Host, and X-Forwarded-For as our nginx.conf sets
it: one address. Other families' headers come from the client and are not looked at.
"""

from __future__ import annotations

from multidict import istr

from ..decision import Reason
from ..model import CheckRequest
from .answers import auth_request as write
from .wire import Adapter, Subrequest, scheme_of, sole_address

X_ORIGINAL_METHOD = istr("X-Original-Method")
X_ORIGINAL_URI = istr("X-Original-URI")
HOST = istr("Host")
X_FORWARDED_FOR = istr("X-Forwarded-For")


def read(subrequest: Subrequest) -> CheckRequest | Reason:
    """Return the request that nginx asks about."""
    method = subrequest.sole(X_ORIGINAL_METHOD)
    target = subrequest.sole(X_ORIGINAL_URI)
    host = subrequest.sole(HOST)
    address = sole_address(subrequest.sole(X_FORWARDED_FOR))
    scheme = scheme_of(subrequest)
    if not (method and target and host and address and scheme):
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=target,
        host=host,
        scheme=scheme,
        address=address,
        cookies=subrequest.cookies(),
        navigation=False,  # nginx decides itself what to make of a 401
    )


ADAPTER = Adapter("auth_request", read, write)
