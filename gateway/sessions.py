"""What can be done with sessions: the use cases behind the admin API, without their own I/O."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import identity
from .alerts import SignIn, Watch
from .credentials import key_of_id, key_of_token, new_token, partition_of_user
from .devices import device_of
from .errors import InvalidInput, Problem, StoreUnavailable
from .identity import HeaderSet
from .model import (
    IN_DOUBT_AAL,
    NOWHERE,
    Actor,
    Client,
    Device,
    Ended,
    EndState,
    Login,
    Place,
    Session,
    SessionKey,
)
from .ports import Confirmation, Created, Fence, SessionStore, SignInRules

MAX_PAGE = 200
# The last activity and id of a page's last session: what follows it is the next page. Or nothing.
CURSOR = r"^([0-9]{1,16}\.[0-9a-f]{34})?$"
# Every client takes these out of a path, so no call could name such a user or device again.
_NO_PATH = frozenset({".", ".."})
_IN_DOUBT = "the session is in doubt; let the user sign in again, then renew it with `aal`"


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session together with its secret: the only moment at which the token exists here."""

    token: str
    created: Created


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a revocation did, and who can no longer allow because of it."""

    ended: tuple[Ended, ...]
    took_ms: float
    replicas: Confirmation
    confirmed_after_ms: float  # since Redis acknowledged it; part of `took_ms`
    durable: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Sessions, newest activity first; `next` is None on the last page."""

    sessions: tuple[Session, ...]
    next: str | None


class Sessions:
    """Create, read, list, change and end sessions.

    Raises InvalidInput for values that break a rule, StoreUnavailable when Redis cannot say.
    """

    def __init__(
        self,
        store: SessionStore,
        rules: SignInRules,
        partitions: int,
        told: tuple[HeaderSet, ...] = (identity.NATIVE,),
        locate: Callable[[str], Place] = lambda _: NOWHERE,
    ) -> None:
        self._store = store
        self._rules = rules
        self._partitions = partitions
        self._told = told  # what applications are to be told of every session, intact
        self._locate = locate

    async def create(self, login: Login, actor: Actor) -> NewSession:
        """Sign a user in. The answer holds the token; it is not stored."""
        place = self._locate(login.client.ip)
        login = replace(login, client=login.client.at(place))
        device = device_of(login.device_id, login.client.user_agent)
        check_identity(_planned(login, device), self._told)
        token, key = self._fresh(partition_of_user(login.user, self._partitions))
        created = await self._store.create(
            key, login, device, self._rules, actor, place=place
        )
        return NewSession(token, created)

    async def get(self, session_id: str) -> Session | None:
        """Return the live session with this public id."""
        key = key_of_id(session_id, self._partitions)
        return None if key is None else await self._live(key)

    async def introspect(self, token: str) -> Session | None:
        """Return the live session that this secret opens (RFC 7662)."""
        key = key_of_token(token, self._partitions)
        return None if key is None else await self._live(key)

    async def _live(self, key: SessionKey) -> Session | None:
        reading = await self._store.read(key)
        session = reading.session
        if session is None or reading.now_ms >= session.idle_expires_ms:
            return None
        return session

    async def page(self, user: str, limit: int, cursor: str) -> Page:
        """Return one page; `cursor` is the `next` of the page before."""
        after = _decode_cursor(cursor) if cursor else None
        found = sorted(await self._store.sessions_of(user), key=_newest_first)
        rest = [each for each in found if after is None or _newest_first(each) > after]
        page = tuple(rest[:limit])
        return Page(page, _encode_cursor(page[-1]) if len(rest) > limit else None)

    async def update(
        self, session_id: str, changes: Mapping[str, Any], actor: Actor
    ) -> Session | None:
        """Change email, name, roles, metadata or aal of a live session."""
        key = key_of_id(session_id, self._partitions)
        session = None if key is None else await self._live(key)
        if key is None or session is None:
            return None
        if session.aal == IN_DOUBT_AAL and "aal" in changes:
            raise InvalidInput((Problem("aal", _IN_DOUBT),))
        changed = replace(session, **changes)
        check_identity(changed, self._told)
        fence = self._store.fence()
        updated = await self._store.update(key, changes, actor, fence)
        if updated is not None:
            await self._store.confirmed(fence)
        return updated

    async def renew(
        self,
        session_id: str,
        grace_ms: int,
        actor: Actor,
        aal: int | None = None,
        client: Mapping[str, str] | None = None,
    ) -> tuple[str, Session] | None:
        """Give a live session a new token and id; the old ones end after `grace_ms`.

        With `aal` the user has just signed in again, at that level, there where `client` says (of
        `ip`, `user_agent`, `accept_language`, `accept_encoding` what is left out stays). What had
        put the session in doubt is then known to be the user's.
        """
        key = key_of_id(session_id, self._partitions)
        if key is None:
            return None
        token, new = self._fresh(key.partition)
        fence = self._store.fence()
        moved = await self._moved(key, client) if aal is not None and client else None
        session = await self._store.renew(key, new, grace_ms, actor, fence, aal=aal, client=moved)
        if session is None:
            return None
        if not grace_ms:
            await self._store.confirmed(fence)  # the old token has ended: everywhere
        if aal is not None and self._rules.watch is not None:
            await self._learn(session, self._rules.watch)
        return token, session

    async def _moved(self, key: SessionKey, client: Mapping[str, str]) -> Client | None:
        """Return where the user of a session is now."""
        session = await self._live(key)
        if session is None:
            return None
        moved = replace(session.client, **client)
        if "ip" not in client:
            return moved
        return replace(moved, country="", city="").at(self._locate(moved.ip))

    async def _learn(self, session: Session, watch: Watch) -> None:
        place = self._locate(session.client.ip)
        sign_in = SignIn(
            session.user, session.authenticated_ms, session.client, session.device, place
        )
        with contextlib.suppress(StoreUnavailable):  # then the next sign-in is doubted once more
            await self._store.learn(sign_in, watch.memory_ms)

    async def end(self, session_id: str, actor: Actor) -> Receipt | None:
        """Revoke one session; None if there was none. One that was over no replica allows then.

        Raises StoreUnavailable("garbage_record") if its record could not be read. It is removed,
        but if it was renewed it may have another key, which only the end of all its user's finds.
        """
        started, fence = time.perf_counter(), self._store.fence()
        key = key_of_id(session_id, self._partitions)
        if key is None:
            return None
        user = await self._store.end(key, EndState.REVOKED, actor, fence)
        receipt = await self._receipt(started, (Ended(session_id, EndState.REVOKED),), fence)
        if user == "":
            raise StoreUnavailable("garbage_record")
        return None if user is None else receipt

    async def end_all(self, user: str, keep_id: str, actor: Actor) -> Receipt:
        """Revoke all sessions of a user, but the one with id `keep_id` if that is not empty."""
        started, fence = time.perf_counter(), self._store.fence()
        keep = key_of_id(keep_id, self._partitions) if keep_id else None
        if keep_id and keep is None:
            raise InvalidInput((Problem("except", "is not a session id"),))
        ended = await self._store.end_all(user, keep, actor, fence)
        return await self._receipt(started, ended, fence)

    async def end_family(self, user: str, session_id: str, actor: Actor) -> Receipt:
        """Revoke the session that had this id first, however often it was renewed."""
        started, fence = time.perf_counter(), self._store.fence()
        key = key_of_id(session_id, self._partitions)
        ended = () if key is None else await self._store.end_family(user, key, actor, fence)
        return await self._receipt(started, ended, fence)

    async def end_device(self, user: str, device_id: str, actor: Actor) -> Receipt:
        """Revoke the sessions of a user on one device."""
        started, fence = time.perf_counter(), self._store.fence()
        ended = await self._store.end_device(user, device_id, actor, fence)
        return await self._receipt(started, ended, fence)

    async def _receipt(self, started: float, ended: tuple[Ended, ...], fence: Fence) -> Receipt:
        acknowledged = time.perf_counter()
        confirmation = await self._store.confirmed(fence)
        now = time.perf_counter()
        took_ms, waited_ms = ((now - since) * 1000 for since in (started, acknowledged))
        return Receipt(ended, round(took_ms, 3), confirmation, waited_ms)

    def _fresh(self, partition: str) -> tuple[str, SessionKey]:
        token = new_token(partition)
        key = key_of_token(token, self._partitions)
        if key is None:  # only if the partition came from elsewhere
            raise InvalidInput((Problem("session", "belongs to no partition of this gateway"),))
        return token, key


