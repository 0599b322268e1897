"""oauth2-proxy's `/oauth2/auth`, for proxies that were configured for it.

The proxy may narrow in the query who passes: `allowed_groups`, `allowed_emails` and
`allowed_email_domains`. One of the values of each must be the session's. A parameter given twice
must hold twice (oauth2-proxy would take either): some proxies append the client's own query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Literal
from urllib.parse import unquote_plus

from multidict import istr

from ..decision import Reason
from ..model import CheckRequest, Narrowing
from ..target import ANY_METHOD
from . import forward_auth, ingress
from .answers import auth_request
from .wire import (
    COOKIE,
    Adapter,
    Page,
    Profile,
    Read,
    Subrequest,
    Trusted,
    Wording,
    is_preflight,
    sole,
    sole_address,
)

HOST = istr("Host")
X_FORWARDED_URI = istr("X-Forwarded-Uri")
X_REAL_IP = istr("X-Real-IP")

_KINDS: dict[str, Literal["groups", "emails", "email_domains"]] = {
    "allowed_groups": "groups",
    "allowed_emails": "emails",
    "allowed_email_domains": "email_domains",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How the proxy asks, and what holds for every session at this profile's address."""

    family: Literal["nginx", "ingress", "forward_auth"] = "nginx"
    method_header: str = ""  # where nginx was taught to tell the method; "": nowhere
    narrowing: tuple[Narrowing, ...] = ()


def read_nginx(
    method_header: str, subrequest: Subrequest, _: Trusted
) -> CheckRequest | Reason:
    """Return the request as oauth2-proxy's documentation has nginx tell it.

    That is X-Forwarded-Uri, Host and X-Real-IP, without a method. What nginx does not set comes
    from the client, so no header that might name one is looked at unless the operator says so.
    """
    method = sole(subrequest, istr(method_header)) if method_header else ANY_METHOD
    target = sole(subrequest, X_FORWARDED_URI)
    host = sole(subrequest, HOST)
    address = sole_address(sole(subrequest, X_REAL_IP))
    if not (method and target and host and address):
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=target,
        host=host,
        scheme="https",
        address=address,
        cookies=subrequest.headers.getall(COOKIE, ()),
        # Said by the client's headers: if the method is another, it must pass with that one too.
        preflight=method in (ANY_METHOD, "OPTIONS") and is_preflight(subrequest),
    )


def narrowing_of(query: str) -> tuple[Narrowing, ...] | None:
    """Return what the query asks for, None if it cannot be understood or names nobody."""
    try:
        found = tuple(_narrowings(query))
    except UnicodeDecodeError:
        return None
    return None if any(not each.allowed for each in found) else found


def _narrowings(query: str) -> Iterator[Narrowing]:
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        kind = _KINDS.get(unquote_plus(name))
        if kind is not None:
            parts = unquote_plus(value, errors="strict").split(",")
            yield Narrowing(kind, frozenset(part for part in parts if part))


def _read(
    read: Read, always: tuple[Narrowing, ...], subrequest: Subrequest, trusted: Trusted
) -> CheckRequest | Reason:
    """Return the request together with what the operator and the proxy narrow it to."""
    asked = read(subrequest, trusted)
    narrowing = narrowing_of(subrequest.path.partition("?")[2])
    if isinstance(asked, Reason) or narrowing is None:
        return Reason.BAD_FORWARDED_REQUEST
    return asked._replace(narrowing=always + narrowing)


def profile(wording: Wording, options: Options, pages: Mapping[str, Page]) -> Profile:
    """Return the addresses of oauth2-proxy; an allow is 202 there, whatever the proxy."""
    readers: dict[str, Read] = {
        "nginx": partial(read_nginx, options.method_header),
        "ingress": ingress.read,
        "forward_auth": forward_auth.read,
    }
    read = partial(_read, readers[options.family], options.narrowing)
    adapter = Adapter("oauth2_proxy", read, auth_request)
    wording = replace(wording, allows=HTTPStatus.ACCEPTED)
    return Profile(wording, exact={"/oauth2/auth": adapter}, pages=pages)
