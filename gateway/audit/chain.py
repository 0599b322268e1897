"""The chain of a partition's events: each row's hash covers the one before it.

Whoever edits, removes, inserts or exchanges a row would have to make every later hash anew, up to
the head, which Redis remembers too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

from ..model import Event, EventId
from ..ports import Mark

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_US = timedelta(microseconds=1)
SIGN_IN = "session.created"
# As JSON has it: behind an even number of backslashes.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class Row(NamedTuple):
    """A row of session_events, with the columns in their order."""

    partition: str
    recorded_at: datetime
    number: int
    seq: int
    type: str
    session_id: str
    user_id: str
    at: datetime
    actor: str
    reason: str
    request_id: str
    details: str
    hash: bytes

    def event(self) -> Event:
        """Return the event that the row holds."""
        return Event(
            EventId(ms_of(self.recorded_at), self.number, self.partition), self.type,
            self.session_id, self.user_id, ms_of(self.at), self.actor, self.reason,
            self.request_id, orjson.loads(self.details),
        )  # fmt: skip


class LoginRow(NamedTuple):
    """A row of login_events."""

    partition: str
    recorded_at: datetime
    number: int
    session_id: str
    user_id: str
    at: datetime
    email: str
    ip: str
    country: str
    city: str
    user_agent: str
    device_id: str
    device_name: str
    device_type: str


def time_of(instant_ms: int) -> datetime:
    """Return the instant, exactly; OverflowError for what is no time."""
    return _EPOCH + instant_ms * _MS


def ms_of(time: datetime) -> int:
    return (time - _EPOCH) // _MS


def us_of(time: datetime) -> int:
    """Return the instant with all that Postgres can hold of it: the hash covers the last digit."""
    return (time - _EPOCH) // _US


def storable(event: Event) -> Event:
    """Return it with U+FFFD for NUL, which Postgres has in no text: no event is lost for that."""
    text = orjson.dumps(event[1:]).decode()
    if "\\u0000" not in text:
        return event
    return Event(event.id, *orjson.loads(_NUL.sub("\\1\ufffd", text)))


def rows_after(mark: Mark, events: Sequence[Event]) -> list[Row]:
    """Return the rows that continue a chain."""
    rows, before = [], bytes.fromhex(mark.hash)
    for seq, event in enumerate(events, mark.length + 1):
        (ms, number, partition), kind, session, user, at_ms, by, reason, request, facts = event
        details = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS).decode()
        before = _hash(before, [partition, ms * 1000, number, seq, kind, session, user,
                                at_ms * 1000, by, reason, request, details])  # fmt: skip
        rows.append(Row(partition, time_of(ms), number, seq, kind, session, user,
                        time_of(at_ms), by, reason, request, details, before))  # fmt: skip
    return rows


def hash_of(before: bytes, row: Row) -> bytes:
    """Return the hash that `row` must have behind one with the hash `before`."""
    return _hash(before, [
        row.partition, us_of(row.recorded_at), row.number, row.seq, row.type, row.session_id,
        row.user_id, us_of(row.at), row.actor, row.reason, row.request_id, row.details,
    ])  # fmt: skip


def _hash(before: bytes, fields: list[str | int]) -> bytes:
    return hashlib.sha256(before + orjson.dumps(fields)).digest()


def mark_of(row: Row) -> Mark:
    return Mark(row.seq, row.hash.hex())


def login_row(row: Row) -> LoginRow | None:
    """Return what login_events must hold of it; None if it is no sign-in."""
    if row.type != SIGN_IN:
        return None
    details = orjson.loads(row.details)
    device = details.get("device", {})
    texts = [details.get(name) for name in ("email", "ip", "country", "city", "user_agent")]
    texts += [device.get(name) for name in ("id", "name", "type")]
    return LoginRow(
        row.partition, row.recorded_at, row.number, row.session_id, row.user_id, row.at,
        *(str(text or "") for text in texts),
    )  # fmt: skip
