"""Events as the outbox has them: fields of text, and the parts of the rest that are JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ..model import Event, EventId

_FIELDS = ("type", "id", "user", "at", "by", "reason", "request")


def parse(partition: str, stream_id: bytes, flat: Iterable[bytes]) -> Event:
    """Return the event of an entry; ValueError or KeyError for what is none."""
    texts = [each.decode() for each in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    kind, session, user, at, by, reason, request = map(fields.pop, _FIELDS)
    details: dict[str, Any] = orjson.loads(fields.pop("data", "{}"))
    if not isinstance(details, dict):
        raise ValueError("data is no JSON object")
    event_id = parse_id(partition, stream_id)
    return Event(event_id, kind, session, user, int(at), by, reason, request, details | fields)


def parse_id(partition: str, stream_id: bytes) -> EventId:
    ms, _, number = stream_id.partition(b"-")
    return EventId(int(ms), int(number), partition)
