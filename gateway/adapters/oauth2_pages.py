"""What browsers ask of oauth2-proxy itself, through the proxy: sign in, sign out, who am I."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

from multidict import istr

from ..credentials import CookieOptions, key_of_cookies
from ..decision import DENIALS, Decision, Kind, Reason
from ..errors import StoreUnavailable
from ..identity import lines
from ..model import Actor, CheckRequest, SessionKey, Standing
from ..sessions import Sessions
from ..target import normal_host
from .answers import login_from
from .callers import Holding
from .oauth2_proxy import Options
from .wire import (
    COOKIE,
    NEVER_CACHED,
    Adapter,
    Answer,
    Page,
    Subrequest,
    Trusted,
    forwarded_address,
    scheme_of,
    sole,
    sole_address,
)

HOST = istr("Host")
X_FORWARDED_FOR = istr("X-Forwarded-For")
X_REAL_IP = istr("X-Real-IP")
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*", re.ASCII)  # no "//", no backslash, nothing unprintable
_ADDRESS = re.compile(
    r"(?P<origin>https?://(?P<host>[^/?#@\\\s]+))(?P<target>/[!-\[\]-~]*)?", re.ASCII
)
_MAX_ADDRESS = 2048
_SIGN_OUT = Actor("oauth2-proxy", "signed out")

# What a check decides of the request for a page itself.
Whose = Callable[[Subrequest], Awaitable[Decision]]


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages; each is asked by a browser, and answers it.

    `domains` are hosts that a person may be sent back to beside the one that was asked: `name`,
    `.name` for all below it, `name:port`, `name:*`.
    """

    sessions: Sessions
    whose: Whose
    cookie: CookieOptions
    partitions: int
    login_url: str
    domains: tuple[str, ...]
    count_ended: Callable[[str], None]

    def by_path(self) -> Mapping[str, Page]:
        return {
            "/oauth2/sign_in": self.sign_in,
            "/oauth2/start": self.sign_in,
            "/oauth2/sign_out": self.sign_out,
            "/oauth2/userinfo": self.user_info,
        }

    async def sign_in(self, subrequest: Subrequest) -> Answer:
        """Send the browser to the sign-in page, with the way back."""
        origin, target = self._way_back(subrequest)
        origin = origin or _own_origin(subrequest)
        if not (origin and self.login_url):
            return _answer(HTTPStatus.NOT_FOUND)
        return _answer(HTTPStatus.FOUND, ("Location", login_from(self.login_url, origin, target)))

    async def sign_out(self, subrequest: Subrequest) -> Answer:
        """End the session of the cookie, have the browser forget it, and send it back.

        Another site may link here, but not do it behind a person's back (oauth2-proxy lets it). If
        it is not known whether the session ended, nothing is forgotten.
        """
        if subrequest.method not in ("GET", "POST"):
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, POST"))
        if _unasked(subrequest):
            return _answer(HTTPStatus.FORBIDDEN, ("X-Auth-Reason", Reason.DENIED_BY_RULE))
        key = self._key(subrequest)
        if key is Reason.DUPLICATE_COOKIE:
            return _answer(HTTPStatus.FORBIDDEN, ("X-Auth-Reason", key))
        if isinstance(key, SessionKey):
            try:
                receipt = await self.sessions.end(key.id, _SIGN_OUT)
            except StoreUnavailable:
                return _unknown()
            for ended in receipt.ended if receipt else ():
                self.count_ended(ended.why)
        origin, target = self._way_back(subrequest)
        back = ("Location", origin + target)
        return _answer(HTTPStatus.FOUND, back, ("Set-Cookie", self.cookie.cleared()))

    async def user_info(self, subrequest: Subrequest) -> Answer:
        """Tell a browser whose session it has; nothing to whoever a check would refuse."""
        decision = await self.whose(subrequest)
        session = decision.session
        if decision.kind is Kind.UNKNOWN:
            return _unknown(decision.reason)
        if decision.reason is not None or session is None:
            return _answer(HTTPStatus.UNAUTHORIZED)
        kind = ("Content-Type", "application/json")
        return _answer(HTTPStatus.OK, kind)._replace(body=json.dumps(_view(session)).encode())

    def _key(self, subrequest: Subrequest) -> SessionKey | Reason:
        cookies = subrequest.headers.getall(COOKIE, ())
        return key_of_cookies(cookies, self.cookie.name, self.partitions)

    def _way_back(self, subrequest: Subrequest) -> tuple[str, str]:
        """Return origin and target of `rd`; no origin means the host that was asked."""
        wanted = dict(reversed(parse_qsl(subrequest.path.partition("?")[2]))).get("rd", "")
        if len(wanted) > _MAX_ADDRESS:
            return "", "/"
        if _PATH.fullmatch(wanted) and not wanted.startswith("/oauth2/"):
            return "", wanted
        address = _ADDRESS.fullmatch(wanted)
        if address and address["host"] == sole(subrequest, HOST):
            return address["origin"], address["target"] or "/"
        if address and self._allows(address["host"]):
            return address["origin"], address["target"] or "/"
        return "", "/"

    def _allows(self, host: str) -> bool:
        name, _, port = host.partition(":")
        if normal_host(host) != name:  # upper case and a dot at the end: not what people write
            return False
        return any(_is_named(name, port, domain) for domain in self.domains)


