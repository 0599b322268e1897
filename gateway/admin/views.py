"""Sessions and receipts as JSON, and the cookie as a header."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ..alerts import Alert
from ..credentials import CookieOptions
from ..model import Ended, Event, Session
from ..sessions import NewSession, Receipt


def time_of(instant_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    when = datetime.fromtimestamp(instant_ms / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def session_view(session: Session) -> dict[str, object]:
    """Return a session as docs/admin-api.md describes it: no token, no digest of one."""
    return {
        "id": session.id,
        "user": session.user,
        "email": session.email,
        "name": session.name,
        "roles": list(session.roles),
        "device": device_view(session),
        "ip": session.client.ip,
        "country": session.client.country,
        "city": session.client.city,
        "user_agent": session.client.user_agent,
        "created_at": time_of(session.created_ms),
        "last_seen_at": time_of(session.last_seen_ms),
        "expires_at": time_of(session.expires_ms),
        "idle_expires_at": time_of(session.idle_expires_ms),
        "aal": session.aal,
        "authenticated_at": time_of(session.authenticated_ms),
        "alerts": list(session.alerts),
        "metadata": dict(session.metadata),
    }


def device_view(session: Session) -> dict[str, str]:
    device = session.device
    return {"id": device.id, "name": device.name, "type": device.type}


def token_view(token: str, session: Session, cookie: CookieOptions) -> dict[str, object]:
    """Return the only answer that ever holds a token."""
    return {
        "id": session.id,
        "token": token,
        "set_cookie": cookie.header(token, session),
        "user": session.user,
        "device": device_view(session),
        "created_at": time_of(session.created_ms),
        "expires_at": time_of(session.expires_ms),
        "idle_expires_at": time_of(session.idle_expires_ms),
    }


def created_view(new: NewSession, cookie: CookieOptions) -> dict[str, object]:
    view = token_view(new.token, new.created.session, cookie)
    return view | {
        "aal": new.created.session.aal,
        "ended": [_ended_view(each) for each in new.created.ended],
        "alerts": [_alert_view(each) for each in new.created.alerts],
    }


def _alert_view(alert: Alert) -> dict[str, object]:
    return {"type": alert.type, "action": str(alert.action), **alert.details}


def _ended_view(ended: Ended) -> dict[str, str]:
    return {"id": ended.id, "why": str(ended.why)}


def receipt_view(receipt: Receipt) -> dict[str, object]:
    """Return the receipt; `complete` only when nobody can allow any more."""
    return {
        "ended": len(receipt.ended),
        "sessions": [each.id for each in receipt.ended],
        "replicas": {
            "live": receipt.replicas.live,
            "confirmed": receipt.replicas.confirmed,
            "lease_expired": receipt.replicas.lease_expired,
        },
        "complete": receipt.replicas.complete,
        "durable": receipt.durable,
        "took_ms": receipt.took_ms,
    }


def introspection_view(session: Session | None) -> dict[str, object]:
    """RFC 7662 section 2.2; nothing but `active` for what is not."""
    if session is None:
        return {"active": False}
    return {
        "active": True,
        "sub": session.user,
        "username": session.user,
        "exp": session.idle_expires_ms // 1000,
        "iat": session.created_ms // 1000,
        "auth_time": session.authenticated_ms // 1000,
        "aal": session.aal,
        "token_type": "session",
        "sid": session.id,
        "roles": list(session.roles),
    }


def events_view(found: Sequence[Event], limit: int) -> dict[str, object]:
    """Return a page of events; one more than `limit` says that there is another page."""
    shown = found[:limit]
    more = len(found) > limit
    return {
        "events": [event_view(event) for event in shown],
        "next": str(shown[-1].id) if more else None,
    }


def event_view(event: Event) -> dict[str, object]:
    """Return an event; `id` is its own, `session` that of the session."""
    return {
        "id": str(event.id),
        "type": event.type,
        "session": event.session,
        "user": event.user,
        "at": time_of(event.at_ms),
        "by": event.by,
        "reason": event.reason,
        "request_id": event.request_id,
        "details": dict(event.details),
    }
