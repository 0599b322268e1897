"""Runs cases against one proxy: first pages without any trick, to learn what is normal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import ConfigurationError
from .cases import Case, Must, Who
from .place import Place
from .sender import Reply
from .upstream import Seen, seen_in
from .verdict import Known, Outcome, Verdict, identity_in, judge

Send = Callable[[bytes], Awaitable[Reply]]

_GRAVITY = (Outcome.NOT_SENT, Outcome.HELD, Outcome.UNJUDGED, Outcome.HOLE)
_NOWHERE = "page-that-is-not-there"


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to, by whoever sent it: the gravest verdict counts."""

    case: Case
    verdict: Verdict
    said: str = ""  # the statuses, in the order of the senders


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases for one place, and how to send them: a few at once, not too many a second."""

    place: Place
    send: Send
    cases: Sequence[Case]
    per_second: float = 0  # 0: as fast as it goes
    at_once: int = 8

    async def learn(self) -> Known:
        """Ask for pages without a trick; raises ConfigurationError if no case could be judged."""
        place = self.place
        public = [await self._ask(place.public) for _ in range(2)]
        missing = await self._ask(f"{place.public.rstrip('/')}/{_NOWHERE}")
        stranger = await self._ask(place.protected)
        _must_be_usable(place, public[0], stranger)
        exact = seen_in(public[0]) is not None
        same = public[0].body == public[1].body
        harmless = (public[0].body, missing.body, stranger.body) if same else ()
        known = Known(place, exact, harmless, None, {Who.STRANGER: self._identity(public[0])})
        return await self._learn_of_member(known) if place.cookie else known

    async def _learn_of_member(self, known: Known) -> Known:
        place = self.place
        if _passed(await self._ask(place.page)):
            raise ConfigurationError(
                f"--page: {place.page} is open to strangers, too (or kept by a cache); name one "
                "that needs the session"
            )
        page = await self._ask(place.page, place.cookie)
        if not _passed(page):
            raise ConfigurationError(
                f"--page: {place.page} answers {page.status} with this cookie; name a page that "
                "its session may open, or a cookie that is alive"
            )
        protected = await self._ask(place.protected, place.cookie)
        identity = {**known.identity, Who.MEMBER: self._identity(page)}
        if known.exact and not identity[Who.MEMBER]:
            raise ConfigurationError(
                f"--page: {place.page} brings the application none of the headers "
                f"{' '.join(place.identity)}; name those of your installation with --header"
            )
        secret = protected.body if _passed(protected) else None
        return replace(known, identity=identity, secret=secret, shut_out=secret is None)

    async def run(self, known: Known) -> list[Result]:
        """Send every case; return the results in their order."""
        gate = asyncio.Semaphore(self.at_once)
        clock = _Clock(self.per_second)

        async def one(case: Case) -> Result:
            async with gate:
                return await self._try(case, known, clock)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(case)) for case in self.cases]
        return [task.result() for task in tasks]

    async def still_the_same(self, known: Known) -> bool:
        """Tell whether the proxy still answers as before, and has not shut us out meanwhile."""
        page = await self._ask(self.place.public)
        return _passed(page) and (seen_in(page) is not None) is known.exact

    async def calling_cards(self) -> tuple[Reply, ...]:
        """Return answers by which a proxy shows who it is: to a stranger, and to nonsense."""
        nonsense = f"GET / HTTP/1.1\r\nHost: {self.place.host}\r\nx y: z\r\n\r\n".encode()
        return (await self._ask(self.place.protected), await self.send(nonsense))

    def requests(self) -> int:
        """Return how many requests a run sends at most, with those to learn."""
        learning = 10 if self.place.cookie else 7
        sent = (
            len(_senders(each, self.place, None)) * (1 + len(each.after)) for each in self.cases
        )
        return learning + sum(sent)

    async def _try(self, case: Case, known: Known, clock: _Clock) -> Result:
        senders = _senders(case, self.place, known)
        if not senders:
            return Result(case, Verdict(Outcome.NOT_SENT, "it needs a live session: --cookie"))
        verdicts, said = [], []
        for who in senders:
            for page in case.after:
                await clock.tick()
                await self._send(self._get(self.place.fill(page), self.place.cookie))
            await clock.tick()
            reply = await self._send(case.request(self.place, who))
            verdicts.append(judge(case, who, reply, known))
            said.append(_short(reply))
        worst = max(verdicts, key=lambda verdict: _GRAVITY.index(verdict.outcome))
        return Result(case, worst, " ".join(dict.fromkeys(said)))

    async def _send(self, request: bytes) -> Reply:
        """Send; whatever keeps us from connecting leaves a case without an answer."""
        try:
            return await self.send(request)
        except (OSError, TimeoutError):
            return Reply(unclear="no connection")

    async def _ask(self, target: str, cookie: str = "") -> Reply:
        return await self.send(self._get(target, cookie))

    def _get(self, target: str, cookie: str) -> bytes:
        lines = [f"GET {target} HTTP/1.1", f"Host: {self.place.host}", "Connection: close"]
        lines += [f"Cookie: {cookie}"] if cookie else []
        return "\r\n".join([*lines, "", ""]).encode()

    def _identity(self, reply: Reply) -> frozenset[tuple[str, str]]:
        seen = seen_in(reply) or Seen("", "", ())
        return identity_in(seen, self.place.identity)


class _Clock:
    """Lets at most so many pass each second, evenly."""

    def __init__(self, per_second: float) -> None:
        self._gap_s = 1 / per_second if per_second else 0.0
        self._next = time.monotonic()

    async def tick(self) -> None:
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap_s
        if at > now:
            await asyncio.sleep(at - now)


def _senders(case: Case, place: Place, known: Known | None) -> tuple[Who, ...]:
    """Return who can send a case here; before anything is known, who might."""
    if case.needs_cookie and not place.cookie:
        return ()
    return tuple(who for who in case.senders if who is Who.STRANGER or _has_use(case, place, known))


def _has_use(case: Case, place: Place, known: Known | None) -> bool:
    """Tell whether a member can show anything: who may open the protected page cannot break in."""
    may_open = known is not None and not known.shut_out
    return bool(place.cookie) and not (case.must is Must.SHUT and may_open)


def _must_be_usable(place: Place, public: Reply, stranger: Reply) -> None:
    if not _passed(public):
        raise ConfigurationError(
            f"--public: {place.public} answers {public.status or 'nothing'} to a stranger; name a "
            "page that anybody may open"
        )
    if _passed(stranger):
        raise ConfigurationError(
            f"--protected: {place.protected} answers {stranger.status} to a stranger: either it is "
            "not protected at all, or you meant another page"
        )


def _passed(reply: Reply) -> bool:
    return 200 <= reply.status < 300


def _short(reply: Reply) -> str:
    if reply.unclear:
        return "unclear"
    return "clean" if seen_in(reply) else str(reply.status or "closed")
