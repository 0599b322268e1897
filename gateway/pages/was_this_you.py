"""The page behind the link of an alert: GET shows what happened, POST acts.

Mail scanners and previews open links: opening one changes nothing, and no script could. The token
in the address is the only authority, and no cookie is read: a site that makes somebody's browser
post here needs the token, and with it needs no browser. So nothing else guards against forgery.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus

from aiohttp import web

from ..errors import StoreUnavailable
from ..links import Question
from .answering import SAID, Answering, Outcome, Said, State

PATH = "/was-this-you/{token}"

_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}"
    "button{font:inherit;display:block;margin:1rem 0;padding:.5rem 1rem}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
_KINDS = {
    "new_device": "a device that you had not used before",
    "new_country": "a country that you had not signed in from before",
    "impossible_travel": "a place too far away from where you had been",
    "network_change": "a network that you had not used before",
    "shared_account": "more places at once than one person is in",
    "shared_device": "a device that many others use",
    "fingerprint_changed": "another browser than you had signed in with",
    "address_changed": "another network than you had signed in from",
}
_CLOSED = {
    State.UNKNOWN: (HTTPStatus.NOT_FOUND, "This link is not valid. Copy it as a whole."),
    State.EXPIRED: (HTTPStatus.GONE, "This link is too old. Nothing was changed by it."),
    State.ANSWERED: (HTTPStatus.GONE, "This question has been answered; it can be answered once."),
}
_AWAY = "This does not work at the moment. Please try again."


def add(app: web.Application, answering: Answering) -> None:
    """Serve the page."""
    page = _Page(answering)
    app.router.add_get(PATH, page.show)  # and HEAD
    app.router.add_post(PATH, page.act)


class _Page:
    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def show(self, request: web.Request) -> web.Response:
        try:
            state, question = await self._answering.look(request.match_info["token"])
        except StoreUnavailable:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, _said(_AWAY))
        if question is None or state is not State.OPEN:
            return _closed(state)
        return _answer(HTTPStatus.OK, _asked(question))

    async def act(self, request: web.Request) -> web.Response:
        said = await _read(request)
        if said is None:
            return _answer(HTTPStatus.BAD_REQUEST, _said("Please use the buttons of the page."))
        try:
            outcome = await self._answering.answer(request.match_info["token"], said)
        except StoreUnavailable:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, _said(_AWAY))
        if outcome.state is not State.OPEN:
            return _closed(outcome.state)
        return _answer(HTTPStatus.OK, _said(_report(outcome)))


async def _read(request: web.Request) -> Said | None:
    if request.content_type != "application/x-www-form-urlencoded":
        return None
    try:
        form = await request.post()
    except (ValueError, web.HTTPRequestEntityTooLarge):
        return None
    given = form.getall("answer", [])
    return next((said for said in SAID if given == [said]), None)


def _closed(state: State) -> web.Response:
    status, text = _CLOSED[state]
    return _answer(status, _said(text))


def _report(outcome: Outcome) -> str:
    receipt = outcome.receipt
    if receipt is None:
        return "Thank you. Nothing was changed."
    count = len(receipt.ended)
    if not count:
        return "There was no session any more. If you have a password, change it."
    ended = "One session was ended" if count == 1 else f"{count} sessions were ended"
    certain = "nobody can use" if receipt.replicas.complete else "in a second nobody can use"
    return f"{ended}: {certain} what was signed in there. If you have a password, change it."


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _asked(question: Question) -> str:
    when = datetime.fromtimestamp(question.at_ms / 1000, UTC)
    kind = _KINDS.get(question.type, "something unusual")
    where = f"<p>{escape(question.where)}</p>" if question.where else ""
    return (
        f"<p>On {when:%d %B %Y at %H:%M} (UTC) your account <b>{escape(question.user)}</b> "
        f"was used from {kind}.</p>{where}"
        '<form method="post"><button name="answer" value="yes">Yes, that was me</button>'
        '<button name="answer" value="session">No: end that session</button>'
        '<button name="answer" value="all">No: end all my sessions</button></form>'
    )


def _answer(status: HTTPStatus, content: str) -> web.Response:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Was this you?</title><style>{_STYLE}</style></head>"
        f"<body><h1>Was this you?</h1>{content}</body></html>"
    )
    away = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return web.Response(
        status=status, text=page, content_type="text/html", headers=_HEADERS | away
    )