def _planned(login: Login, device: Device) -> Session:
    """Return what a sign-in would become, with a key that is as long as any."""
    return Session(
        SessionKey("00", "0" * 32), login.user, login.email, login.name, login.roles, device,
        login.client, created_ms=0, expires_ms=0, idle_ms=0, last_seen_ms=0,
        metadata=login.metadata,
    )  # fmt: skip


def check_identity(session: Session, told: Iterable[HeaderSet]) -> None:
    """Raise InvalidInput with every value that could not be told to the application intact."""
    user, device_id = session.user, session.device.id
    named = [("user", user), ("email", session.email), ("name", session.name)]
    named += [("device_id", device_id)]
    named += [(f"roles.{index}", role) for index, role in enumerate(session.roles)]
    problems = [
        Problem(place, problem)
        for place, text in named
        if (problem := identity.problem_of(text)) is not None
    ]
    problems += [
        Problem(f"roles.{index}", 'must not be empty or hold ","')
        for index, role in enumerate(session.roles)
        if not role or "," in role
    ]
    problems += [
        Problem(place, f"must not be {text}: no path could name it")
        for place, text in (("user", user), ("device_id", device_id))
        if text in _NO_PATH
    ]
    if not user:
        problems.append(Problem("user", "must not be empty"))
    if not problems:
        found = (problem for each in told for problem in identity.problems_of(session, each))
        problems += [Problem(place, message) for place, message in dict.fromkeys(found)]
    if problems:
        raise InvalidInput(tuple(problems))


def _newest_first(session: Session) -> tuple[int, str]:
    return -session.last_seen_ms, session.id


def _encode_cursor(session: Session) -> str:
    return f"{session.last_seen_ms}.{session.id}"


def _decode_cursor(cursor: str) -> tuple[int, str]:
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidInput((Problem("cursor", "is not the `next` of a page before"),))
    seen, _, session_id = cursor.partition(".")
    return -int(seen), session_id
