"""The answers, built from a decision. Status codes differ between proxies; nothing else does."""

from __future__ import annotations

import json
from http import HTTPStatus
from urllib.parse import quote

from .. import identity
from ..decision import Decision, Kind, Reason
from ..model import CheckRequest
from .wire import NEVER_CACHED, Answer, Wording

# Not Basic: browsers would ask for a password.
CHALLENGE = ("WWW-Authenticate", 'Session realm="gateway"')
MAX_LOGIN = identity.MAX_BLOCK  # instead of the identity: the same head has room for either
RETRY_AFTER = ("Retry-After", "1")
_END = NEVER_CACHED + b"Content-Length: 0\r\n\r\n"


def allow(decision: Decision, request: CheckRequest | None, wording: Wording) -> Answer:
    """Return an allow with every managed header: what is missing here, some proxies keep from
    the client. The status is exactly 200, but for a peer that answers otherwise.
    """
    return Answer(wording.allows, wording.told(decision, request) + NEVER_CACHED)


def allowed(decision: Decision, request: CheckRequest | None, wording: Wording) -> bytes:
    """Return what `allow` answers as it goes over the wire: the way of a check has no detours."""
    if not wording.plain:
        return wording.opening + wording.told(decision, request) + _END
    session = decision.session
    return wording.opening + (wording.nobody if session is None else session.identity) + _END


def auth_request(
    decision: Decision,
    request: CheckRequest | None,
    wording: Wording,
    login_header: str = "X-Auth-Login",
) -> Answer:
    """Answer nginx: it knows 2xx, 401 and 403, makes 500 of all else, and ignores bodies."""
    if decision.reason is None:
        return allow(decision, request, wording)
    reason = _reason(decision.reason)
    if decision.kind is not Kind.SIGN_IN:
        return _bare(HTTPStatus.FORBIDDEN, reason, *_step_up(decision))
    login = login_url(request, wording)
    header = ((login_header, login),) if login else ()
    return _bare(HTTPStatus.UNAUTHORIZED, reason, CHALLENGE, *header)


def passed_on(
    decision: Decision, request: CheckRequest | None, wording: Wording, unknown: HTTPStatus
) -> Answer:
    """Answer a proxy that hands denials to the client as they are.

    `unknown` is the status for "we do not know" that this proxy cannot take for an allow.
    """
    if decision.reason is None:
        return allow(decision, request, wording)
    page = request is not None and request.navigation
    if decision.kind is Kind.SIGN_IN:
        login = login_url(request, wording)
        if page and request is not None and login:
            return _redirect(request, decision.reason, login)
        return _refusal(HTTPStatus.UNAUTHORIZED, decision.reason, page, CHALLENGE)
    if decision.kind is Kind.UNKNOWN:
        return _refusal(unknown, decision.reason, page, RETRY_AFTER)
    return _refusal(HTTPStatus.FORBIDDEN, decision.reason, page, *_step_up(decision))


def login_url(request: CheckRequest | None, wording: Wording) -> str:
    """Return where to sign in, with the address to come back to; "" if there is no such page.

    An address too long for the answer's head loses its query, then its path.
    """
    if request is None or not wording.login_url:
        return ""
    return login_from(wording.login_url, f"{request.scheme}://{request.host}", request.target)


def login_from(login_url: str, origin: str, target: str) -> str:
    """Return where to sign in for coming back to `target` of `origin`."""
    for shorter in (target, target.partition("?")[0], "/"):
        # The query may hold any bytes; they came in as lone surrogates.
        back = quote(origin + shorter, safe="", errors="surrogateescape")
        login = login_url.replace("{url}", back)
        if len(login) <= MAX_LOGIN:
            return login
    return login_url.replace("{url}", quote(origin, safe=""))


def _redirect(request: CheckRequest, reason: Reason, login: str) -> Answer:
    safe = request.method in ("GET", "HEAD")
    status = HTTPStatus.FOUND if safe else HTTPStatus.SEE_OTHER  # 303: come back with GET
    return _bare(status, _reason(reason), ("Location", login))


def _refusal(status: HTTPStatus, reason: Reason, page: bool, *more: tuple[str, str]) -> Answer:
    kind, body = _page(status, reason) if page else _problem(status, reason)
    return _bare(status, _reason(reason), *more, ("Content-Type", kind))._replace(body=body)


def _bare(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    return Answer(status, NEVER_CACHED + identity.lines(headers))


def _problem(status: HTTPStatus, reason: Reason) -> tuple[str, bytes]:
    """RFC 9457."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "reason": reason}
    return "application/problem+json", json.dumps(problem).encode()


def _page(status: HTTPStatus, reason: Reason) -> tuple[str, bytes]:
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{status.phrase}</title>'
        f"<h1>{status.phrase}</h1><p>The gateway refused this request: <code>{reason}</code></p>"
    )
    return "text/html; charset=utf-8", page.encode()


def _step_up(decision: Decision) -> tuple[tuple[str, str], ...]:
    """Say what a sign-in must bring: `aal=2`, `max_age=300`, or both."""
    return (("X-Auth-Step-Up", decision.step_up),) if decision.step_up else ()


def _reason(reason: Reason) -> tuple[str, str]:
    return ("X-Auth-Reason", str(reason))
