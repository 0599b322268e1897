"""A small application behind the gateway: a sign-in page and three pages that need it.

It knows no cookie and checks no session: it believes the X-Auth-* headers, because only nginx can
reach it and nginx sets them from the gateway's answer.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import pages
from .ports import HOST
from .return_address import local_path
from .sessions_api import ApiFailed, SessionsApi

USERS = {"alice": ("user",), "root": ("user", "admin")}  # each with the own name as password


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo tells its application."""

    origin: str
    admin_url: str
    admin_token: str
    cookie: str


class Application:
    """One method for each page and form."""

    def __init__(self, api: SessionsApi, options: Options) -> None:
        self._api = api
        self._options = options

    async def welcome(self, _: web.Request) -> web.Response:
        return _html(pages.welcome())

    async def sign_in_page(self, request: web.Request) -> web.Response:
        return _html(pages.sign_in(self._back(request.query.get("rd", ""))))

    async def sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        user, password = str(form.get("user", "")), str(form.get("password", ""))
        back = self._back(str(form.get("rd") or request.query.get("rd", "")))
        if not _is_password_of(user, password):
            return _html(pages.sign_in(back, "Wrong user or password."), status=401)
        session = await self._api.create(_login(user, request))
        headers = {"Location": back, "Set-Cookie": session["set_cookie"]}
        return web.Response(status=303, headers=headers)

    async def show_identity(self, request: web.Request) -> web.Response:
        found = ((k, v) for k, v in request.headers.items() if k.lower().startswith("x-auth-"))
        return _html(pages.identity(found))

    async def sign_out_page(self, _: web.Request) -> web.Response:
        return _html(pages.sign_out())

    async def sign_out(self, request: web.Request) -> web.Response:
        await self._api.end(request.headers["X-Auth-Session"], "signed out")
        response = web.Response(status=303, headers={"Location": "/"})
        response.del_cookie(self._options.cookie, path="/")
        return response

    async def console(self, request: web.Request) -> web.Response:
        user = request.query.get("user", "alice")
        return _html(pages.console(user, await self._api.list(user)))

    async def end_from_console(self, request: web.Request) -> web.Response:
        form = await request.post()
        user, session_id = str(form.get("user", "")), str(form.get("end", ""))
        receipt = await self._api.end(session_id, f"by {request.headers['X-Auth-User']}")
        ended = "Ended, for every replica." if receipt.get("complete") else "Not ended everywhere."
        return _html(pages.console(user, await self._api.list(user), ended))

    def _back(self, address: str) -> str:
        return local_path(address, self._options.origin)


def build(options: Options) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[_own_forms_only(options.origin), _tell_of_failures])
    api = SessionsApi(options.admin_url, options.admin_token)
    app.cleanup_ctx.append(lambda _: api.open())
    _add_routes(app.router, Application(api, options))
    return app


def _add_routes(router: web.UrlDispatcher, pages_of: Application) -> None:
    router.add_get("/", pages_of.welcome)
    router.add_get("/login", pages_of.sign_in_page)
    router.add_post("/login", pages_of.sign_in)
    router.add_get("/app", pages_of.show_identity)
    router.add_get("/logout", pages_of.sign_out_page)
    router.add_post("/logout", pages_of.sign_out)
    router.add_get("/admin/", pages_of.console)
    router.add_post("/admin/", pages_of.end_from_console)


def _own_forms_only(origin: str) -> Middleware:
    """Refuse forms that another site sends in a visitor's name.

    SameSite=Lax is not enough on 127.0.0.1: all its ports are one site. No Origin: no browser.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.headers.get("Origin", origin) != origin:
            return _html(pages.page("Forbidden", "<p>This form is not ours."), status=403)
        return await handler(request)

    return check


@web.middleware
async def _tell_of_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiFailed as error:
        return _html(pages.page(f"Sorry: {error}", "<p>Please try again."), status=502)


def _is_password_of(user: str, password: str) -> bool:
    return hmac.compare_digest(user.encode(), password.encode()) and user in USERS


def _login(user: str, request: web.Request) -> dict[str, object]:
    return {
        "user": user,
        "name": user.capitalize(),
        "email": f"{user}@example.com",
        "roles": list(USERS[user]),
        "ip": request.headers.get("X-Forwarded-For", ""),
        "user_agent": request.headers.get("User-Agent", "")[:1024],
    }


def _html(text: str, status: int = 200) -> web.Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    }
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def main() -> None:
    """Serve until ended, as the demo's environment says."""
    options = Options(
        origin=os.environ["DEMO_ORIGIN"],
        admin_url=os.environ["DEMO_ADMIN_URL"],
        admin_token=os.environ["DEMO_ADMIN_TOKEN"],
        cookie=os.environ["DEMO_COOKIE"],
    )
    web.run_app(build(options), host=HOST, port=int(os.environ["DEMO_PORT"]), print=None)


if __name__ == "__main__":
    main()
