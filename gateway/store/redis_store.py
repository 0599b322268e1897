"""The SessionStore in Redis or Valkey."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from ..alerts import Action, Alert, SignIn, Watch
from ..credentials import digest_of_user, partition_of_user
from ..devices import is_named
from ..errors import (
    AlreadyRenewed,
    ConfigurationError,
    SessionLimitReached,
    SignInRefused,
    StoreUnavailable,
)
from ..identity import Stand, standing_of
from ..lifetime import Lifetime
from ..links import Question
from ..model import (
    IN_DOUBT_AAL,
    NOWHERE,
    Actor,
    Caller,
    Client,
    Device,
    Ended,
    EndState,
    Login,
    Place,
    Session,
    SessionKey,
    Standing,
)
from ..ports import Confirmation, Created, Fence, Reading, Recall, SignInRules, Touched
from . import records, scripts
from .faults import as_unavailable
from .histories import Histories, Link, Watched, Where, no_link, written
from .keys import Keys
from .memory import Memory, MemoryOptions
from .near_cache import NearCache
from .reader import Reader
from .replicas import NO_FENCE, ReplicaFence
from .values import fetch

BATCH = 1000  # a script over more members would block Redis (80 ms for 50,000)
MAX_CONNECTIONS = 32
# What a record and an index outlive their sessions by, so that the event of a natural end can still
# name the user. Nothing is allowed by it: the record says itself when it ends.
OUTLIVES_MS = 300_000
_SOCKET_TIMEOUT_S = 0.2  # redis-py's own defaults let a hung Redis hold a call for 59 s
_ATTEMPTS = 20  # of a change that another change overtook
_ANSWERING_MS = 60_000  # who dies over an answer lets the user try again
MOST_FACTS = 50  # told of one session that others use; with every request they can be another
_WATCHED_ATTEMPTS = 8  # of a sign-in; the last goes by what was known a moment before


def connect(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    connections: int = MAX_CONNECTIONS,
) -> Redis:
    """Return a client that fails fast and never repeats a command by itself.

    More calls at once than `connections` wait for one, and fail as if Redis did not answer.
    A repeated revocation would answer "there was none" although the first one ended it.
    """
    credentials = {"username": username, "password": password}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=_SOCKET_TIMEOUT_S,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        # Where these are on, redis-py does not look whether a pooled connection was closed.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **{name: value for name, value in credentials.items() if value},
    )
    return Redis.from_pool(pool)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What was learnt of the server when the store was opened."""

    version: str
    eviction_policy: str


class _Learnt(Exception):
    """More was learnt of the user since the alert rules were asked."""


def ignore(_: object) -> None:
    """Take a report that nobody wants."""


