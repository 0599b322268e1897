"""The check listener: finds the adapter, asks the authorizer, writes the answer. Nothing else.

No middleware, no routes table, no body is read. What is not an endpoint is 404, whatever the
policy says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from http import HTTPStatus
from time import perf_counter as _now

from ..authorizer import Authorizer
from ..decision import DENIALS, Decision, Reason
from ..errors import Overloaded
from ..identity import lines
from ..model import CheckRequest
from . import auth_request, ext_authz_http, forward_auth, ingress
from .answers import allowed
from .callers import Holding, as_it_is
from .wire import (
    NEVER_CACHED,
    Adapter,
    Answer,
    Endpoint,
    Page,
    Profile,
    Subrequest,
    Trusted,
    Wording,
    endpoint_of,
)

ADAPTERS = {
    "/check/auth_request": auth_request.ADAPTER,
    "/check/ingress": ingress.ADAPTER,
    "/check/forward_auth": forward_auth.ADAPTER,
}

BELOW = {ext_authz_http.PREFIX + "/": ext_authz_http.ADAPTER}

NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, NEVER_CACHED)

Observe = Callable[[str, CheckRequest | None, Decision, float], None]
OnFault = Callable[[Exception], None]
OnStranger = Callable[[str, str], None]


class CheckListener:
    """Answers subrequests; `connection.Connections` brings them and takes the answers away.

    `observe(adapter, request, decision, seconds)` counts and logs; `on_fault` hears of our bugs,
    `on_stranger(adapter, address)` of peers that are no proxies.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        wording: Wording,
        trusted: Trusted,
        *,
        profiles: Sequence[Profile] = (),
        holding: Holding = as_it_is,
        observe: Observe,
        on_fault: OnFault,
        on_stranger: OnStranger = lambda *_: None,
    ) -> None:
        self.trusted = trusted
        self._authorizer = authorizer
        self._wording = wording
        self._observe = observe
        self._on_fault = on_fault
        self._on_stranger = on_stranger
        self._exact: dict[str, Endpoint] = {}
        self._below: dict[str, Endpoint] = {}
        self._pages: dict[str, Page] = {}
        for each in (Profile(wording, ADAPTERS, BELOW), *profiles):
            exact, below, wording = each.exact, each.below, each.wording
            self._exact |= {path: endpoint_of(holding(a), wording) for path, a in exact.items()}
            self._below |= {path: endpoint_of(holding(a), wording) for path, a in below.items()}
            self._pages |= each.pages

    def answer_now(self, subrequest: Subrequest) -> bytes | None:
        """Answer what needs no wait; None leaves it to `answer`, which begins again."""
        started = _now()
        endpoint = self._exact.get(subrequest.path) or self._endpoint_of(subrequest.path)
        if endpoint is None:
            return None if self._pages else NOT_FOUND.on_the_wire()
        adapter, wording = endpoint
        try:
            asked = adapter.read(subrequest, self.trusted)
            if isinstance(asked, CheckRequest):
                known, outcome = asked, self._authorizer.consider(asked)
                if not isinstance(outcome, Decision):
                    return None
                decision = outcome
            else:
                known, decision = None, DENIALS[asked]
            if decision.reason is None:
                answer = allowed(decision, known, wording)
            else:
                refused = adapter.write(decision, known, wording)
                answer = refused.on_the_wire(headless=subrequest.method == "HEAD")
            self._observe(adapter.name, known, decision, _now() - started)
        except Exception:  # noqa: BLE001  (`answer` meets it again, and reports it)
            return None
        return answer

    async def answer(self, subrequest: Subrequest, adapter: Adapter | None = None) -> Answer:
        """Answer one subrequest; a bug answers as "we do not know", never as an allow."""
        started = _now()
        if adapter is None:
            endpoint = self._endpoint_of(subrequest.path)
            if endpoint is None:
                return await self._open(subrequest)
            adapter, wording = endpoint
        else:
            adapter, wording = endpoint_of(adapter, self._wording)
        known: CheckRequest | None = None
        decision = DENIALS[Reason.INTERNAL_ERROR]
        try:
            asked = adapter.read(subrequest, self.trusted)
            if isinstance(asked, CheckRequest):
                known = asked
                decision = await self._authorizer.check(asked)
            else:
                decision = DENIALS[asked]
            answer = adapter.write(decision, known, wording)
        except Overloaded:
            decision = DENIALS[Reason.OVERLOADED]
            answer = adapter.write(decision, known, wording)
        except Exception as error:  # noqa: BLE001  (the last line of defence)
            decision = DENIALS[Reason.INTERNAL_ERROR]
            answer = adapter.write(decision, None, wording)
            self._report(error)
        try:
            self._observe(adapter.name, known, decision, _now() - started)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return answer

    def stranger(self, target: str, address: str) -> Answer:
        """Answer a peer that is no proxy: whatever it asked, it may not ask."""
        endpoint = self._endpoint_of(target)
        return NOT_FOUND if endpoint is None else self._turn_away(endpoint, address)

    def turn_away(self, adapter: Adapter, address: str) -> Answer:
        """Answer a peer that is no proxy, in the words of an adapter."""
        return self._turn_away(Endpoint(adapter, self._wording), address)

    def _turn_away(self, endpoint: Endpoint, address: str) -> Answer:
        try:
            self._on_stranger(endpoint.adapter.name, address)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return self._refuse(endpoint, Reason.UNTRUSTED_PEER)

    def refuse(self, adapter: Adapter, reason: Reason) -> Answer:
        """Answer a question that is not looked at, or no longer."""
        return self._refuse(Endpoint(adapter, self._wording), reason)

    def _refuse(self, endpoint: Endpoint, reason: Reason) -> Answer:
        adapter, wording = endpoint
        decision = DENIALS[reason]
        try:
            self._observe(adapter.name, None, decision, 0.0)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return adapter.write(decision, None, wording)

    async def _open(self, subrequest: Subrequest) -> Answer:
        """Answer what is no check: a page of a profile, or nothing that is here."""
        page = self._pages.get(subrequest.path.partition("?")[0])
        if page is None:
            return NOT_FOUND
        try:
            return await page(subrequest)
        except Exception as error:  # noqa: BLE001  (the last line of defence)
            self._report(error)
            return self.broken(None, ours=True)

    def _endpoint_of(self, target: str) -> Endpoint | None:
        """Return what answers checks at an address, None where nothing does."""
        endpoint = self._exact.get(target)
        if endpoint is not None:
            return endpoint
        path = target.partition("?")[0]
        for prefix, below in self._below.items():
            if path.startswith(prefix):
                return below
        return self._exact.get(path)

    def broken(self, error: BaseException | None, *, ours: bool) -> Answer:
        """Return what to answer to a request that is not even HTTP, or that broke the server.

        403, because it cannot be an allow, not even a 5xx taken for one.
        """
        if ours and isinstance(error, Exception):
            self._report(error)
        reason = Reason.INTERNAL_ERROR if ours else Reason.BAD_FORWARDED_REQUEST
        return Answer(HTTPStatus.FORBIDDEN, NEVER_CACHED + lines([("X-Auth-Reason", reason)]))

    def _report(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            self._on_fault(error)
