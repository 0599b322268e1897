"""What is known of each user, in Redis: a hash in the user's own slot.

A field that cannot be read counts as unknown: it must not keep anybody from signing in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis

from ..alerts import Action, Alert, Assessment, History, Seen, SignIn, Spot, Watch
from ..alerts.finding import instant_of
from ..links import Links, Question
from .keys import Keys

ACCOUNTS_MS = 30 * 86_400_000  # so long a user counts as one of the device's
_MOST_ACCOUNTS = 1000
_SPOT, _REVISION, _CLAIM = "spot", "revision", "!"
_LONGEST_INSTANT = 20
_KINDS = {"devices": "device:", "countries": "country:", "networks": "network:"}


@dataclass(frozen=True, slots=True)
class Known:
    """A history as it was read."""

    history: History
    revision: str  # of every change another
    now_ms: int


class Histories:
    """Reads histories, and says in one argument what the script `create` makes of them."""

    def __init__(self, client: Redis, keys: Keys, partitions: int) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions

    async def read(self, partition: str, user: str) -> Known:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hgetall(self._keys.history(partition, user))
        pipeline.time()
        reply, (seconds, microseconds) = await pipeline.execute()
        fields = _pairs(reply)
        revision = fields.get(_REVISION.encode(), b"0").decode()
        return Known(_decoded(fields), revision, seconds * 1000 + microseconds // 1000)

    async def count_account(self, device_id: str, user_digest: str, now_ms: int) -> int:
        """Note that the user signed in on the device; return how many users did so lately."""
        digest = hashlib.sha256(device_id.encode()).hexdigest()[:40]
        name = self._keys.accounts(f"{int(digest[:2], 16) % self._partitions:02x}", digest)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.zadd(name, {user_digest: now_ms})
        pipeline.zremrangebyscore(name, "-inf", now_ms - ACCOUNTS_MS)
        pipeline.zremrangebyrank(name, 0, -_MOST_ACCOUNTS - 1)
        pipeline.pexpire(name, ACCOUNTS_MS)
        pipeline.zcard(name)
        return int((await pipeline.execute())[-1])

    async def learn(self, partition: str, sign_in: SignIn, memory_ms: int) -> None:
        """Know from now on where this sign-in came from."""
        known = await self.read(partition, sign_in.user)
        name = self._keys.history(partition, sign_in.user)
        fields, forgotten = _changes(known.history, known.history.with_sign_in(sign_in))
        pipeline = self._client.pipeline(transaction=True)
        if fields:
            pipeline.hset(name, items=[part for pair in fields.items() for part in pair])
        if forgotten:
            pipeline.hdel(name, *forgotten)
        pipeline.hincrby(name, _REVISION, 1)
        pipeline.pexpire(name, memory_ms)
        await pipeline.execute()


@dataclass(frozen=True, slots=True)
class Watched:
    """A sign-in, what the alert rules say of it, and what they knew."""

    watch: Watch
    sign_in: SignIn
    known: Known
    assessment: Assessment
    at_any_revision: bool = False  # whatever was learnt of the user since

    @property
    def refusing(self) -> tuple[str, ...]:
        """The rules that refuse it."""
        return tuple(each.type for each in self.assessment.alerts if each.action is Action.END)

    @property
    def raised(self) -> tuple[str, ...]:
        """The types of what is no shadow, whether somebody was told of it before or not."""
        found = (each.type for each in self.assessment.alerts if each.action is not Action.SHADOW)
        return tuple(dict.fromkeys(found))

    def links(self, session_id: str, link: Link) -> tuple[str, ...]:
        """Return the link of each alert."""
        where = Where.of(self.sign_in)
        return tuple(
            link(each, f"{session_id}.{number}", session_id, where)
            for number, each in enumerate(self.assessment.alerts)
        )

    def argument(self, session_id: str, links: Sequence[str]) -> bytes:
        """Return what the script `create` is told."""
        fields, forgotten = _changes(self.known.history, self.assessment.after)
        alerts = enumerate(zip(self.assessment.alerts, links, strict=True))
        where = Where.of(self.sign_in)
        return orjson.dumps(
            {
                "revision": "" if self.at_any_revision else self.known.revision,
                "set": [part for pair in fields.items() for part in pair],
                "forget": forgotten,
                "memory": self.watch.memory_ms,
                "refuse": self.assessment.refused,
                "alerts": [
                    written(each, f"{session_id}.{n}", where, link) for n, (each, link) in alerts
                ],
            }
        )


class Where(NamedTuple):
    """Of whom an alert is told, where that was, and when."""

    user: str
    at_ms: int
    ip: str
    country: str
    words: str  # for the user

    @classmethod
    def of(cls, sign_in: SignIn) -> Where:
        client = sign_in.client
        words = ", ".join(filter(None, (sign_in.device.name, client.city, client.country)))
        return cls(sign_in.user, sign_in.at_ms, client.ip, client.country, words)


Link = Callable[[Alert, str, str, Where], str]  # of an alert, its id, the session's first id


def no_link(_: Alert, __: str, ___: str, ____: Where) -> str:
    """Ask nobody."""
    return ""


def link_with(links: Links) -> Link:
    """Return how to make links that ask users about alerts."""

    def link(alert: Alert, alert_id: str, session_id: str, where: Where) -> str:
        expires_ms = where.at_ms + links.lifetime_ms
        return links.to(
            Question(
                alert_id, session_id, where.user, where.at_ms, alert.type, where.words, expires_ms
            )
        )

    return link


def written(alert: Alert, alert_id: str, where: Where, link: str = "") -> dict[str, str]:
    """Return the claim of an alert, and what is said of it where it is not a shadow.

    The link is for the user alone: it stands in no event.
    """
    if alert.action is Action.SHADOW:
        return {"claim": f"{_CLAIM}shadow {alert.fact}", "type": "", "data": "", "queued": ""}
    event = {"action": alert.action, "fact": alert.fact, "ip": where.ip,
             "country": where.country, **alert.details}  # fmt: skip
    queued = {"id": alert_id, "type": alert.type, "userId": where.user, "ip": where.ip,
              "country": where.country, "action": alert.action,
              "sessionId": alert_id.partition(".")[0], "timestamp": instant_of(where.at_ms),
              **{_camel(name): value for name, value in alert.details.items()},
              **({"link": link} if link else {})}  # fmt: skip
    return {
        "claim": _CLAIM + alert.fact,
        "type": f"alert.{alert.type}",
        "data": orjson.dumps(event).decode(),
        "queued": orjson.dumps(queued).decode(),
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _changes(old: History, new: History) -> tuple[dict[str, str], list[str]]:
    """Return the fields to write and those to remove. Claims are written by the script alone."""
    before, after = _encoded(old), _encoded(new)
    fields = {name: value for name, value in after.items() if before.get(name) != value}
    forgotten = [name for name in before if name not in after]
    forgotten += [_CLAIM + fact for fact in old.claims if fact not in new.claims]
    return fields, forgotten


def _encoded(history: History) -> dict[str, str]:
    fields = {
        start + name: _text(seen)
        for kind, start in _KINDS.items()
        for name, seen in getattr(history, kind).items()
    }
    return fields if history.spot is None else fields | {_SPOT: _text(history.spot)}


def _text(values: tuple[object, ...]) -> str:
    return orjson.dumps(tuple(values)).decode()  # not of a NamedTuple as it is


def _pairs(reply: Any) -> dict[bytes, bytes]:
    """Return the reply to HGETALL: a map, or names and values in turn."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _decoded(fields: Mapping[bytes, bytes]) -> History:
    texts = {name.decode("utf-8", "replace"): value for name, value in fields.items()}
    known = {kind: _all_seen(texts, start) for kind, start in _KINDS.items()}
    claims = {
        name.removeprefix(_CLAIM): int(value)
        for name, value in texts.items()
        if name.startswith(_CLAIM) and value.isdigit() and len(value) < _LONGEST_INSTANT
    }
    return History(**known, spot=_spot(texts.get(_SPOT)), claims=claims)


def _all_seen(fields: Mapping[str, bytes], start: str) -> dict[str, Seen]:
    found = {}
    for name, value in fields.items():
        if name.startswith(start):
            match _json(value):
                case [int(first_ms), int(last_ms)]:
                    found[name.removeprefix(start)] = Seen(first_ms, last_ms)
    return found


def _spot(value: bytes | None) -> Spot | None:
    match _json(value or b""):
        case [int(at), int() | float() as north, int() | float() as east,
              int(radius), str(country), str(city)]:  # fmt: skip
            return Spot(at, north, east, radius, country, city)
    return None


def _json(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        return None
