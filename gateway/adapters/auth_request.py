"""nginx `auth_request` and HAProxy's Lua client of it.

Reads X-Original-Method, X-Original-URI (raw), Host, and X-Forwarded-For as our nginx.conf sets
it: one address. Other families' headers come from the client and are not looked at.
"""

from __future__ import annotations

from multidict import istr

from ..decision import Reason
from ..model import CheckRequest
from .answers import auth_request as write
from .wire import COOKIE, Adapter, Subrequest, Trusted, is_preflight, scheme_of, sole_address

X_ORIGINAL_METHOD = istr("X-Original-Method")
X_ORIGINAL_URI = istr("X-Original-URI")
HOST = istr("Host")
X_FORWARDED_FOR = istr("X-Forwarded-For")
_new = tuple.__new__  # a NamedTuple's own constructor is a Python function


def read(subrequest: Subrequest, _: Trusted) -> CheckRequest | Reason:
    """Return the request that nginx asks about; nginx decides itself what to make of a 401."""
    every = subrequest.headers.getall
    methods, targets = every(X_ORIGINAL_METHOD, ()), every(X_ORIGINAL_URI, ())
    hosts, addresses = every(HOST, ()), every(X_FORWARDED_FOR, ())
    if not len(methods) == len(targets) == len(hosts) == len(addresses) == 1:
        return Reason.BAD_FORWARDED_REQUEST
    method, target, host = methods[0], targets[0], hosts[0]
    address, scheme = sole_address(addresses[0]), scheme_of(subrequest)
    if not (method and target and host and address and scheme):
        return Reason.BAD_FORWARDED_REQUEST
    preflight = method == "OPTIONS" and is_preflight(subrequest)
    cookies = every(COOKIE, ())
    return _new(
        CheckRequest, (method, target, host, scheme, address, cookies, False, preflight, (), ())
    )


ADAPTER = Adapter("auth_request", read, write)
