"""The check listener: finds the adapter, asks the authorizer, writes the answer. Nothing else.

No middleware, no routes table, no body is read. What is not an endpoint is 404, whatever the
policy says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter as _now

from ..authorizer import Authorizer
from ..decision import DENIALS, Decision, Reason
from ..identity import lines
from ..model import CheckRequest
from . import auth_request, ext_authz_http, forward_auth, ingress
from .answers import allowed
from .wire import NEVER_CACHED, Adapter, Answer, Subrequest, Trusted, Wording

ADAPTERS = {
    "/check/auth_request": auth_request.ADAPTER,
    "/check/ingress": ingress.ADAPTER,
    "/check/forward_auth": forward_auth.ADAPTER,
}

_BELOW_EXT_AUTHZ = ext_authz_http.PREFIX + "/"

NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, NEVER_CACHED)

Observe = Callable[[str, CheckRequest | None, Decision, float], None]
OnFault = Callable[[Exception], None]


class CheckListener:
    """Answers subrequests; `connection.Connections` brings them and takes the answers away.

    `observe(adapter, request, decision, seconds)` counts and logs; `on_fault` hears of our bugs.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        wording: Wording,
        trusted: Trusted,
        *,
        observe: Observe,
        on_fault: OnFault,
    ) -> None:
        self.trusted = trusted
        self._authorizer = authorizer
        self._wording = wording
        self._observe = observe
        self._on_fault = on_fault

    def answer_now(self, subrequest: Subrequest) -> bytes | None:
        """Answer what needs no wait; None leaves it to `answer`, which begins again."""
        started = _now()
        adapter = ADAPTERS.get(subrequest.path) or adapter_of(subrequest.path)
        if adapter is None:
            return NOT_FOUND.on_the_wire()
        try:
            asked = adapter.read(subrequest, self.trusted)
            if isinstance(asked, Reason):
                known, decision = None, DENIALS[asked]
            else:
                known, outcome = asked, self._authorizer.consider(asked)
                if not isinstance(outcome, Decision):
                    return None
                decision = outcome
            if decision.reason is None:
                answer = allowed(decision)
            else:
                refused = adapter.write(decision, known, self._wording)
                answer = refused.on_the_wire(headless=subrequest.method == "HEAD")
            self._observe(adapter.name, known, decision, _now() - started)
        except Exception:  # noqa: BLE001  (`answer` meets it again, and reports it)
            return None
        return answer

    async def answer(self, subrequest: Subrequest, adapter: Adapter | None = None) -> Answer:
        """Answer one subrequest; a bug answers as "we do not know", never as an allow."""
        started = _now()
        adapter = adapter or adapter_of(subrequest.path)
        if adapter is None:
            return NOT_FOUND
        known: CheckRequest | None = None
        decision = DENIALS[Reason.INTERNAL_ERROR]
        try:
            asked = adapter.read(subrequest, self.trusted)
            if isinstance(asked, Reason):
                decision = DENIALS[asked]
            else:
                known = asked
                decision = await self._authorizer.check(asked)
            answer = adapter.write(decision, known, self._wording)
        except Exception as error:  # noqa: BLE001  (the last line of defence)
            decision = DENIALS[Reason.INTERNAL_ERROR]
            answer = adapter.write(decision, None, self._wording)
            self._report(error)
        try:
            self._observe(adapter.name, known, decision, _now() - started)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return answer

    def stranger(self, target: str) -> Answer:
        """Answer a peer that is no proxy: whatever it asked, it may not ask."""
        adapter = adapter_of(target)
        return NOT_FOUND if adapter is None else self.refuse(adapter, Reason.UNTRUSTED_PEER)

    def refuse(self, adapter: Adapter, reason: Reason) -> Answer:
        """Answer a question that is not looked at, or no longer."""
        decision = DENIALS[reason]
        try:
            self._observe(adapter.name, None, decision, 0.0)
        except Exception as error:  # noqa: BLE001  (a full disk must not change the answer)
            self._report(error)
        return adapter.write(decision, None, self._wording)

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


def adapter_of(target: str) -> Adapter | None:
    """Return the adapter of an endpoint, None for anything that is not one."""
    adapter = ADAPTERS.get(target)
    if adapter is not None:
        return adapter
    path = target.partition("?")[0]
    return ext_authz_http.ADAPTER if path.startswith(_BELOW_EXT_AUTHZ) else ADAPTERS.get(path)
