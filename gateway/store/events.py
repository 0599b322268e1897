"""Events as the outbox has them: fields of text in one order, and a rest of which some is JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ..model import Event, EventId

_NAMES = [b"type", b"id", b"user", b"at", b"by", b"reason", b"request"]  # as `emit` writes them
_REST = 2 * len(_NAMES)


def parse(partition: str, stream_id: bytes, flat: Sequence[bytes]) -> tuple[Event, str]:
    """Return the event of an entry, and the one sink that it is for; "": for all.

    Only a dead letter that was put back is for one. ValueError for what is no event.
    """
    only = ""
    if flat[0] == b"dead.sink" and flat[2:3] == [b"dead.event"]:
        only, stream_id, flat = flat[1].decode(), flat[3], flat[4:]
    if flat[:_REST:2] != _NAMES:
        raise ValueError("it has not the fields of an event")
    kind, session, user, at, by, reason, request = [text.decode() for text in flat[1:_REST:2]]
    event_id = parse_id(partition, stream_id)
    details = _details(flat[_REST:])
    return Event(event_id, kind, session, user, int(at), by, reason, request, details), only


def _details(rest: Sequence[bytes]) -> dict[str, Any]:
    details: dict[str, str] = {}
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        details[name.decode()] = value.decode()
    facts = orjson.loads(details.pop("data", "{}"))
    if not isinstance(facts, dict):
        raise ValueError("its data is no JSON object")
    return facts | details if details else facts


def parse_id(partition: str, stream_id: bytes) -> EventId:
    ms, _, number = stream_id.partition(b"-")
    return EventId(int(ms), int(number), partition)
