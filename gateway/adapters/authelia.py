"""The addresses of Authelia, for proxies that were configured for it.

They ask in the same three families as ours and read the answer the same way; what differs is the
names of the identity headers, and which header of a 401 says where to sign in.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from multidict import istr

from ..decision import Decision, Reason
from ..model import CheckRequest
from . import ext_authz_http, forward_auth, ingress
from .answers import auth_request
from .wire import Adapter, Answer, Profile, Subrequest, Trusted, Wording, sole

X_FORWARDED_FOR = istr("X-Forwarded-For")


def read(subrequest: Subrequest, _: Trusted) -> CheckRequest | Reason:
    """Return the request that nginx asks about: an absolute URL; the client in X-Forwarded-For."""
    return ingress.read_url(subrequest, sole(subrequest, X_FORWARDED_FOR))


def write(decision: Decision, request: CheckRequest | None, wording: Wording) -> Answer:
    """Answer nginx; Authelia's snippet redirects to the Location of a 401."""
    return auth_request(decision, request, wording, "Location")


def profile(wording: Wording, ext_authz_prefix: str) -> Profile:
    """Return the addresses; `ext_authz_prefix` is exactly Envoy's `path_prefix`.

    With another one in Envoy's configuration every request is refused: whether `//` begins the
    client's own path would be a guess.
    """
    read_below = partial(ext_authz_http.read_below, ext_authz_prefix)
    return Profile(
        wording,
        exact={
            "/api/authz/auth-request": Adapter("authelia_auth_request", read, write),
            "/api/authz/forward-auth": replace(forward_auth.ADAPTER, name="authelia_forward_auth"),
        },
        below={
            ext_authz_prefix: replace(
                ext_authz_http.ADAPTER, name="authelia_ext_authz", read=read_below
            ),
        },
    )
