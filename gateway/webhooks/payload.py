"""What a webhook tells of an event: `type`, `timestamp`, `data`, and CAEP's view where it has one.

A session that somebody or something ended is also told as "session revoked" of OpenID CAEP 1.0, in
the members that a security event token (RFC 8417) has for it: `sub_id` (RFC 9493) and `events`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from ..model import EndState, Event

SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
# What ended a session before its time, and whom CAEP names for it. Whether an administrator asked
# or the user did, only the application behind the token knows.
_INITIATORS: dict[str, str] = {
    EndState.REVOKED: "admin",
    EndState.EVICTED: "policy",
    EndState.REPLACED: "policy",
}


def body_of(event: Event) -> bytes:
    """Return the body, which is what is signed."""
    return orjson.dumps(_standard(event) | _caep(event))


def _standard(event: Event) -> dict[str, object]:
    return {
        "type": event.type,
        "timestamp": _rfc3339(event.at_ms),
        "data": {
            "id": str(event.id),
            "session": event.session,
            "user": event.user,
            "by": event.by,
            "reason": event.reason,
            "request_id": event.request_id,
            "details": dict(event.details),
        },
    }


def _caep(event: Event) -> dict[str, object]:
    initiator = _INITIATORS.get(str(event.details.get("why")))
    if event.type != "session.ended" or initiator is None:
        return {}
    claims: dict[str, object] = {
        "event_timestamp": event.at_ms // 1000,
        "initiating_entity": initiator,
    }
    if event.reason:
        claims["reason_admin"] = {"en": event.reason}
    return {
        "sub_id": {
            "format": "complex",
            "session": {"format": "opaque", "id": event.session},
            "user": {"format": "opaque", "id": event.user},
        },
        "events": {SESSION_REVOKED: claims},
    }


def _rfc3339(instant_ms: int) -> str:
    when = datetime.fromtimestamp(instant_ms / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
