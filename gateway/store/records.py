"""The session record: JSON with a schema version, in the order that the scripts rely on.

A record is `{"c":<created>,"x":<absolute end>,` and then the rest. The scripts write the two
instants, from Redis TIME, in front of the rest that is made here; so no script needs to write
JSON, which Lua's cjson cannot do faithfully (it turns `[]` into `{}`).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

import orjson

from .. import identity
from ..errors import StoreUnavailable
from ..model import (
    HIGHEST_AAL,
    IN_DOUBT_AAL,
    LOWEST_AAL,
    Client,
    Device,
    Login,
    Session,
    SessionKey,
)

VERSION = 2
# Left out of a record: what most sessions have needs no memory. Nothing left out gives a right; a
# level below the lowest, of a session in doubt, always stands there.
_LEFT_OUT: dict[str, object] = {"e": "", "n": "", "r": [], "m": {}, "k": False, "l": LOWEST_AAL}


def rest_of_login(
    key: SessionKey,
    user_digest: str,
    login: Login,
    device: Device,
    idle_ms: int,
    *,
    alerts: tuple[str, ...] = (),
) -> bytes:
    """Return the record of a new session without its two instants."""
    return _rest(
        {
            "v": VERSION,
            "d": short(key),
            "h": user_digest,
            "u": login.user,
            "e": login.email,
            "n": login.name,
            "r": list(login.roles),
            "dv": (device.id, device.name, device.type),
            "cl": _client(login.client),
            "i": idle_ms,
            "m": dict(login.metadata),
            "k": login.remember,
            "l": login.aal,
        }
        | _accepts(login.client)
        | ({"w": alerts} if alerts else {})
    )


def _client(client: Client) -> tuple[str, ...]:
    return client.ip, client.country, client.city, client.user_agent


def _accepts(client: Client) -> dict[str, object]:
    """Return what few applications tell, where one does."""
    accepts = client.accept_language, client.accept_encoding
    return {"ac": accepts} if any(accepts) else {}


def changed(record: bytes, changes: Mapping[str, object]) -> bytes:
    """Return the record with some of email, name, roles, metadata, aal replaced.

    The old key of a renewal, in its grace, keeps its level or loses it: what was proven since then
    was proven for the new one.
    """
    names = {"email": "e", "name": "n", "roles": "r", "metadata": "m", "aal": "l"}
    old = orjson.loads(record)
    new = old | {names[k]: [*v] if isinstance(v, tuple) else v for k, v in changes.items()}
    if "g" in old:
        new["l"] = min(old.get("l", LOWEST_AAL), new.get("l", LOWEST_AAL))
    return _dumps(new)


def rest_for_key(
    record: bytes,
    key: SessionKey,
    *,
    in_grace: bool = False,
    aal: int | None = None,
    client: Client | None = None,
) -> bytes:
    """Return the record without its instants, for a key that a renewed session has.

    All keys of one session share `f`, its first digest: what changes or ends it finds them by that.
    The old one of two has `g`. With `aal` the user has just signed in again, there where `client`
    says: the instant of that (`t`) is left to the script.
    """
    fields = orjson.loads(record)
    fields |= {"d": short(key), "f": family_of(record)}
    left_out = {"c", "x"}
    if in_grace:
        fields["g"] = True
    if aal is not None:
        fields["l"] = aal
        left_out |= {"t", "w"}
    if client is not None:
        fields |= {"cl": _client(client), "ac": ["", ""]} | _accepts(client)
    return _rest({name: value for name, value in fields.items() if name not in left_out})


def family_of(record: bytes) -> str:
    """Return the digest, short, of the first key that the session of this record had."""
    fields = orjson.loads(record)
    family: str = fields.get("f", fields["d"])
    return family


def short(key: SessionKey) -> str:
    """Return the digest as a record has it: base64url, ten characters fewer than in hex."""
    return urlsafe_b64encode(bytes.fromhex(key.digest)).rstrip(b"=").decode()


def full(digest: str) -> str:
    """Return a digest that was `short` as it was."""
    return urlsafe_b64decode(digest + "==").hex()


def _rest(fields: Mapping[str, object]) -> bytes:
    return _dumps(fields)[1:]


def _dumps(fields: Mapping[str, object]) -> bytes:
    told = {name: value for name, value in fields.items() if value != _LEFT_OUT.get(name)}
    return orjson.dumps(told)


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
        session = _parse(key, orjson.loads(record), activity)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise StoreUnavailable("garbage_record", type(error).__name__) from None
    return session


def _parse(key: SessionKey, fields: dict[str, object], activity: float | None) -> Session:
    fields = _LEFT_OUT | fields
    if fields["v"] != VERSION or fields["d"] != short(key):
        raise ValueError
    device, client = _texts(fields["dv"], 3), _texts(fields["cl"], 4)
    created_ms = _instant(fields["c"])
    session = Session(
        key=key,
        user=_text(fields["u"]),
        email=_text(fields["e"]),
        name=_text(fields["n"]),
        roles=_texts(fields["r"]),
        device=Device(*device),
        client=Client(*client, *_texts(fields.get("ac", ["", ""]), 2)),
        created_ms=created_ms,
        expires_ms=_instant(fields["x"]),
        idle_ms=_instant(fields["i"]),
        last_seen_ms=_last_seen(activity, _instant(fields["i"])),
        metadata={**_object(fields["m"])},
        remember=fields["k"] is True,
        aal=_level(fields["l"]),
        authenticated_ms=_instant(fields.get("t", created_ms)),
        alerts=_texts(fields.get("w", [])),
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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object, count: int | None = None) -> tuple[str, ...]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise TypeError
    return tuple(map(_text, value))


def _instant(value: object) -> int:
    if type(value) is not int or value <= 0:
        raise ValueError
    return value


def _last_seen(activity: float | None, idle_ms: int) -> int:
    if activity is None:
        return 0
    if type(activity) is not float or not activity.is_integer():
        raise ValueError
    return _instant(int(activity) - idle_ms)


def _level(value: object) -> int:
    if type(value) is not int or not IN_DOUBT_AAL <= value <= HIGHEST_AAL:
        raise ValueError
    return value


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value
