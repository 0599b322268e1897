"""What a rule takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from .history import History, SignIn


class Finding(NamedTuple):
    """Something that looks wrong. Of one fact of a user there is one alert, however often found."""

    fact: str
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is unusual."""

    speed_kmh: int = 1000
    window_ms: int = 3_600_000  # what is seen within it counts as at once
    devices: int = 4
    countries: int = 2
    networks: int = 4
    accounts: int = 5  # on one device


Rule = Callable[[SignIn, History, Limits], Iterator[Finding]]


def instant_of(at_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    when = datetime.fromtimestamp(at_ms / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(at_ms: int) -> str:
    """Return the day in UTC: what goes on is told of once a day."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
