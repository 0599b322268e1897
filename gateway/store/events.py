"""Events as the outbox has them: fields of text, and the parts of the rest that are JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ..model import Event, EventId

_FIELDS = ("type", "id", "user", "at", "by", "reason", "request")


def parse(partition: str, stream_id: bytes, flat: Iterable[bytes]) -> tuple[Event, str]:
    """Return the event of an entry, and the one sink that it is for; "": for all.

    Only a dead letter that was put back is for one. ValueError or KeyError for what is no event.
    """
    texts = [each.decode() for each in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    only, first_id = fields.pop("dead.sink", ""), fields.pop("dead.event", "")
    kind, session, user, at, by, reason, request = map(fields.pop, _FIELDS)
    details: dict[str, Any] = orjson.loads(fields.pop("data", "{}"))
    if not isinstance(details, dict):
        raise ValueError("data is no JSON object")
    event_id = parse_id(partition, first_id.encode() or stream_id)
    event = Event(event_id, kind, session, user, int(at), by, reason, request, details | fields)
    return event, only


def parse_id(partition: str, stream_id: bytes) -> EventId:
    ms, _, number = stream_id.partition(b"-")
    return EventId(int(ms), int(number), partition)