class RedisStore:
    """Sessions in Redis; see `ports.SessionStore` for what every method promises."""

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "gw:",
        partitions: int = 16,
        outbox_limit: int = 10_000,
        count_error: Callable[[str], None] = ignore,
        on_lost_event: Callable[[int], None] = ignore,
        on_alerts: Callable[[tuple[Alert, ...]], None] = ignore,
        memory: MemoryOptions | None = None,
        stand: Stand = standing_of,
        link: Link = no_link,
    ) -> None:
        self._link = link
        self._client = client
        self._keys = Keys(prefix)
        self._partitions = partitions
        self._outbox_limit = outbox_limit
        self._count_error = count_error
        self._on_lost_event = on_lost_event
        self._on_alerts = on_alerts
        self._histories = Histories(client, self._keys, partitions)
        self._reader = Reader(client, self._keys, count_error)
        self._scripts: dict[str, AsyncScript] = {}  # until it is open
        self._memory = (
            None
            if memory is None
            else Memory(client, self._keys, memory, stand=stand, count_error=count_error)
        )
        # Not a method of its own, which would be a call more on the way of a check.
        self.recall: Recall = _nothing if self._memory is None else self._memory.recall

    async def open(self) -> ServerFacts:
        """Learn what the server can do and check that it was set up by gateways like this one.

        Raises StoreUnavailable while it cannot be reached, ConfigurationError on a mismatch.
        """
        with as_unavailable(self._count_error):
            await self._client.ping()
            knows_flags = await self._knows_script_flags()
            self._reader.demands_master = await self._tells_its_role()
            fixed = await self._fixed_layout()
        self._refuse_another(fixed)
        facts = await self._facts()
        self._scripts = scripts.register(self._client, knows_flags=knows_flags)
        if self._memory is not None:
            evicts = facts.eviction_policy not in ("noeviction", "unknown")
            self._memory.open(knows_flags=knows_flags, registry_lasts=not evicts)
        return facts

    async def close(self) -> None:
        if self._memory is not None:
            await self._memory.close()
        await self._reader.close()
        await self._client.aclose()

    async def ping(self) -> None:
        with as_unavailable(self._count_error):
            self._require_open()
            await self._client.ping()

    async def read(self, key: SessionKey) -> Reading:
        self._require_open()
        reading = None if self._memory is None else await self._memory.read(key)
        return reading if reading is not None else await self._reader.read(key)

    @property
    def near(self) -> NearCache | None:
        """What is remembered here, for the metrics; None if nothing is."""
        return None if self._memory is None else self._memory.near

    def fence(self) -> Fence:
        return NO_FENCE if self._memory is None else self._memory.replicas.fence()

    async def confirmed(self, fence: Fence) -> Confirmation:
        if self._memory is None or not isinstance(fence, ReplicaFence):
            return Confirmation()
        return await self._memory.replicas.confirmed(fence)

    async def remove_silent_replicas(self) -> None:
        """Take replicas that have died out of the registry; see `Replicas.remove_silent`."""
        if self._memory is not None:
            await self._memory.replicas.remove_silent()

    async def create(
        self,
        key: SessionKey,
        login: Login,
        device: Device,
        rules: SignInRules,
        actor: Actor,
        *,
        place: Place = NOWHERE,
    ) -> Created:
        if rules.watch is None:
            return await self._create(key, login, device, rules, actor)
        for last in (*[False] * (_WATCHED_ATTEMPTS - 1), True):
            watched = await self._assessed(key, login, device, rules.watch, place)
            watched = replace(watched, at_any_revision=last)
            try:
                return await self._create(key, login, device, rules, actor, watched=watched)
            except _Learnt:
                continue
        raise StoreUnavailable("conflict", "the user's history kept changing; try again")

    async def _assessed(
        self, key: SessionKey, login: Login, device: Device, watch: Watch, place: Place
    ) -> Watched:
        """Ask the alert rules about a sign-in, with what is known of the user now."""
        with as_unavailable(self._count_error):
            self._require_open()
            known = await self._histories.read(key.partition, login.user)
            accounts = 0
            if watch.counts_accounts and is_named(device):
                accounts = await self._histories.count_account(
                    device.id, digest_of_user(login.user), known.now_ms
                )
        sign_in = SignIn(login.user, known.now_ms, login.client, device, place, accounts)
        return Watched(watch, sign_in, known, watch.assess(sign_in, known.history))

    async def _create(
        self,
        key: SessionKey,
        login: Login,
        device: Device,
        rules: SignInRules,
        actor: Actor,
        *,
        watched: Watched | None = None,
    ) -> Created:
        lifetime, user_digest = rules.lifetime, digest_of_user(login.user)
        if watched is not None and watched.assessment.in_doubt:
            login = replace(login, aal=IN_DOUBT_AAL)
        links = () if watched is None else watched.links(key.id, self._link)
        asked = b"" if watched is None else watched.argument(key.id, links)
        with as_unavailable(self._count_error):
            raised = () if watched is None else watched.raised
            rest = records.rest_of_login(
                key, user_digest, login, device, lifetime.idle_ms, alerts=raised
            )
            reply = await self._run(
                "create", key.partition, actor, key.digest, rest, lifetime.idle_ms,
                lifetime.absolute_ms, rules.max_per_user, rules.on_limit,
                device.id if rules.one_per_device else "", login.user, user_digest,
                _facts_of_login(login, device),
                self._keys.history(key.partition, login.user), self._keys.alerts(key.partition),
                asked,
            )  # fmt: skip
        if reply[0] == b"limit":
            raise SessionLimitReached(rules.max_per_user)
        if reply[0] == b"learnt":
            raise _Learnt
        alerts = self._told(watched, reply[1] if reply[0] == b"refused" else reply[2], links)
        if reply[0] == b"refused" and watched is not None:
            raise SignInRefused(watched.refusing)
        session = _session_of(key, login, device, lifetime, int(reply[1]))
        session = replace(session, alerts=raised)
        return Created(session, tuple(_ended_pairs(key.partition, reply[3:])), alerts)

    def _told(
        self, watched: Watched | None, told: bytes, links: Sequence[str]
    ) -> tuple[Alert, ...]:
        """Report the alerts that nobody was told of before; return those that are no shadows."""
        if watched is None:
            return ()
        raised = zip(watched.assessment.alerts, links, told, strict=True)
        new = [(alert, link) for alert, link, is_new in raised if is_new == ord("1")]
        if new:
            self._on_alerts(tuple(alert for alert, _ in new))
        return tuple(
            replace(alert, details={**alert.details, "link": link}) if link else alert
            for alert, link in new
            if alert.action is not Action.SHADOW
        )

    async def learn(self, sign_in: SignIn, memory_ms: int) -> None:
        partition = partition_of_user(sign_in.user, self._partitions)
        with as_unavailable(self._count_error):
            self._require_open()
            await self._histories.learn(partition, sign_in, memory_ms)

    async def note_use(self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]) -> None:
        for alert in alerts:
            with as_unavailable(self._count_error):
                self._require_open()
                record, _ = await self._raw(session.key)
                if record is None:
                    return
                partition, fact = session.key.partition, hashlib.sha256(alert.fact.encode())
                alert_id = f"{session.key.id}.{fact.hexdigest()[:12]}"
                where = await self._where(session, caller, alert)
                first = partition + records.full(records.family_of(record))
                told = written(alert, alert_id, where, self._link(alert, alert_id, first, where))
                reply = await self._run(
                    "note_use", partition, Actor("gateway"), session.key.digest,
                    self._keys.told(partition), self._keys.alerts(partition), orjson.dumps(told),
                    MOST_FACTS,
                )  # fmt: skip
            if reply[0] == b"told":
                self._on_alerts((alert,))

    async def _where(self, session: Standing, caller: Caller, alert: Alert) -> Where:
        seconds, microseconds = await self._client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        country = str(alert.details.get("country", ""))
        device = str(alert.details.get("device", ""))
        words = ", ".join(filter(None, (device, country)))
        return Where(session.user, now_ms, caller.address, country, words)

    async def is_answered(self, alert_id: str) -> bool:
        with as_unavailable(self._count_error):
            self._require_open()
            return bool(await self._client.exists(self._keys.answer(alert_id)))

    async def begin_answer(self, alert_id: str) -> bool:
        with as_unavailable(self._count_error):
            self._require_open()
            name = self._keys.answer(alert_id)
            return bool(await self._client.set(name, "under way", nx=True, px=_ANSWERING_MS))

    async def forget_answer(self, alert_id: str) -> None:
        with as_unavailable(self._count_error):
            self._require_open()
            await self._client.delete(self._keys.answer(alert_id))

    async def finish_answer(
        self, question: Question, data: Mapping[str, object], actor: Actor
    ) -> None:
        with as_unavailable(self._count_error):
            partition, digest = question.session_id[:2], question.session_id[2:]
            await self._run(
                "answer_alert", partition, actor, digest, question.user,
                self._keys.answer(question.alert_id), question.expires_ms - question.at_ms,
                orjson.dumps({"alert": question.alert_id, "type": question.type, **data}),
            )  # fmt: skip

    async def touch(self, key: SessionKey, interval_ms: int) -> Touched | None:
        with as_unavailable(self._count_error):
            self._require_open()
            reply = await self._scripts["touch"](
                keys=self._script_keys(key.partition),
                args=[*self._common(key.partition, Actor("")), key.digest, interval_ms],
            )
            touched = Touched(int(reply[0]), bool(reply[1])) if reply else None
        if self._memory is not None:
            self._memory.note_touched(key, touched)
        return touched

    async def update(
        self,
        key: SessionKey,
        changes: Mapping[str, object],
        actor: Actor,
        fence: Fence | None = None,
    ) -> Session | None:
        updated = await self._update(key, changes, actor, fence)
        done = {key}
        # Until none is left: meanwhile a key that is still old may be renewed into another one.
        while updated is not None and (others := await self._siblings(key) - done):
            for other in others:
                await self._update(other, changes, actor, fence)
            done |= others
        return updated

    async def _update(
        self, key: SessionKey, changes: Mapping[str, object], actor: Actor, fence: Fence | None
    ) -> Session | None:
        for _ in range(_ATTEMPTS):
            old, session = await self._raw(key)
            if old is None or session is None:
                return None
            with as_unavailable(self._count_error):
                new = records.changed(old, changes)
                reply = await self._run(
                    "update", key.partition, actor, key.digest, old, new, session.user,
                    orjson.dumps({name: changes[name] for name in sorted(changes)}), fence=fence,
                )  # fmt: skip
            if reply[0] == b"gone":
                return None
            if reply[0] == b"ok":
                return records.parse(key, new, float(session.last_seen_ms + session.idle_ms))
        raise StoreUnavailable("conflict", "the session kept changing; try again")

    async def _siblings(self, key: SessionKey) -> set[SessionKey]:
        """Return all keys of the session: more than one in the grace of a renewal."""
        old, session = await self._raw(key)
        if old is None or session is None:
            return set()
        with as_unavailable(self._count_error):
            family = records.family_of(old)
            index = self._keys.index(key.partition, session.user)
            digests: list[Any] = await self._client.zrange(index, 0, -1)
            keys = [SessionKey(key.partition, digest.decode()) for digest in digests]
            if not keys:
                return set()
            stored, _ = await fetch(self._client, self._keys, keys)
            found = [(each.key, each.believed().record) for each in stored]
            return {
                key
                for key, record in found
                if record is not None and records.family_of(record) == family
            }

    async def renew(
        self,
        key: SessionKey,
        new: SessionKey,
        grace_ms: int,
        actor: Actor,
        fence: Fence | None = None,
        *,
        aal: int | None = None,
        client: Client | None = None,
    ) -> Session | None:
        for _ in range(_ATTEMPTS):
            old, session = await self._raw(key)
            if old is None or session is None:
                return None
            with as_unavailable(self._count_error):
                reply = await self._run(
                    "renew", key.partition, actor, key.digest, old, new.digest,
                    records.rest_for_key(old, new, aal=aal, client=client), grace_ms,
                    records.rest_for_key(old, key, in_grace=True), "" if aal is None else aal,
                    fence=fence,
                )  # fmt: skip
            if reply[0] == b"gone":
                return None
            if reply[0] == b"renewed":
                raise AlreadyRenewed
            if reply[0] == b"ok":
                return (await self.read(new)).session
        raise StoreUnavailable("conflict", "the session kept changing; try again")

    async def end(
        self, key: SessionKey, why: EndState, actor: Actor, fence: Fence | None = None
    ) -> str | None:
        with as_unavailable(self._count_error):
            reply = await self._run("end_one", key.partition, actor, key.digest, why, fence=fence)
        if not reply and fence is not None:
            fence.undo_step()
        return str(reply[0], "utf-8") if reply and reply[0] is not None else None

    async def end_all(
        self, user: str, keep: SessionKey | None, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        return await self._end_batches("end_all", user, keep.digest if keep else "", actor, fence)

    async def end_device(
        self, user: str, device_id: str, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        return await self._end_batches("end_device", user, device_id, actor, fence)

    async def end_family(
        self, user: str, key: SessionKey, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        return await self._end_batches("end_family", user, records.short(key), actor, fence)

    async def sessions_of(self, user: str) -> tuple[Session, ...]:
        partition = partition_of_user(user, self._partitions)
        with as_unavailable(self._count_error):
            self._require_open()
            digests: list[Any] = await self._client.zrange(self._keys.index(partition, user), 0, -1)
            found: list[Session] = []
            for start in range(0, len(digests), BATCH):
                found += await self._sessions(partition, digests[start : start + BATCH])
        return tuple(session for session in found if session.user == user)

    async def check_layout(self) -> None:
        """Raise ConfigurationError if Redis was set up anew by gateways that differ from this one.

        It may have been emptied and opened by another replica while it was away from this one.
        """
        with as_unavailable(self._count_error):
            fixed = await self._fixed_layout()
        self._refuse_another(fixed)

    async def sweep(self) -> tuple[EndState, ...]:
        """End what is over by itself, everywhere; return how each ended.

        Every replica may do so at any time: a session is ended, and its event written, once. A
        partition that is broken holds up no other; it is raised at the end.
        """
        ended: list[EndState] = []
        failure: StoreUnavailable | None = None
        for number in range(self._partitions):
            try:
                await self._sweep(f"{number:02x}", ended)
            except StoreUnavailable as error:
                if error.kind != "response":  # it is not this partition alone
                    raise
                failure = error
        if failure is not None:
            raise failure
        return tuple(ended)

    async def _sweep(self, partition: str, ended: list[EndState]) -> None:
        looked_at = BATCH
        while looked_at == BATCH:
            with as_unavailable(self._count_error):
                reply = await self._run("sweep", partition, Actor("gateway"), BATCH)
                looked_at = int(reply[0])
                ended += [EndState(why.decode()) for why in reply[1:]]

    async def _end_batches(
        self, script: str, user: str, argument: str, actor: Actor, fence: Fence | None
    ) -> tuple[Ended, ...]:
        """Run the batches from the first to the last, until a pass was one step or undisturbed.

        Between two batches a session may move to where the pass has been (renewed with a grace)
        or others may leave there, so that the rest moves up.
        """
        partition = partition_of_user(user, self._partitions)
        ended: list[Ended] = []
        cutoff, batches, again = 0, 0, True
        while again and batches != 1:
            offset, batches, again = 0, 0, False
            left = -1
            while offset >= 0:
                with as_unavailable(self._count_error):
                    reply = await self._run(
                        script, partition, actor, user, digest_of_user(user), cutoff, offset,
                        BATCH, argument, fence=fence,
                    )  # fmt: skip
                    offset, cutoff, before, after = map(int, reply[:4])
                    digests = reply[4:]
                    ended += [Ended(partition + each.decode(), EndState.REVOKED)
                              for each in digests]  # fmt: skip
                batches += 1
                again = again or bool(digests) or left not in (-1, before)
                left = after
        return tuple(ended)

    async def _run(
        self,
        script: str,
        partition: str,
        actor: Actor,
        *args: Any,
        fence: Fence | None = None,
    ) -> list[Any]:
        """Run a script; report events that could not be written; return the rest of its reply."""
        self._require_open()
        keys = self._script_keys(partition)
        end = "" if fence is None else fence.next_step()
        if end:
            keys.append(self._keys.fence(partition, end))
        reply = await self._scripts[script](
            keys=keys, args=[*self._common(partition, actor), *args]
        )
        if reply[0]:
            self._on_lost_event(int(reply[0]))
        return list(reply[1:])

    def _require_open(self) -> None:
        """With another number of partitions than the cluster's, sessions would be missed."""
        if not self._scripts:
            raise StoreUnavailable("not_opened")

    def _script_keys(self, partition: str) -> list[str]:
        keys = self._keys
        return [keys.outbox(partition), keys.dropped(partition), keys.activities(partition)]

    def _common(self, partition: str, actor: Actor) -> list[Any]:
        """Return the arguments that `prelude.lua` names."""
        prefix, tag = self._keys.prefix, f"{{{partition}}}:"
        return [
            f"{prefix}s:{tag}", OUTLIVES_MS, f"{prefix}u:{tag}", partition,
            self._outbox_limit, actor.name, actor.reason, actor.request_id,
        ]  # fmt: skip

    async def _raw(self, key: SessionKey) -> tuple[bytes | None, Session | None]:
        with as_unavailable(self._count_error):
            self._require_open()
            (stored,), now_ms = await fetch(self._client, self._keys, [key])
            session = stored.session()
        lives = session is not None and now_ms < session.idle_expires_ms
        return stored.record, session if lives else None

    async def _sessions(self, partition: str, digests: list[bytes]) -> list[Session]:
        keys = [SessionKey(partition, digest.decode()) for digest in digests]
        stored, now_ms = await fetch(self._client, self._keys, keys)
        sessions = [each.session() for each in stored]
        return [each for each in sessions if each is not None and now_ms < each.idle_expires_ms]

    async def _fixed_layout(self) -> str:
        """Return what the first start fixed; written only if there is nothing.

        A Redis without free memory refuses every write, and revocations need an open store.
        """
        name = self._keys.partitions
        if not await self._client.exists(name):
            await self._client.set(name, f"{self._partitions} {records.VERSION}", nx=True)
        fixed = await self._client.get(name)
        return fixed.decode("ascii", "replace") if isinstance(fixed, bytes) else ""

    def _refuse_another(self, fixed: str) -> None:
        """With another number of partitions sessions would be missed.

        With records of another version a session that the others renewed would keep a key when it
        is ended here: both count as replicas that confirm, and neither reads the other's records.
        """
        partitions, _, version = fixed.partition(" ")
        if partitions != str(self._partitions):
            raise ConfigurationError(
                f"redis.partitions is {self._partitions}, but this Redis was set up with "
                f"{partitions}; set redis.partitions = {partitions}, or use another redis.prefix"
            )
        if version != str(records.VERSION):
            raise ConfigurationError(
                f"redis.prefix: the sessions there are of version {version or 'of an earlier one'}"
                f" of the gateway's records, and this gateway has version {records.VERSION}; use"
                " another redis.prefix, or empty this Redis once all gateways of before have ended"
            )

    async def _knows_script_flags(self) -> bool:
        try:
            await self._client.eval("#!lua flags=allow-oom\nreturn 1", 0)
        except ResponseError:
            return False  # Redis before version 7
        return True

    async def _tells_its_role(self) -> bool:
        client: Any = self._client
        try:
            await client.execute_command("HELLO")
        except ResponseError:
            return False  # Redis before version 6
        return True

    async def _facts(self) -> ServerFacts:
        """Ask the server about itself; a user without the right to INFO is no fault."""
        try:
            server, memory = await self._client.info("server"), await self._client.info("memory")
        except RedisError:
            return ServerFacts("unknown", "unknown")
        version = server.get("valkey_version") or server.get("redis_version", "unknown")
        return ServerFacts(str(version), str(memory.get("maxmemory_policy", "unknown")))


def _session_of(
    key: SessionKey, login: Login, device: Device, lifetime: Lifetime, now_ms: int
) -> Session:
    return Session(
        key=key,
        user=login.user,
        email=login.email,
        name=login.name,
        roles=login.roles,
        device=device,
        client=login.client,
        created_ms=now_ms,
        expires_ms=now_ms + lifetime.absolute_ms,
        idle_ms=lifetime.idle_ms,
        last_seen_ms=now_ms,
        metadata=login.metadata,
        remember=login.remember,
        aal=login.aal,
        authenticated_ms=now_ms,
    )


def _facts_of_login(login: Login, device: Device) -> bytes:
    return orjson.dumps(
        {
            "email": login.email,
            "roles": login.roles,
            "ip": login.client.ip,
            "country": login.client.country,
            "city": login.client.city,
            "user_agent": login.client.user_agent,
            "aal": login.aal,
            "device": {"id": device.id, "name": device.name, "type": device.type},
        }
    )


def _ended_pairs(partition: str, flat: list[bytes]) -> list[Ended]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [Ended(partition + digest.decode(), EndState(why.decode())) for digest, why in pairs]


def _nothing(_: SessionKey) -> None:
    """Recall nothing: there is no memory."""