def whose_session(
    options: Options,
    trusted: Trusted,
    holding: Holding,
    check: Callable[[CheckRequest], Awaitable[Decision]],
) -> Whose:
    """Return how to decide whose session a page is asked with, as a check would: bound the same."""

    def read(subrequest: Subrequest, trusted: Trusted) -> CheckRequest:
        return CheckRequest(
            method="GET",
            target="/",
            host=sole(subrequest, HOST) or "",
            scheme="https",
            address=_address_of(subrequest, options, trusted),
            cookies=subrequest.headers.getall(COOKIE, ()),
            narrowing=options.narrowing,
        )

    held = holding(Adapter("oauth2_pages", read, lambda *_: _unknown()))

    async def whose(subrequest: Subrequest) -> Decision:
        asked = held.read(subrequest, trusted)
        return DENIALS[asked] if isinstance(asked, Reason) else await check(asked)

    return whose


def _address_of(subrequest: Subrequest, options: Options, trusted: Trusted) -> str:
    """Return the client's address where this family tells it, "" if it does not."""
    if options.family == "forward_auth":
        return forwarded_address(sole(subrequest, X_FORWARDED_FOR), trusted) or ""
    return sole_address(sole(subrequest, X_REAL_IP)) or ""


def _is_named(name: str, port: str, domain: str) -> bool:
    """Tell whether a host is one of a domain as oauth2-proxy's `whitelist_domains` writes it."""
    allowed, _, allowed_port = domain.partition(":")
    if allowed_port not in ("*", port):
        return False
    suffix = allowed.removeprefix("*")
    if suffix.startswith("."):
        return name == suffix[1:] or name.endswith(suffix)
    return name == allowed


def _own_origin(subrequest: Subrequest) -> str:
    """Return where the browser is, "" if the proxy does not say."""
    host, scheme = sole(subrequest, HOST) or "", scheme_of(subrequest)
    return f"{scheme}://{host}" if scheme and normal_host(host) else ""


def _unasked(subrequest: Subrequest) -> bool:
    """Tell whether a foreign page did this without a person's click (Fetch Metadata)."""
    headers = subrequest.headers
    if "prefetch" in headers.get("Sec-Purpose", ""):
        return True
    foreign = headers.get("Sec-Fetch-Site") == "cross-site"
    return foreign and headers.get("Sec-Fetch-User") != "?1"


def _view(session: Standing) -> dict[str, object]:
    return {
        "user": session.user,
        "email": session.besides.email,
        "groups": list(session.roles),
        "preferredUsername": session.user,
    }


def _answer(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    return Answer(status, NEVER_CACHED + lines(headers))


def _unknown(reason: Reason | None = None) -> Answer:
    return _answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        ("X-Auth-Reason", reason or Reason.STORE_UNAVAILABLE),
        ("Retry-After", "1"),
    )
