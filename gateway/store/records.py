"""The session record: one JSON array. `Fields` says what stands where.

Names would take a session 50 bytes more, so only what few sessions have is written with its name.

The scripts write the instants, from Redis TIME, in front of the rest that is made here; so no
script needs to write JSON, which Lua's cjson cannot do faithfully (it turns `[]` into `{}`).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict, cast, get_origin, get_type_hints, is_typeddict

import orjson

from .. import identity
from ..errors import StoreUnavailable
from ..model import (
    HIGHEST_AAL,
    IN_DOUBT_AAL,
    Client,
    Device,
    Login,
    Session,
    SessionKey,
)

VERSION = 3  # of what follows; prelude.lua knows it, too


class Rare(TypedDict, total=False):
    """What few sessions have, by name. What is empty or false is left out."""

    metadata: dict[str, object]
    remember: bool
    accepts: list[str]  # language, encoding
    alerts: list[str]
    family: str  # of a session that was renewed: the digest of its first key; all its keys share it
    in_grace: bool  # the old one of two keys of a renewed session


class Fields(NamedTuple):
    """A record: its fields in their order, each of exactly the type that it has in JSON."""

    # What the scripts write.
    created_ms: int
    expires_ms: int  # the absolute end
    authenticated_ms: int  # when the user has signed in again; 0: never since it was created
    # What the scripts read, besides: prelude.lua has the same order.
    version: int
    idle_ms: int
    digest: str  # `short`
    user_digest: str
    user: str
    device_id: str
    rare: Rare
    # What only the gateway reads.
    aal: int
    email: str
    name: str
    roles: list[str]
    device_name: str
    device_type: str
    ip: str
    country: str
    city: str
    user_agent: str


_INSTANTS = 3  # so many fields are the scripts' to write


def _json_types(declared: type) -> dict[str, type]:
    hints = get_type_hints(declared)
    return {
        name: dict if is_typeddict(hint) else get_origin(hint) or hint
        for name, hint in hints.items()
    }


_TYPES, _RARE_TYPES = [*_json_types(Fields).values()], _json_types(Rare)
_TEXT = {str}


def rest_of_login(
    key: SessionKey,
    user_digest: str,
    login: Login,
    device: Device,
    idle_ms: int,
    *,
    alerts: tuple[str, ...] = (),
) -> bytes:
    """Return the record of a new session without its instants."""
    client = login.client
    return _rest(
        Fields(
            created_ms=0,
            expires_ms=0,
            authenticated_ms=0,
            version=VERSION,
            idle_ms=idle_ms,
            digest=short(key),
            user_digest=user_digest,
            user=login.user,
            device_id=device.id,
            rare=_rare_of_login(login, alerts),
            aal=login.aal,
            email=login.email,
            name=login.name,
            roles=[*login.roles],
            device_name=device.name,
            device_type=device.type,
            ip=client.ip,
            country=client.country,
            city=client.city,
            user_agent=client.user_agent,
        )
    )


def _rare_of_login(login: Login, alerts: tuple[str, ...]) -> Rare:
    return _told(
        Rare(
            metadata=dict(login.metadata),
            remember=login.remember,
            accepts=_accepts(login.client),
            alerts=[*alerts],
        )
    )


def changed(record: bytes, changes: Mapping[str, object]) -> bytes:
    """Return the record with some of email, name, roles, metadata, aal replaced.

    The old key of a renewal, in its grace, keeps its level or loses it: what was proven since then
    was proven for the new one.
    """
    old = _read(record)
    values: dict[str, Any] = {
        name: [*value] if isinstance(value, tuple) else value for name, value in changes.items()
    }
    if "metadata" in values:
        values["rare"] = _told({**old.rare, "metadata": values.pop("metadata")})
    new = old._replace(**values)
    if "in_grace" in old.rare:
        new = new._replace(aal=min(old.aal, new.aal))
    return orjson.dumps([*new])


def rest_for_key(
    record: bytes,
    key: SessionKey,
    *,
    in_grace: bool = False,
    aal: int | None = None,
    client: Client | None = None,
) -> bytes:
    """Return the record without its instants, for a key that a renewed session has.

    With `aal` the user has just signed in again, there where `client` says.
    """
    fields = _read(record)._replace(digest=short(key))
    rare: Rare = {**fields.rare, "family": family_of(record), "in_grace": in_grace}
    if aal is not None:
        fields = fields._replace(aal=aal)
        rare["alerts"] = []
    if client is not None:
        rare["accepts"] = _accepts(client)
        fields = fields._replace(
            ip=client.ip, country=client.country, city=client.city, user_agent=client.user_agent
        )
    return _rest(fields._replace(rare=_told(rare)))


def family_of(record: bytes) -> str:
    """Return the digest, short, of the first key that the session of this record had."""
    fields = _read(record)
    return fields.rare.get("family", fields.digest)


def _accepts(client: Client) -> list[str]:
    accepts = [client.accept_language, client.accept_encoding]
    return accepts if any(accepts) else []


def _told(rare: Rare) -> Rare:
    """Return what is to be written of it. Nothing that is left out gives a right."""
    return cast("Rare", {name: value for name, value in rare.items() if value})


def _rest(fields: Fields) -> bytes:
    return orjson.dumps(fields[_INSTANTS:])[1:]


def short(key: SessionKey) -> str:
    """Return the digest as a record has it: base64url, ten characters fewer than in hex."""
    return urlsafe_b64encode(bytes.fromhex(key.digest)).rstrip(b"=").decode()


def full(digest: str) -> str:
    """Return a digest that was `short` as it was."""
    return urlsafe_b64decode(digest + "==").hex()


def parse(key: SessionKey, record: bytes | None, activity: float | None) -> Session | None:
    """Return the session of a record and its score in the activities; None if there is no record.

    It may have rested too long, or be past its absolute end: that is for the reader's clock.

    Raises StoreUnavailable("garbage_record") for anything that is not exactly a record of this
    key: a wrong value must never become somebody's identity (a pooled connection has handed one
    caller's reply to another before; hence the digest inside).
    """
    if record is None:
        return None
    try:
        return _session(key, _read(record), activity)
    except (ValueError, TypeError) as error:
        raise StoreUnavailable("garbage_record", type(error).__name__) from None


def _read(record: bytes) -> Fields:
    """Return the fields of a record; raises ValueError for what is none, or of another version."""
    values = orjson.loads(record)
    if type(values) is not list or [*map(type, values)] != _TYPES:
        raise ValueError("not the fields of a record")
    fields = Fields._make(values)
    if fields.version != VERSION:
        raise ValueError("another version")
    for name, value in fields.rare.items():
        if type(value) is not _RARE_TYPES.get(name):
            raise ValueError("not what a session may have")
    return fields


def _session(key: SessionKey, fields: Fields, activity: float | None) -> Session:
    if fields.digest != short(key):
        raise ValueError("of another session")
    rare = fields.rare
    accepts = _texts(rare.get("accepts", ["", ""]), 2)
    session = Session(
        key=key,
        user=fields.user,
        email=fields.email,
        name=fields.name,
        roles=_texts(fields.roles),
        device=Device(fields.device_id, fields.device_name, fields.device_type),
        client=Client(fields.ip, fields.country, fields.city, fields.user_agent, *accepts),
        created_ms=_instant(fields.created_ms),
        expires_ms=_instant(fields.expires_ms),
        idle_ms=_instant(fields.idle_ms),
        last_seen_ms=_last_seen(activity, fields.idle_ms),
        metadata=rare.get("metadata", {}),
        remember=rare.get("remember", False),
        aal=_level(fields.aal),
        authenticated_ms=_instant(fields.authenticated_ms or fields.created_ms),
        alerts=_texts(rare.get("alerts", [])),
    )
    _refuse_unfit(session)
    return session


def _refuse_unfit(session: Session) -> None:
    """Check again what creation checked: these values become headers."""
    named = (session.user, session.email, session.name, session.device.id, *session.roles)
    if not session.user or any(identity.problem_of(text) for text in named):
        raise ValueError
    if any("," in role for role in session.roles):
        raise ValueError


def _texts(values: list[str], count: int | None = None) -> tuple[str, ...]:
    if count is not None and len(values) != count:
        raise ValueError("too few or too many")
    if not {*map(type, values)} <= _TEXT:
        raise ValueError("not all are texts")
    return tuple(values)


def _instant(value: int) -> int:
    if value <= 0:
        raise ValueError
    return value


def _last_seen(activity: float | None, idle_ms: int) -> int:
    if activity is None:
        return 0
    if type(activity) is not float or not activity.is_integer():
        raise ValueError
    return _instant(int(activity) - idle_ms)


def _level(value: int) -> int:
    if not IN_DOUBT_AAL <= value <= HIGHEST_AAL:
        raise ValueError
    return value
