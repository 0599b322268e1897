"""The check listener: finds the adapter, asks the authorizer, writes the answer. Nothing else.

No middleware, no routes table, no body is read. What is not an endpoint is 404, whatever the
policy says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from ..authorizer import Authorizer
from ..decision import DENIALS, Decision, Reason
from ..model import CheckRequest
from . import auth_request, ext_authz_http, forward_auth, ingress
from .wire import NEVER_CACHED, Adapter, Answer, Subrequest, Trusted, Wording

ADAPTERS = {
    "/check/auth_request": auth_request.ADAPTER,
    "/check/ingress": ingress.ADAPTER,
    "/check/forward_auth": forward_auth.ADAPTER,
}

# aiohttp's own limits answer 400 to 8 kB of cookies, of which nginx makes a 500.
LIMITS = {"max_line_size": 65536, "max_field_size": 65536, "max_headers": 512}

NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, NEVER_CACHED)

Observe = Callable[[str, CheckRequest | None, Decision, float], None]
OnFault = Callable[[Exception], None]


class CheckListener:
    """The handler of aiohttp's low-level server.

    `observe(adapter, request, decision, seconds)` counts and logs; `on_fault` hears of our bugs.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        trusted: Trusted,
        wording: Wording,
        *,
        observe: Observe,
        on_fault: OnFault,
    ) -> None:
        self._authorizer = authorizer
        self._trusted = trusted
        self._wording = wording
        self._observe = observe
        self._on_fault = on_fault
        self._draining = False

    def server(self) -> web.Server:
        """Return the server to listen with."""
        return _Server(self.handle, access_log=None, **LIMITS)  # type: ignore[arg-type]

    def drain(self) -> None:
        """Close each connection after its next answer, so that proxies go elsewhere."""
        self._draining = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one subrequest; a bug answers as "we do not know", never as an allow."""
        started = time.perf_counter()
        adapter = adapter_of(request.raw_path)
        if adapter is None:
            return self._respond(NOT_FOUND)
        asked: CheckRequest | None = None
        decision = DENIALS[Reason.INTERNAL_ERROR]
        try:
            asked, decision = await self._decide(adapter, request)
            answer = adapter.write(decision, asked, self._wording)
        except Exception as error:  # noqa: BLE001  (the last line of defence)
            decision = DENIALS[Reason.INTERNAL_ERROR]
            answer = adapter.write(decision, None, self._wording)
            self._report(error)
        try:
            self._observe(adapter.name, asked, decision, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return self._respond(answer)

    def _report(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            self._on_fault(error)

    async def _decide(
        self, adapter: Adapter, request: web.BaseRequest
    ) -> tuple[CheckRequest | None, Decision]:
        if not self._trusts(request):
            return None, DENIALS[Reason.UNTRUSTED_PEER]
        asked = adapter.read(
            Subrequest(request.method, request.raw_path, request.headers, self._trusted)
        )
        if isinstance(asked, Reason):
            return None, DENIALS[asked]
        return asked, await self._authorizer.check(asked)

    def _trusts(self, request: web.BaseRequest) -> bool:
        transport = request.transport
        if transport is None:
            return False
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            return peer[0] in self._trusted
        # A Unix socket: whoever may open it is trusted; its mode is the operator's choice.
        return isinstance(transport.get_extra_info("sockname"), (str, bytes))

    def _respond(self, answer: Answer) -> web.StreamResponse:
        response = _Bare(status=answer.status, headers=answer.headers, body=answer.body)
        if self._draining:
            response.force_close()
        return response


def adapter_of(target: str) -> Adapter | None:
    """Return the adapter of an endpoint, None for anything that is not one."""
    path = target.partition("?")[0]
    adapter = ADAPTERS.get(path)
    if adapter is None and path.startswith(ext_authz_http.PREFIX + "/"):
        return ext_authz_http.ADAPTER
    return adapter


class _Server(web.Server):
    """Makes a `_Connection` for each connection."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """Refuses what is not HTTP in words of ours.

    aiohttp would answer 400, of which nginx makes a 500, and would put the offending line, which
    may be a Cookie, into both the answer and the log.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  (aiohttp's text quotes the request)
    ) -> web.StreamResponse:
        """Return 403 whatever went wrong; it cannot be an allow, not even a 5xx taken for one."""
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is sent already")
        reason = Reason.BAD_FORWARDED_REQUEST
        if status >= 500:
            reason = Reason.INTERNAL_ERROR
            self.log_exception("check_failed", exc_info=exc)
        response = _Bare(
            status=HTTPStatus.FORBIDDEN, headers=(*NEVER_CACHED, ("X-Auth-Reason", reason))
        )
        response.force_close()
        return response


class _Bare(web.Response):
    """A response with our headers only: Gateway API copies all of a check's head upstream."""

    async def _prepare_headers(self) -> None:
        named = "Content-Type" in self._headers
        await super()._prepare_headers()
        for added in ("Date", "Server"):
            self._headers.popall(added, None)
        if not named:
            self._headers.popall("Content-Type", None)
